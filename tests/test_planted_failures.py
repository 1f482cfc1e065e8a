"""Ways to be wrong that look right from inside, each found out by its right name; more of them in tests/reporting.

Lost wells and components, mirror images, heavy tails and dominant draws: there. Frames of the wrong temperature:
tests/training/test_frames.py.
"""

import math

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
