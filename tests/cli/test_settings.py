"""A configuration is refused with the key, the reason and a suggestion; what is told first goes first."""

import argparse
import contextlib
import inspect
import io
import json
import tomllib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from boltzgen import BoltzmannGenerator
from boltzgen.cli.main import main
from boltzgen.cli.settings import Settings
from boltzgen.errors import ConfigurationError
from boltzgen.training import History


def options(**told):
    return argparse.Namespace(**dict.fromkeys([*Settings.model_fields, "config"]) | told)


def test_the_template_says_what_holds_if_nothing_is_said(tmp_path):
    for system, forcefield in (
        ("alanine_dipeptide", None),
        ('odd "name".pdb', ["amber14-all.xml", "implicit/obc2.xml"]),
    ):
        path = tmp_path / "a.toml"
        path.write_text(Settings.template(system, None), encoding="utf-8")
        told = Settings.of(options(config=str(path)))
        assert told == Settings(system=system, forcefield=forcefield)


def test_the_command_line_goes_before_the_file_and_the_file_before_the_defaults(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('system = "a"\nminutes = 3\nseed = 7\n')
    told = Settings.of(options(config=str(path), seed=8))
    assert told == Settings(system="a", minutes=3, seed=8)
    with pytest.raises(ConfigurationError, match=r"the system must be that of .*a\.toml, a, .*; got b: leave it out"):
        Settings.of(options(config=str(path), system="b"))
    with pytest.raises(ConfigurationError, match="must have a system; got none"):
        Settings.of(options())
    with pytest.raises(ConfigurationError, match='the command line: system must be a name or a path; got ""'):
        Settings.of(options(system=""))


def test_minutes_are_told_or_steps_and_the_command_line_has_its_way(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('system = "a"\nminutes = 3\n')
    told = Settings.of(options(config=str(path), steps=8))
    assert (told.minutes, told.steps) == (None, 8)
    assert Settings.recalled(told.plain(), "run.json") == told
    path.write_text('system = "a"\nsteps = 8\n')
    assert Settings.of(options(config=str(path))) == told
    assert Settings.of(options(config=str(path), minutes=3.0)) == Settings(system="a", minutes=3)
    assert (Settings(system="a").minutes, Settings(system="a").steps) == (10.0, None)
    with pytest.raises(ConfigurationError, match="the command line: a training must have minutes or steps; got both"):
        Settings.of(options(system="a", minutes=3.0, steps=8))


def test_weights_without_data_are_refused_wherever_they_are_told(tmp_path):
    (tmp_path / "a.toml").write_text('system = "a"\nweights = "w.txt"\n')
    file = str(tmp_path / "a.toml")
    with pytest.raises(ConfigurationError, match="weights must come with the data they weight; got none"):
        Settings.of(options(config=file))
    assert Settings.of(options(config=file, data=["a.dcd"])).weights == "w.txt"
    with pytest.raises(ConfigurationError, match=r"^run\.json: weights must come with the data"):
        Settings.recalled({"system": "a", "weights": "w.txt"}, "run.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('sytem = "a"', r"got 'sytem': did you mean 'system'\?"),
        ("zzz = 1", "got 'zzz': leave it out"),
        ("minutes = 0", "minutes must be a positive number below .*; got 0: correct it"),
        ("minutes = true", "minutes must be a positive number below .*; got true"),
        ("minutes = nan", "minutes must be a positive number below .*; got NaN"),
        ('temperature = "hot"', 'temperature must be a positive number below .*, in kelvin; got "hot"'),
        ("steps = 0", "steps must be a positive integer below .*; got 0"),
        ("steps = 1.5", "steps must be a positive integer below .*; got 1.5"),
        ("minutes = 1\nsteps = 3", "a training must have minutes or steps; got both: leave one of them out"),
        ("seed = 1.5", "seed must be an integer from 0 to .*; got 1.5"),
        ("threads = 0", "threads must be an integer from 1 to 1024"),
        ("minutes = 2026-11-23", 'minutes must be a positive number below .*; got "2026-11-23"'),
        (f"minutes = 1{'0' * 400}", "minutes must be a positive number below .*; got 10"),
        (f"minutes = 1{'0' * 5000}", "must be TOML; got Exceeds the limit"),
        (f"minutes = 0x{'f' * 4000}", "minutes must be a positive number .*; got a number too long to be shown"),
        (f"data = [0x{'f' * 4000}]", "data must be a list of file names; got a number too long to be shown"),
        ("minutes = 1e300", r"minutes must be a positive number below 2\^63; got 1e\+300"),
        (f"seed = {2**70}", "seed must be an integer from 0 to"),
        ("threads = 1025", "threads must be an integer from 1 to 1024"),
        ('system = "a\\u0000b"', "system must be a name or a path"),
        (f"seed = {'[' * 9000}", "must be TOML"),
        ('data = "a.dcd"', "data must be a list of file names"),
        ("weights = 1", "weights must be a file name"),
        ("compile = 1", "compile must be true or false; got 1"),
        ('forcefield = "a.xml"', "forcefield must be a list of file names"),
        ("system = 3", "system must be a name or a path"),
        ("minutes = ", "must be TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        Settings.read(str(tmp_path / "a.toml"))
    with pytest.raises(ConfigurationError, match="must name a file that can be read"):
        Settings.read(str(tmp_path / "none.toml"))


def test_what_a_run_folder_remembers_is_what_was_told():
    told = Settings(system="a", temperature=310.0, seed=3, compile=False)
    assert Settings.recalled(json.loads(json.dumps(told.plain())), "run.json") == told
    told = Settings(system="a\udcff", data=["/\udcfe.npz"])  # paths that are no UTF-8, which Linux allows
    assert Settings.recalled(json.loads(json.dumps(told.plain())), "run.json") == told
    for nothing in (None, {}, []):
        with pytest.raises(ConfigurationError, match="got the folder of another program's training"):
            Settings.recalled(nothing, "run.json")


KEYS = [*Settings.model_fields, "sytem", "[a]", '""']


def test_a_configuration_knows_what_the_call_in_python_knows():
    """Each key is an argument of the same name, or stands for what the call is given otherwise."""
    made, trained = (
        set(inspect.signature(call).parameters) - {"self"} for call in (BoltzmannGenerator, BoltzmannGenerator.train)
    )
    keys, otherwise = set(Settings.model_fields), {"system": "target", "forcefield": "target", "weights": "data"}
    assert {otherwise.get(key, key) for key in keys} - made - trained == {"threads", "device"}  # torch's, and `to`
    assert made - keys == {"target", "flow", "up_to"}
    assert trained - keys == {"run_dir", "about", "begun", "progress", "method"}
    default = inspect.signature(BoltzmannGenerator).parameters["seed"].default
    assert Settings(system="a").seed == default


VALUES = [
    "1",
    "-1",
    "1e999",
    "nan",
    f"0x{'1f' * 2000}",
    "true",
    '"a"',
    '""',
    "[]",
    '["a"]',
    "[[1]]",
    "{a = 1}",
    "07:32:00",
]
LINE = st.tuples(st.sampled_from(KEYS), st.sampled_from(["=", ".", ""]), st.one_of(st.sampled_from(VALUES), st.text()))
LINES = st.lists(LINE.map(" ".join)).map(lambda lines: "\n".join(lines).encode("utf-8", "replace"))


@given(st.one_of(st.binary(), LINES))
@example(b"minutes = 0x" + 4000 * b"f")
def test_whatever_a_file_says_is_taken_or_refused_in_a_sentence(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    path.write_bytes(content)
    try:
        told = Settings.of(options(config=str(path), system="a"))
    except ConfigurationError:
        return
    assert Settings.recalled(json.loads(json.dumps(told.plain())), "run.json").plain() == told.plain()


@settings(max_examples=40, deadline=None)
@given(st.one_of(st.binary(), LINES))
@example(b"minutes = 0x" + 4000 * b"f")
def test_whatever_a_file_says_the_command_ends_with_a_sentence_or_trains(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp()
    (folder / "fuzzed.toml").write_bytes(content)
    words, history = io.StringIO(), History(losses=[1.0])
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stderr(words),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        patch.setattr(BoltzmannGenerator, "train", lambda self, **_: history)
        patch.setattr("boltzgen.cli.runs.limit_threads", lambda n: None)
        config = ["--config", str(folder / "fuzzed.toml")]
        code = main(["train", "double_well", *config, "--out", str(folder / "fuzzed")])
    complaints = [line for line in words.getvalue().splitlines() if line.startswith("boltzgen: ")]
    assert (code, len(complaints)) in ((0, 0), (2, 1), (3, 1))


PLAIN = st.one_of(st.booleans(), st.integers(), st.floats(), st.text(), st.none(), st.lists(st.text()))


@given(st.dictionaries(st.one_of(st.text(), st.sampled_from(["system", "seed", "minutes", "forcefield"])), PLAIN))
@example({"system": "\x7f"})
def test_whatever_is_told_is_taken_or_refused_in_a_sentence(told):
    try:
        found = Settings.recalled(told, "a")
    except ConfigurationError:
        return
    assert tomllib.loads(Settings.template(found.system, found.temperature))["system"] == found.system
