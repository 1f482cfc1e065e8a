import logging
import math

import pytest
import torch

from boltzgen.energies import toys
from boltzgen.errors import InputError, UnreliableEstimateWarning
from boltzgen.flows import coupling_flow
from boltzgen.reweighting import multistate_arrays
from boltzgen.sampling import draw, replica_exchange, simulate

pytestmark = pytest.mark.filterwarnings("ignore::scipy.optimize.OptimizeWarning", "ignore:Unknown solver options")


@pytest.fixture(scope="module")
def pymbar():
    """pymbar, whose advertisement on import is not ours to print."""
    logging.disable(logging.WARNING)
    try:
        return pytest.importorskip("pymbar")
    finally:
        logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def well():
    return toys.DoubleWell("bgflow")


@pytest.fixture(scope="module")
def ladder(well):
    start = torch.tensor([1.4, 0.0], dtype=torch.float64)
    options = {"walkers": 40, "rounds": 150, "steps": 3, "step_size": 0.15, "equilibration": 40, "seed": 1}
    return replica_exchange(well, start, 1.0, [1.0, 2.0, 4.0], **options)


def test_a_flow_and_replica_exchange_have_the_exact_log_z(pymbar, assert_consistent, well, ladder):
    """And the temperature that no frame was taken from."""
    flow = coupling_flow(2)  # N(0, 1)
    states = [flow, well, well.at(1.2)]
    u_kn, counts = multistate_arrays(states, [draw(flow, well, 2000, seed=1), ladder, None])
    assert counts[0] == 2000
    assert 200 < counts[1] < 40 * 150 / 2  # every τ-th frame of each walker
    assert u_kn.shape == (3, counts.sum())
    found = pymbar.MBAR(u_kn, counts).compute_free_energy_differences()
    for k, state in ((1, well), (2, toys.DoubleWell("bgflow").at(1.2))):
        exact = well.log_partition() if k == 1 else _log_z(state)
        assert_consistent((-found["Delta_f"][0, k], found["dDelta_f"][0, k]), exact)
        with pytest.raises(AssertionError, match="sigmas"):
            assert_consistent((-found["Delta_f"][0, k], found["dDelta_f"][0, k]), exact + math.log(1.5))


def _log_z(energy):
    x = torch.linspace(-5, 5, 2001, dtype=torch.float64)
    grid = torch.cartesian_prod(x, torch.linspace(-9, 9, 601, dtype=torch.float64))
    return float(torch.logsumexp(-energy.energy(grid), 0)) + math.log(0.005 * 0.03)


def test_frames_of_slow_walkers_are_few(well):
    """Small steps: what one frame says of the next shows in how few are kept, and a run worth little is told."""
    options = {"walkers": 2, "steps": 300, "step_size": 0.02, "friction": 1.0, "seed": 1}
    run = simulate(well, torch.tensor([1.4, 0.0], dtype=torch.float64), 1.0, **options)
    with pytest.warns(UnreliableEstimateWarning, match="worth only .* independent frames") as caught:
        _, counts = multistate_arrays([well, coupling_flow(2)], [run, None])
    assert counts.sum() < 25
    assert caught[0].filename == __file__


def test_mistakes_are_explained(well, ladder):
    flow = coupling_flow(2)
    samples = draw(flow, well, 100, seed=1)
    for states, draws, says in (
        ([flow], [samples, ladder], "draws must be given for each of 1 states; got 2"),
        ([flow, 3.0], [samples, None], "a state must be an Energy or a Flow; got float"),
        ([well, flow], [samples, None], "must be independent draws of a flow, and stand for that flow"),
        ([flow, well], [samples, ladder.samples()], "for a simulation pass the run itself"),
        ([flow, well.at(2.0)], [samples, ladder], "energy at its temperature, 1; got Tempered at 2: use energy.at"),
        ([flow, well], [ladder, None], "energy at its temperature, 1; got Flow"),
        ([flow, well], [samples.log_w.tolist(), None], "draws must be Samples, a run, a tensor or None; got list"),
    ):
        with pytest.raises(InputError, match=says):
            multistate_arrays(states, draws)
