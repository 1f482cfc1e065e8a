"""Work stays on the device it was sent to: a GPU, if there is one, and everywhere one that knows only shapes."""

import pytest
import torch

import boltzgen as bg
from boltzgen.molecule import available
from boltzgen.reporting import checkup, examine
from boltzgen.sampling import replica_exchange

MOLECULES = [system.name for system in available() if system.toy is None]
THERE = torch.cuda.is_available()


@pytest.mark.parametrize("name", MOLECULES)
def test_flow_coordinates_and_energy_do_not_leave_the_device(name):
    generator = bg.BoltzmannGenerator(bg.Molecule.load(name))
    target, flow = generator.target.to("meta"), generator.flow.to("meta")
    x, log_q = flow.sample(8, seed=1)
    u = target.at(2 * target.temperature).energy(x)
    assert {part.device.type for part in (x, log_q, u, flow.log_prob(x))} == {"meta"}
    bg.reverse_kl(flow, target, 8, soften=20.0).backward()
    bg.forward_kl(flow, x).backward()
    assert {p.grad.device.type for p in flow.parameters()} == {"meta"}


@pytest.mark.parametrize("device", ["cpu", "auto", torch.device("cpu")])
def test_a_generator_goes_where_it_is_sent(device):
    generator = bg.BoltzmannGenerator(bg.toys.DoubleWell()).to(device)
    assert generator.sample(10, seed=1).x.shape == (10, 2)


def test_what_a_check_times_is_on_the_device():
    molecule = bg.Molecule.load("alanine_dipeptide")
    generator = bg.BoltzmannGenerator(molecule)
    energy, meta = molecule.energy(300.0).to("meta"), torch.device("meta")
    assert checkup._energy_time(energy, molecule, meta) > 0
    assert checkup._training_time(generator.flow.to("meta"), generator.target.to("meta")) > 0


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", "mps", None, 1.5])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(bg.InputError, match=r"device must be one of auto, cpu.*; got"):
        bg.BoltzmannGenerator(bg.toys.DoubleWell()).to(device)
    with pytest.raises(bg.InputError, match=r"device must be one of auto, cpu.*; got"):
        examine(bg.Molecule.load("alanine_dipeptide"), device=device)


@pytest.mark.gpu
@pytest.mark.skipif(not THERE, reason="there is no GPU")
@pytest.mark.parametrize("name", ["alanine_dipeptide", "paracetamol"])
def test_a_gpu_gives_the_numbers_of_the_cpu(name, tmp_path):
    there = bg.BoltzmannGenerator(bg.Molecule.load(name)).to("cuda")
    start = torch.tensor(there.molecule.positions) + 0.003 * torch.randn(100, there.molecule.n_atoms, 3)
    there.train(steps=20, data=start, run_dir=tmp_path / "run", progress=False)
    samples = there.sample(2000, seed=1)
    here = bg.BoltzmannGenerator.load(tmp_path / "run").sample(2000, seed=1)
    assert samples.log_w.device.type == "cpu"
    assert samples.log_w.dtype == torch.float64
    both = torch.isfinite(samples.log_w) & torch.isfinite(here.log_w)
    assert both.sum() > 1000
    assert (samples.log_w - here.log_w)[both].abs().median() < 1e-2


@pytest.mark.gpu
@pytest.mark.skipif(not THERE, reason="there is no GPU")
def test_a_molecule_is_examined_on_a_gpu():
    assert examine(bg.Molecule.load("alanine_dipeptide"), device="cuda").status == "green"


@pytest.mark.gpu
@pytest.mark.skipif(not THERE, reason="there is no GPU")
def test_dynamics_on_a_gpu_draw_the_noise_of_the_cpu():
    well = bg.toys.DoubleWell()
    found = []
    for device in ("cpu", "cuda"):
        start = torch.tensor([-1.7, 0.0], device=device)
        walk = bg.simulate(
            well.to(device), start, 1.0, walkers=4, steps=10, step_size=0.01, friction=1.0, seed=0, thin=5
        )
        ladder = replica_exchange(well, start, 1.0, [1.0, 2.0], walkers=4, rounds=5, steps=3, step_size=0.05, seed=0)
        found.append((walk.x.cpu(), ladder.x.cpu()))
    for here, there in zip(*found, strict=True):
        assert (here - there).abs().max() < 1e-3
