"""Ways to be wrong that look right from inside, each found out by its right name; more of them in tests/reporting.

Lost wells and components, heavy tails and dominant draws: there.
"""

import json
import math
from dataclasses import replace

import pytest
import torch

import boltzgen as bg

STIFFNESS, DIM, N = 40.0, 3, 5000


class Ramp(bg.Energy):
    """u = 40 Σ x on the unit cube: a clash wherever one is not near the corner."""

    def _energy(self, x):
        return torch.where(((x >= 0) & (x <= 1)).all(1), STIFFNESS * x.sum(1), torch.inf)


@pytest.fixture(scope="module")
def softly_drawn():
    """Draws of a flow that has learned the softened energy to perfection."""
    target = Ramp(DIM)
    soft = bg.Softened(target, 1.0)
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(400_000, DIM, generator=generator, dtype=torch.float64)
    log_p = -soft.energy(x)
    x = x[torch.multinomial(log_p.exp(), N, replacement=True, generator=generator)]
    return target, soft, x, -soft.energy(x) - (log_p.logsumexp(0) - math.log(len(log_p)))


def test_a_flow_trained_on_the_softened_energy(softly_drawn):
    target, _, x, log_q = softly_drawn
    verdict = bg.judge(bg.Samples(x, log_q, target.energy(x)))
    lights = {check.name: check.status for check in verdict.checks}
    assert lights["Pareto k"] == "red", str(verdict)
    assert lights["effective draws"] == lights["effective share"] == "amber"
    assert verdict.headline.startswith("not trustworthy: Pareto k")


def test_the_softened_energy_would_have_called_it_perfect(softly_drawn):
    """The twin: weights that aim at the training aid see nothing; `draw` does not make such weights."""
    _, soft, x, log_q = softly_drawn
    blind = bg.Samples(x, log_q, soft.energy(x))
    assert bg.effective_sample_size(blind.log_w) == pytest.approx(N)
    assert bg.judge(blind).trustworthy
    exact = DIM * math.log((1 - math.exp(-STIFFNESS)) / STIFFNESS)
    assert bg.log_partition(blind.log_w).value > exact + 3
    with pytest.raises(bg.InputError, match="a training aid"):
        bg.draw(bg.coupling_flow(DIM), soft, 10)


@pytest.fixture
def bundled():
    return bg.BoltzmannGenerator.load("alanine_dipeptide")


def found_by_heat(generator):
    """Lights after short hot simulations from its own draws, and where the walkers end."""
    samples = generator.sample(2000, seed=1)
    found = bg.explore(generator.flow, generator.target, 48, trajectories=120, seed=1)
    verdict = bg.judge(samples, reference_log_w=found.log_w)
    return {check.name: check.status for check in verdict.checks}, verdict, found.torsion("phi") > 0


def test_heat_finds_nothing_wrong_with_the_bundled_generator(bundled):
    lights, verdict, beyond = found_by_heat(bundled)
    assert verdict.status == "green", str(verdict)
    assert lights["coverage"] == "green"
    assert beyond.any()


def test_heat_finds_the_well_that_was_taken_from_the_bundled_generator(bundled):
    """Nothing drawn at φ > 0, where 0.3 % of the molecule is; the weights of the rest are as good as before."""

    class Cut(type(bundled.flow)):
        def _push(self, z, context):
            x, log_q = super()._push(z, context)
            return torch.where(bundled.coordinates.torsion(x, "phi")[:, None] < 0, x, torch.nan), log_q

        def _pull(self, x, context):
            return torch.where(bundled.coordinates.torsion(x, "phi") < 0, super()._pull(x, context), -torch.inf)

    bundled.flow.__class__ = Cut
    samples = bundled.sample(2000, seed=1)
    good = samples[samples.u.isfinite()]
    assert (good.torsion("phi") < 0).all()
    assert bg.judge(samples).trustworthy
    lights, verdict, beyond = found_by_heat(bundled)
    assert beyond.any()
    assert lights["coverage"] == "red"
    assert verdict.headline.startswith("not trustworthy: coverage")


class Springs(bg.Energy):
    """u = ½ Σ x² in sixty dimensions, as many as alanine dipeptide has."""

    def _energy(self, x):
        return 0.5 * x.square().sum(1)


def drawn_and_known(temperature):
    """Draws of a flow a little too narrow, and 500 frames at a temperature with the weights it gives them."""
    generator = torch.Generator().manual_seed(1)
    target, width = Springs(60), 0.97

    def weighed(x):
        log_q = -0.5 * (x / width).square().sum(1) - 60 * math.log(width) - 30 * math.log(2 * math.pi)
        return bg.Samples(x, log_q, target.energy(x))

    draws = weighed(width * torch.randn(20_000, 60, generator=generator, dtype=torch.float64))
    frames = weighed(math.sqrt(temperature) * torch.randn(500, 60, generator=generator, dtype=torch.float64))
    return draws, frames


@pytest.mark.parametrize("temperature", [2.0, 1.2, 0.8])
def test_a_reference_simulated_at_the_wrong_temperature(temperature):
    draws, frames = drawn_and_known(temperature)
    verdict = bg.judge(draws, reference_log_w=frames)
    lights = {check.name: check for check in verdict.checks}
    assert verdict.status == lights["reference temperature"].status == lights["coverage"].status == "amber"
    assert lights["reference temperature"].value == pytest.approx(temperature, rel=0.1)
    assert "reference temperature" in verdict.headline
    assert "check temperature, force field, solvent and constraints of the reference" in str(verdict)
    assert "lost a mode" not in str(verdict)


def test_a_reference_simulated_at_the_right_temperature():
    """The twin; and log-weights alone cannot tell."""
    draws, frames = drawn_and_known(1.0)
    assert bg.judge(draws, reference_log_w=frames).status == "green"
    draws, frames = drawn_and_known(2.0)
    blamed = bg.judge(draws, reference_log_w=frames.log_w)
    assert "reference temperature" not in str(blamed)
    assert "the flow lost a mode" in str(blamed)  # the wrong reason


@pytest.fixture(scope="module")
def dipeptide():
    """Draws of alanine dipeptide, weights apart from which they are perfect."""
    samples = bg.BoltzmannGenerator(bg.Molecule.load("alanine_dipeptide")).sample(2000, seed=1)
    good = samples[samples.u.isfinite()]
    good.log_q.copy_(-good.u)
    return good


def mirrored(samples, share):
    """The first of the draws as their mirror images, of the same energy."""
    positions = samples.positions().clone()
    positions[: int(share * len(samples)), :, 2] *= -1
    return replace(samples, cartesian=positions)


@pytest.mark.parametrize(("share", "status"), [(0.0, "green"), (0.2, "red"), (0.9, "red"), (1.0, "amber")])
def test_a_mirrored_molecule(dipeptide, share, status):
    verdict = bg.judge(mirrored(dipeptide, share))
    (light,) = (check for check in verdict.checks if check.name == "handedness")
    assert (light.status, light.value) == (status, pytest.approx(share, abs=0.01))
    assert ("handedness" in verdict.headline) == (share > 0)
    assert bg.effective_sample_size(mirrored(dipeptide, share).log_w) == pytest.approx(len(dipeptide))


def test_a_hand_that_no_name_tells_is_that_of_most(dipeptide):
    topology = json.loads(json.dumps(dipeptide.topology).replace('"ALA"', '"XYZ"'))
    unknown = replace(dipeptide, topology=topology)
    for share, found in ((0.2, 0.2), (0.9, 0.1), (1.0, 0.0)):
        (light,) = (check for check in bg.judge(mirrored(unknown, share)).checks if check.name == "handedness")
        assert light.value == pytest.approx(found, abs=0.01)
