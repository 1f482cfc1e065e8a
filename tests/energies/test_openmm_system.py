"""What cannot be sampled is refused in one sentence that names the remedy."""

import copy
from pathlib import Path

import openmm
import pytest
from openmm import app, unit

from boltzgen.energies.openmm_system import check_force_type, check_supported, translation_invariant
from boltzgen.errors import InputError, UnsupportedSystemError

PDB = Path(__file__).parents[2] / "systems" / "alanine_dipeptide" / "structure.pdb"


@pytest.fixture(scope="module")
def pdb():
    return app.PDBFile(str(PDB))


@pytest.fixture(scope="module")
def forcefield():
    return app.ForceField("amber96.xml")


def particles(n=3, force=None):
    system = openmm.System()
    for _ in range(n):
        system.addParticle(12.0)
    if force is not None:
        system.addForce(force)
    return system


def refusal(system):
    with pytest.raises(UnsupportedSystemError) as caught:
        check_supported(system)
    message = str(caught.value)
    assert " must " in message
    assert "; got " in message
    assert "\n" not in message
    return message


def test_an_unconstrained_molecule_is_supported(pdb, forcefield):
    system = forcefield.createSystem(pdb.topology)
    assert any(isinstance(force, openmm.CMMotionRemover) for force in system.getForces())
    check_supported(system)


@pytest.mark.parametrize("n_constraints", [12, 21])
@pytest.mark.parametrize("flexible", [False, True])
def test_constraints(pdb, forcefield, n_constraints, flexible):  # rows 18, 19
    constraints = {12: app.HBonds, 21: app.AllBonds}[n_constraints]
    system = forcefield.createSystem(pdb.topology, constraints=constraints, flexibleConstraints=flexible)
    message = refusal(system)
    assert f"got {n_constraints}, whose bonds then carry no energy" in message
    assert "rebuild it with constraints=None, rigidWater=False" in message


def test_the_reason_for_refusing_constraints(pdb, forcefield):  # trap 3
    """Stretching a C-H bond by half costs hundreds of kJ/mol, and next to nothing where its term was dropped."""

    def cost(constraints):
        system = forcefield.createSystem(pdb.topology, constraints=constraints, nonbondedMethod=app.NoCutoff)
        context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
        atoms = list(pdb.topology.atoms())
        carbon, hydrogen = next(
            (a.index, b.index)
            for a, b in pdb.topology.bonds()
            if (atoms[a.index].element.symbol, atoms[b.index].element.symbol) == ("C", "H")
        )
        x = pdb.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        energies = []
        for stretch in (1.0, 1.5):
            y = x.copy()
            y[hydrogen] = x[carbon] + stretch * (x[hydrogen] - x[carbon])
            context.setPositions(y)
            energies.append(context.getState(getEnergy=True).getPotentialEnergy()._value)
        return energies[1] - energies[0]

    assert cost(None) > 300
    assert cost(app.HBonds) < 30


def test_virtual_sites():  # row 20
    modeller = app.Modeller(app.Topology(), [])
    forcefield = app.ForceField("tip4pew.xml")
    modeller.addSolvent(forcefield, model="tip4pew", numAdded=2, neutralize=False)
    message = refusal(forcefield.createSystem(modeller.topology, constraints=None, rigidWater=False))
    assert "virtual sites (2: particles 3, 7)" in message
    assert "TIP3P" in message


def test_massless_particles():  # row 21
    system = particles(8)
    for i in range(7):
        system.setParticleMass(i, 0.0)
    assert "got none for 7: particles 0, 1, 2, 3, 4, ..." in refusal(system)


def test_drude_particles():  # row 21
    assert "got DrudeForce: Drude particles" in refusal(particles(force=openmm.DrudeForce()))


@pytest.mark.parametrize("method", [openmm.NonbondedForce.PME, openmm.NonbondedForce.CutoffPeriodic])
def test_periodic_boxes(method):  # rows 22, 60
    force = openmm.NonbondedForce()
    force.setNonbondedMethod(method)
    for _ in range(3):
        force.addParticle(0, 0.1, 0.1)
    message = refusal(particles(force=force))
    assert "periodic boundary conditions in NonbondedForce" in message
    assert "nonbondedMethod=NoCutoff" in message


def test_a_box_that_nothing_uses_is_fine():
    system = particles()
    system.setDefaultPeriodicBoxVectors(*(openmm.Vec3(*row) for row in ((9, 0, 0), (0, 9, 0), (0, 0, 9))))
    check_supported(system)


@pytest.mark.parametrize(
    "force",
    [
        openmm.MonteCarloBarostat(1.0, 300.0),
        openmm.MonteCarloAnisotropicBarostat(openmm.Vec3(1, 1, 1), 300.0),
        openmm.MonteCarloMembraneBarostat(
            1.0, 0.0, 300.0, openmm.MonteCarloMembraneBarostat.XYIsotropic, openmm.MonteCarloMembraneBarostat.ZFree
        ),
        openmm.AndersenThermostat(300.0, 1.0),
    ],
    ids=lambda force: type(force).__name__,
)
def test_barostats_and_thermostats(force):  # row 23
    name = type(force).__name__
    assert f"got {name}: it changes the ensemble and is no energy: remove it" in refusal(particles(force=force))


@pytest.mark.parametrize("name", ["PythonForce", "TorchForce", "PlumedForce", "Force", ""])
def test_forces_that_openmm_does_not_define(name):  # row 24
    with pytest.raises(UnsupportedSystemError, match=f"got {name}: it runs code"):
        check_force_type(name)


@pytest.mark.skipif(not hasattr(openmm, "PythonForce"), reason="this OpenMM has no PythonForce")
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_python_force_at_any_depth(depth):  # row 24
    force = openmm.PythonForce(lambda state: (0.0, [[0, 0, 0]]), {})
    for _ in range(depth):
        outer = openmm.CustomCVForce("v")
        outer.addCollectiveVariable("v", force)
        force = outer
    assert "got PythonForce" in refusal(particles(force=force))


def test_what_holds_forces_out_of_sight():
    outer = openmm.ATMForce(0, 0, 0, 0, 0, 0, 0, 0, 1)
    outer.addForce(openmm.CustomExternalForce("x"))
    assert "got ATMForce: OpenMM does not show what forces it holds" in refusal(particles(force=outer))


def test_every_force_of_this_openmm_has_a_verdict():
    """A force that a new OpenMM brings is refused until somebody has thought about it."""
    undecided = []
    for name, value in vars(openmm).items():
        if isinstance(value, type) and issubclass(value, openmm.Force) and value is not openmm.Force:
            try:
                check_force_type(name)
            except UnsupportedSystemError as error:
                if "it runs code" in str(error):
                    undecided.append(name)
    assert set(undecided) <= {"PythonForce"}


def test_what_is_no_system():
    with pytest.raises(InputError, match=r"system must be an openmm\.System; got str"):
        check_supported("system.xml")
    with pytest.raises(InputError, match="system must have particles; got none"):
        check_supported(openmm.System())


def gb(expression):
    force = openmm.CustomGBForce()
    force.addComputedValue("I", expression, openmm.CustomGBForce.SingleParticle)
    return force


@pytest.mark.parametrize(
    ("force", "invariant"),
    [
        (openmm.HarmonicBondForce(), True),
        (openmm.NonbondedForce(), True),
        (openmm.RMSDForce([openmm.Vec3(0, 0, 0)]), True),
        (openmm.CustomExternalForce("x"), False),
        (openmm.CustomExternalForce("0"), False),
        (openmm.CustomBondForce("r^2"), True),
        (openmm.CustomCompoundBondForce(2, "distance(p1,p2)^2"), True),
        (openmm.CustomCompoundBondForce(2, "(y2-1)^2"), False),
        (openmm.CustomCentroidBondForce(2, "distance(g1,g2)"), True),
        (openmm.CustomCentroidBondForce(1, "k*z1^2"), False),
        (openmm.CustomManyParticleForce(3, "1/distance(p1,p2)"), True),
        (openmm.CustomManyParticleForce(3, "x1"), False),
        (gb("1/or; or=0.1"), True),
        (gb("z*z"), False),
    ],
)
def test_translation_invariance(force, invariant):  # rows 11, 25
    system = particles(force=copy.deepcopy(force))
    check_supported(system)
    assert translation_invariant(system) is invariant
    outer = openmm.CustomCVForce("v^2")
    outer.addCollectiveVariable("v", copy.deepcopy(force))
    assert translation_invariant(particles(force=outer)) is invariant
