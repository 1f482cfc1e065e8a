"""System XML goes out and comes back bit for bit, and nothing in it can run."""

import itertools
import pickle
import re
from pathlib import Path

import openmm
import pytest
from openmm import app

from boltzgen.energies import openmm_xml
from boltzgen.energies.openmm_xml import deserialize, serialize
from boltzgen.errors import InputError, UnsupportedSystemError

PDB = Path(__file__).parents[2] / "systems" / "alanine_dipeptide" / "structure.pdb"


@pytest.fixture
def text():
    """Two particles and a spring."""
    system, bond = openmm.System(), openmm.HarmonicBondForce()
    for _ in range(2):
        system.addParticle(12.0)
    bond.addBond(0, 1, 0.1, 1000.0)
    system.addForce(bond)
    return serialize(system)


@pytest.fixture
def canary(tmp_path):
    """A PythonForce as an attacker writes it; running it leaves a file behind."""
    path = tmp_path / "canary"
    function = pickle.dumps(Touch(path)).hex()
    yield f'<Force forceGroup="0" function="{function}" name="f" type="PythonForce" usesPeriodic="0" version="2">\
<GlobalParameters/><Particles/></Force>'
    assert not path.exists(), "code in a file was run"


@pytest.fixture
def refuse(monkeypatch):
    """Check that a text is refused before OpenMM sees any of it."""

    def check(text, match="; got .*: "):
        given = []
        with monkeypatch.context() as patch:
            patch.setattr(openmm.XmlSerializer, "deserialize", given.append)
            with pytest.raises((InputError, UnsupportedSystemError), match=match):
                deserialize(text)
        assert not given

    return check


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def everything():
    """One of every construction that OpenMM writes in its own way."""
    system = openmm.System()
    for mass in (1.0, 12.011, 0.0):
        system.addParticle(mass)
    system.setVirtualSite(2, openmm.TwoParticleAverageSite(0, 1, 0.3, 0.7))
    system.addConstraint(0, 1, 0.1)
    nonbonded = openmm.NonbondedForce()
    for _ in range(3):
        nonbonded.addParticle(0.1 + 0.2, 1 / 3, 1e-17)
    nonbonded.addException(0, 1, 0.0, 0.1, 0.0)
    nonbonded.addGlobalParameter("λ", 1.0)
    nonbonded.setName("a\nb\t<&>\"'é")
    gb = openmm.CustomGBForce()
    gb.addPerParticleParameter("q")
    gb.addComputedValue("I", "q*f(r) < 2", openmm.CustomGBForce.ParticlePairNoExclusions)
    gb.addTabulatedFunction("f", openmm.Discrete1DFunction([1.0, 2.0]))
    variables = openmm.CustomCVForce("a*g(a)")
    variables.addCollectiveVariable("a", openmm.HarmonicBondForce())
    variables.addTabulatedFunction("g", openmm.Continuous1DFunction([0.0, 1.0, 2.0], 0, 1))
    many = openmm.CustomManyParticleForce(3, "distance(p1,p2)")
    for kind in range(3):
        many.addParticle([], kind)
    many.setTypeFilter(0, [1, 2])
    for force in (nonbonded, gb, variables, many, openmm.CMAPTorsionForce(), openmm.AmoebaVdwForce()):
        system.addForce(force)
    return system


def test_everything_comes_back_bit_for_bit():
    written = serialize(everything())
    assert serialize(deserialize(written)) == written


def test_a_molecule_comes_back_bit_for_bit():
    topology = app.PDBFile(str(PDB)).topology
    for files in (("amber96.xml", "implicit/obc1.xml"), ("amber14-all.xml", "implicit/gbn2.xml")):
        written = serialize(app.ForceField(*files).createSystem(topology))
        assert serialize(deserialize(written)) == written


# -------------------------------------------------------------------------------------------------- code in files


@pytest.mark.skipif(not hasattr(openmm, "PythonForce"), reason="this OpenMM has no PythonForce")
def test_openmm_itself_runs_it(text, canary, tmp_path):
    openmm.XmlSerializer.deserialize(text.replace("<Forces>", "<Forces>" + canary))
    (tmp_path / "canary").unlink()


def test_python_force_is_refused(refuse, text, canary):
    refuse(text.replace("<Forces>", "<Forces>" + canary), "got PythonForce: it runs code")


@pytest.mark.parametrize("spelling", ["Python&#70;orce", "Python&#x46;orce", "&#80;ythonForce", "Python&#0070;orce"])
def test_however_it_is_written(refuse, text, canary, spelling):
    refuse(
        text.replace("<Forces>", "<Forces>" + canary.replace("PythonForce", spelling)), "got PythonForce: it runs code"
    )


@pytest.mark.parametrize(
    "spelling", ["PYTHONFORCE", " PythonForce", "PythonForce\x20", "pythonForce", "Python&amp;#70;orce"]
)
def test_and_what_only_looks_like_it(refuse, text, canary, spelling):
    refuse(
        text.replace("<Forces>", "<Forces>" + canary.replace("PythonForce", spelling)),
        "every force must be an energy that OpenMM defines",
    )


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_at_any_depth(refuse, text, canary, depth):
    for _ in range(depth):
        canary = (
            '<Force type="CustomCVForce" energy="0" version="0"><CollectiveVariables><CollectiveVariable name="v">'
            f"{canary}</CollectiveVariable></CollectiveVariables></Force>"
        )
    refuse(text.replace("<Forces>", "<Forces>" + canary), "got PythonForce: it runs code")


@pytest.mark.parametrize("place", ["Particles", "Constraints", "Bonds", "PeriodicBoxVectors", "A", "Bond", "System"])
def test_in_any_place(refuse, text, canary, place):
    opened = re.search(rf"<{place}[^>]*?/?>", text)[0]
    inside = opened.rstrip("/>") + ">" + canary + (f"</{place}>" if opened.endswith("/>") else "")
    refuse(text.replace(opened, inside, 1))


def test_under_any_other_name(refuse, text, canary):
    """OpenMM takes the children of <Forces> for forces whatever they are called."""
    for tag in ("Farce", "Function", "System", "Bond", "force"):
        hidden = canary.replace("<Force ", f"<{tag} ").replace("</Force>", f"</{tag}>")
        refuse(text.replace("<Forces>", "<Forces>" + hidden))
        refuse(text.replace("<Bonds>", "<Bonds>" + hidden))
        refuse(hidden)


CLASSES = ["System", "State", "VerletIntegrator", "Continuous1DFunction", "HarmonicBondForce", "Nonsense"]


@pytest.mark.parametrize(("tag", "kind"), list(itertools.product(["Function", "Particle", "System", "Force"], CLASSES)))
def test_a_class_in_the_wrong_place_is_refused(refuse, text, tag, kind):
    """OpenMM would cast one to the other."""
    if (tag, kind) != ("Force", "HarmonicBondForce"):
        refuse(text.replace("<Forces>", f'<Forces><{tag} type="{kind}" version="1"/>'))
    if (tag, kind) != ("System", "System"):
        refuse(f'<{tag} type="{kind}" version="1"/>')


def test_a_function_dressed_as_a_force_or_a_force_as_a_function_is_refused(refuse, text):
    function = '<Function name="f" type="Continuous1DFunction" version="1"/>'
    force = '<Force name="f" type="HarmonicBondForce" version="1"/>'
    other = function.replace("Continuous1DFunction", "HarmonicBondForce")
    for wrong in (
        f'<Forces><Force type="CustomCVForce" version="0"><Functions>{force}</Functions></Force>',
        f'<Forces><Force type="CustomCVForce" version="0"><CollectiveVariables><CollectiveVariable>{function}'
        "</CollectiveVariable></CollectiveVariables></Force>",
        f'<Forces><Force type="CustomCVForce" version="0"><Functions>{other}</Functions></Force>',
        f"<Forces><Functions>{function}</Functions>",
        f"<Forces><Force><Functions>{function}</Functions></Force>",
        f'<Forces><Force type="ATMForce"><Forces><Force>{function}</Force></Forces></Force>',
        f'<Forces><Force type="CustomCVForce" version="0"><CollectiveVariables><Functions name="v">{function}'
        "</Functions></CollectiveVariables></Force>",
        f'<Forces><Force type="CustomCVForce" version="0"><CollectiveVariables type="x"><Functions name="v">{function}'
        "</Functions></CollectiveVariables></Force>",
    ):
        refuse(text.replace("<Forces>", wrong))


def test_openmm_is_given_what_was_understood(text, monkeypatch):
    given = []
    monkeypatch.setattr(openmm.XmlSerializer, "deserialize", given.append)
    deserialize(text.replace("<Forces>", "<!-- type='PythonForce' --><?php x?><Forces>free text"))
    assert "PythonForce" not in given[0]
    assert "php" not in given[0]
    assert "free text" not in given[0]
    assert 'type="HarmonicBondForce"' in given[0]


# ---------------------------------------------------------------------------------------------- malformed, too big


@pytest.mark.parametrize(
    "doctype",
    [
        "<!DOCTYPE System>",
        '<!DOCTYPE System [<!ENTITY a "PythonForce">]>',
        '<!DOCTYPE System SYSTEM "file:///etc/passwd">',
        '<!DOCTYPE l [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;">]>',
    ],
)
def test_doctypes_are_refused(text, doctype):
    with pytest.raises(InputError, match="must have no DOCTYPE"):
        deserialize(text.replace("<System", doctype + "<System", 1))


@pytest.mark.parametrize("cut", [0.0, 0.1, 0.5, 0.99])
def test_truncated_text(text, cut):
    with pytest.raises(InputError, match="text must be well-formed XML"):
        deserialize(text[: int(cut * len(text))])


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "garbage",
        "<System",
        "<a/>",
        "<System/>",
        "\x00",
        "\ud800",
        '<System type="System">&undefined;</System>',
        "{}",
    ],
)
def test_what_is_no_system(broken):
    with pytest.raises(InputError, match=r"must be .*; got .*: "):
        deserialize(broken)


@pytest.mark.parametrize(
    ("old", "new"), [("Particles", "Partikel"), ("mass=", "mess="), ('k="1000"', ""), ('version="1"', 'version="99"')]
)
def test_what_openmm_cannot_read(text, old, new):
    with pytest.raises(InputError, match="XML must be a System as OpenMM writes it; got "):
        deserialize(text.replace(old, new))


def test_names_must_be_plain(text):
    for name in ("a:b", "é", "a-b"):
        with pytest.raises(InputError, match="names in System XML must be plain"):
            deserialize(text.replace("<Forces>", f"<Forces {name}='1'>"))


def test_depth_and_size_have_limits(text, monkeypatch):
    with pytest.raises(InputError, match="nested at most 32 deep"):
        deserialize("<System type='System'>" + "<a>" * 100_000)
    monkeypatch.setattr(openmm_xml, "_MAX_CHARACTERS", 100)
    with pytest.raises(InputError, match="at most 100 characters"):
        deserialize(text)


def test_text_must_be_text():
    with pytest.raises(InputError, match="text must be a str of XML; got bytes"):
        deserialize(b"<System/>")


@pytest.mark.skipif(not hasattr(openmm, "PythonForce"), reason="this OpenMM has no PythonForce")
def test_what_openmm_cannot_write():
    system = openmm.System()
    system.addParticle(1.0)
    system.addForce(openmm.PythonForce(lambda state: (0.0, [[0, 0, 0]]), {}))
    with pytest.raises(InputError, match="system must be one that OpenMM can write"):
        serialize(system)
