"""README and docs tell the truth: their Python blocks run, and the commands they name exist."""

import glob
import importlib.util
import json
import logging
import re
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import boltzgen as bg
from boltzgen.cli.main import main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


CODE = [pytest.param(code, id=f"{page.name}-{k}") for page in PAGES for k, code in enumerate(blocks(page, "python"))]


@pytest.mark.parametrize("code", CODE)
@pytest.mark.filterwarnings("ignore::boltzgen.errors.UnreliableEstimateWarning")
@pytest.mark.filterwarnings("ignore:Unknown solver options")  # pymbar's, of scipy
def test_python_blocks_run(code, tmp_path, monkeypatch, capsys):
    """With a training of seconds: what is tested is that the code runs, not the quality of its numbers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.root.manager, "disable", logging.WARNING)  # pymbar's advertisement
    code = re.sub(r"minutes=\d+", "steps=30", code)
    code = re.sub(r"steps=\d[\d_]*", "steps=30", code).replace("thin=500", "thin=1")
    code = code.replace("100_000", "2_000").replace("10_000", "1_000")
    exec(compile(code, "page", "exec"), {"bg": bg, "__name__": "page"})


def test_commands_named_in_the_pages_exist():
    listing = subprocess.run([sys.executable, "-m", "boltzgen", "--help"], capture_output=True, text=True, check=True)
    for page in PAGES:
        for name in re.findall(r"^boltzgen (\w+)", "\n".join(blocks(page, "sh")), flags=re.MULTILINE):
            assert re.search(rf"^\s+{name}\b", listing.stdout, flags=re.MULTILINE), f"{page.name} names {name}"


def command_lines(page):
    """Every line that calls boltzgen, without comments; those of an array once for each of its jobs."""
    found = []
    for block in blocks(page, "sh"):
        last = re.search(r"^#SBATCH --array=0-(\d+)$", block, flags=re.MULTILINE)
        for job in range(int(last[1]) + 1 if last else 1):
            lines = re.findall(r"^boltzgen .*$", block.replace("$SLURM_ARRAY_TASK_ID", str(job)), flags=re.MULTILINE)
            found += [shlex.split(line, comments=True)[1:] for line in lines]
    return found


LINES = [pytest.param(shlex.split(line), id=line) for line in dict.fromkeys(
    shlex.join(line) for page in PAGES for line in command_lines(page))]  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_commands_in_the_pages_are_understood(line, monkeypatch):
    """Each is parsed with the options it has, and then not run."""
    for room in ("commands", "ensembles", "runs", "simulation"):
        module = importlib.import_module(f"boltzgen.cli.{room}")
        for name in module.__all__:
            monkeypatch.setattr(module, name, lambda options: None)
    monkeypatch.setattr("boltzgen.cli.main.doctor", lambda options: None)
    monkeypatch.setattr("boltzgen.cli.main.fastest", lambda settings: 1)
    monkeypatch.setattr("boltzgen.cli.main.launch", lambda arguments, processes: main(arguments))
    monkeypatch.setattr("boltzgen.cli.main.limit_threads", lambda threads: None)
    assert main(line) == 0


QUICK = [ROOT / "docs" / "demo.md", ROOT / "docs" / "cookbook.md"]
LONG = ("demo", "train", "simulate", "run")
"""What takes minutes, or needs what it left behind."""


@pytest.mark.parametrize(
    "block", [pytest.param(b, id=f"{p.name}-{k}") for p in QUICK for k, b in enumerate(blocks(p, "sh"))]
)
def test_shell_blocks_of_the_first_pages_run(block, tmp_path, monkeypatch, capsys):
    """With a twentieth of the draws. Those that train or simulate run below, and take longer."""
    monkeypatch.chdir(tmp_path)
    lines = [shlex.split(line)[1:] for line in block.splitlines() if line.startswith("boltzgen")]
    if any(line[0] in LONG or "run0" in line for line in lines):
        pytest.skip("takes minutes")
    for line in lines:
        if "-n" in line:
            line[line.index("-n") + 1] = str(int(line[line.index("-n") + 1]) // 20)
        assert main(line) == 0, line


BASH = [pytest.param(b, id=f"{p.name}-{k}") for p in PAGES for k, b in enumerate(blocks(p, "sh"))]
ROAD = [pytest.param(page, id=page.name) for page in PAGES if command_lines(page)]


@pytest.mark.parametrize("block", BASH)
def test_shell_blocks_are_shell(block):
    subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def tiny(line):
    """A command with a second of training and few draws; a part of a draw keeps a block of it."""
    line = ["0.02" if before == "--minutes" else word for before, word in pairwise(["", *line])]
    line = ["2" if before == "--processes" and word != "auto" else word for before, word in pairwise(["", *line])]
    few = "16384" if "--shard" in line else "300"
    line = [few if before == "-n" else word for before, word in pairwise(["", *line])]
    if line[0] in ("demo", "train") and "--minutes" not in line:
        line += ["--minutes", "0.02"]
    if line[0] == "train":
        line += ["--no-compile"]
    if line[0] in ("demo", "sample") and "-n" not in line:
        line += ["-n", few]
    return ["phi" if word == "phi_2" else word for word in line]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """What the pages take for granted: a PDB file, frames of a simulation, two trainings with draws."""
    folder = tmp_path_factory.mktemp("workshop")
    shutil.copy(bg.molecule.find("alanine_dipeptide").structure, folder / "mine.pdb")
    frames = bg.BoltzmannGenerator.load("alanine_dipeptide").sample(2000, seed=1).resample(600, seed=0)
    (folder / "md").mkdir()
    frames.save(folder / "md" / "samples.npz")
    for name in ("md_1.xtc", "md_2.dcd", "metadynamics.dcd"):
        frames.to_mdtraj().save(str(folder / name))
    shutil.copytree(bg.molecule.find("paracetamol").folder, folder / "ligand")
    (folder / "weights.txt").write_text("1.0\n" * 600)
    for seed, name in enumerate(("run", "other")):
        train = tiny(["train", str(folder / "mine.pdb"), "--out", str(folder / name), "--seed", str(seed)])
        assert main(train) == 0
        assert main(["sample", str(folder / name), "-n", "300"]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", ROAD)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_commands_of_a_page_run_one_after_another(page, workshop, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "work"
    shutil.copytree(workshop, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("boltzgen.cli.main.fastest", lambda settings: 1)
    monkeypatch.setattr("boltzgen.reporting.checkup._STEPS", 20)  # of the dynamics
    for name, value in (("_EQUILIBRATION", 2), ("_STEPS", 4)):
        monkeypatch.setattr(f"boltzgen.cli.simulation.{name}", value)
    for line in command_lines(page):
        if line[0] == "simulate":  # for which the workshop's stands
            shutil.rmtree("md")
        if line[0] == "train":
            out = line.index("--out") + 1
            if "--data" in line:  # another training of the same folder
                line[out] += "_on_data"
            shutil.rmtree(line[out], ignore_errors=True)
        words = [name for word in tiny(line) for name in (sorted(glob.glob(word)) or [word])]
        assert main(words) in (0, 5), (words, capsys.readouterr().err)


def test_the_index_names_every_page():
    text = (ROOT / "docs" / "index.md").read_text()
    named = set(re.findall(r"\]\((\w+\.md)\)", text))
    assert named == {page.name for page in PAGES if page.parent.name == "docs"} - {"index.md"}


def test_a_site_is_built_with_every_page_and_every_public_name(tmp_path):
    pytest.importorskip("pdoc", reason="pip install 'boltzgen-flows[docs]'")
    command = [sys.executable, str(ROOT / "docs" / "build.py"), "--out", str(tmp_path / "site")]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    for page in (ROOT / "docs").glob("*.md"):
        html = (tmp_path / "site" / f"{page.stem}.html").read_text()
        for link in re.findall(r'(?:href|src)="([^"#:]+)"', html):
            assert (tmp_path / "site" / link).exists(), f"{page.stem} links to {link}"
    reference = (tmp_path / "site" / "api" / "boltzgen.html").read_text()
    assert {name for name in bg.__all__ if f'id="{name}"' not in reference} == {"toys"}  # a module, with a page
    assert (tmp_path / "site" / "api" / "boltzgen" / "energies" / "toys.html").exists()
    refused = subprocess.run([*command[:-1], str(tmp_path)], capture_output=True, text=True, check=False, cwd=ROOT)
    assert refused.returncode == 2
    assert "must be a folder of its own" in refused.stderr


def test_pages_link_to_files_that_exist():
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "RESULTS.md"]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_the_readme_gives_the_recorded_effective_sample_sizes():
    def recorded(name):
        rows = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())["seeds"]
        return [f"{100 * row['ess_fraction']:.1f}" for row in rows]

    text = (ROOT / "README.md").read_text()
    for minutes in ("alanine_dipeptide", "alanine_dipeptide_45min"):
        *most, last = recorded(minutes)
        assert f"{', '.join(most)} and {last} %" in " ".join(text.split())
    (shipped,) = recorded("alanine_dipeptide_45min_one_round")
    assert f"{shipped} % of two hundred thousand draws" in " ".join(text.split())


def test_the_table_of_densities_is_that_of_the_recorded_run_and_within_its_bounds(monkeypatch):
    path = ROOT / "benchmarks" / "densities.py"
    monkeypatch.syspath_prepend(str(path.parent))  # for what it shares with other scripts
    recorded = path.parent / "results" / "densities.json"
    spec = importlib.util.spec_from_file_location("densities", path)
    densities = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(densities)
    result = json.loads(recorded.read_text())
    assert densities.table(result) == recorded.with_suffix(".md").read_text()
    assert densities.exceeded(result) == []
    result["rows"]["spline couplings"]["rings"]["kl"] = 0.31
    assert densities.exceeded(result) == ["spline couplings, rings: 0.310 > 0.3"]


def test_the_makefile_has_the_two_commands():
    text = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}:" in text for target in ("demo", "test"))
    assert "make demo" in (ROOT / "README.md").read_text()


def test_contributing_is_short():
    lines = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 120


def test_every_promise_about_faults_names_a_test_that_exists():
    page = (ROOT / "docs" / "faults.md").read_text()
    rows = re.findall(r"^\|.*\|$", page, flags=re.MULTILINE)
    promises = [row for row in rows if not re.match(r"\|(-|\s*#)", row)]
    numbers = [int(number) for row in promises for number in row.split("|")[1].split(",") if number.strip()]
    assert set(numbers) == set(range(1, 62))
    exchanged = page.partition("## Files that users exchange")[2].partition("\n## ")[0]
    for file in ("checkpoint", "System XML", "force-field", "ensemble", "configuration", "report", "output path"):
        assert re.search(rf"^\| \| an? {file}|^\| \| {file}", exchanged, flags=re.MULTILINE), file
    for row in promises:
        (module, name) = re.search(r"\| `([\w/]+\.py)::(test_\w+)` \|$", row).groups()
        assert f"\ndef {name}(" in (ROOT / "tests" / module).read_text(), row
