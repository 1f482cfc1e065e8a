"""A configuration is refused with the key, the reason and a suggestion; what is told first goes first."""

import argparse
import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltzgen.cli.settings import Settings
from boltzgen.errors import ConfigurationError


def options(**told):
    names = (
        "system",
        "temperature",
        "forcefield",
        "data",
        "weights",
        "minutes",
        "seed",
        "compile",
        "threads",
        "device",
        "config",
    )
    return argparse.Namespace(**dict.fromkeys(names) | told)


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('sytem = "a"', r"got 'sytem': did you mean 'system'\?"),
        ("zzz = 1", "got 'zzz': leave it out"),
        ("minutes = 0", "minutes must be a positive number; got 0: correct it"),
        ("minutes = true", "minutes must be a positive number; got true"),
        ("minutes = nan", "minutes must be a positive number; got NaN"),
        ('temperature = "hot"', 'temperature must be a positive number of kelvin; got "hot"'),
        ("seed = 1.5", "seed must be an integer from 0 to .*; got 1.5"),
        ("threads = 0", "threads must be an integer from 1 to 1024"),
        ("minutes = 2026-11-23", 'minutes must be a positive number; got "2026-11-23"'),
        (f"minutes = 1{'0' * 400}", "minutes must be a positive number; got 10"),
        (f"minutes = 1{'0' * 5000}", "must be TOML; got Exceeds the limit"),
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
VALUES = ["1", "-1", "1e999", "nan", "0x1f", "true", '"a"', '""', "[]", '["a"]', "[[1]]", "{a = 1}", "07:32:00"]
LINE = st.tuples(st.sampled_from(KEYS), st.sampled_from(["=", ".", ""]), st.one_of(st.sampled_from(VALUES), st.text()))
LINES = st.lists(LINE.map(" ".join)).map(lambda lines: "\n".join(lines).encode("utf-8", "replace"))


@given(st.one_of(st.binary(), LINES))
def test_whatever_a_file_says_is_taken_or_refused_in_a_sentence(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    path.write_bytes(content)
    try:
        told = Settings.of(options(config=str(path), system="a"))
    except ConfigurationError:
        return
    assert Settings.recalled(json.loads(json.dumps(told.plain())), "run.json").plain() == told.plain()


PLAIN = st.one_of(st.booleans(), st.integers(), st.floats(), st.text(), st.none(), st.lists(st.text()))


@given(st.dictionaries(st.one_of(st.text(), st.sampled_from(["system", "seed", "minutes", "forcefield"])), PLAIN))
def test_whatever_is_told_is_taken_or_refused_in_a_sentence(told):
    try:
        found = Settings.recalled(told, "a")
    except ConfigurationError:
        return
    assert tomllib.loads(Settings.template(found.system, found.temperature))["system"] == found.system
