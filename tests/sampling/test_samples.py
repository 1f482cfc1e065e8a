import math
from dataclasses import replace

import mdtraj
import numpy as np
import pytest
import torch

import boltzgen
from boltzgen.energies import toys
from boltzgen.errors import CheckpointError, InputError
from boltzgen.flows import coupling_flow
from boltzgen.reweighting import effective_sample_size, expectation, log_partition
from boltzgen.sampling import Samples, draw, reweight
from boltzgen.sampling.ensemble import write_ensemble

INF = math.inf


def weighted(n=1000, seed=0, **fields):
    """N(0, 1) draws for the target N(1, 1) times e², whose log Z is 2 + ½ log 2π."""
    x = torch.randn(n, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    log_q = -0.5 * x[:, 0] ** 2 - 0.5 * math.log(2 * math.pi)
    return Samples(x, log_q, 0.5 * (x[:, 0] - 1) ** 2 - 2, seed=seed, **fields)


def alkane(n=50, seed=0, carbons=4):
    generator = torch.Generator().manual_seed(seed)
    zigzag = torch.stack([torch.arange(carbons) * 0.13, torch.arange(carbons) % 2 * 0.08, torch.zeros(carbons)], -1)
    positions = zigzag + 0.02 * torch.randn(n, carbons, 3, generator=generator)
    u = torch.rand(n, generator=generator, dtype=torch.float64)
    return Samples(
        positions.flatten(1),
        torch.zeros(n),
        u,
        temperature=300.0,
        system="alkane",
        seed=seed,
        cartesian=positions,
        potential=u + 1,
        topology={
            "atoms": [[f"C{i}", "C", "ALK", "1", "A"] for i in range(carbons)],
            "bonds": [[i, i + 1] for i in range(carbons - 1)],
        },
        torsions={"backbone": [0, 1, 2, 3]},
    )


def test_log_weights_are_float64_and_refer_to_the_target():
    samples = Samples(torch.zeros(2, 1), torch.tensor([0.5, -1.0]), torch.tensor([1.0, 2.0]))
    assert samples.log_w.dtype == samples.log_q.dtype == samples.u.dtype == torch.float64
    assert samples.log_w.tolist() == [-1.5, -1.0]
    assert samples.x.dtype == torch.float32


@pytest.mark.parametrize("log_q", [0.0, -INF, INF])
def test_a_failed_draw_has_weight_zero_and_stays_in_n(log_q):
    samples = Samples(torch.zeros(3, 1), torch.tensor([0.0, 0.0, log_q]), torch.tensor([0.0, 0.0, INF]))
    assert samples.log_w.tolist() == [0.0, 0.0, -INF]
    assert len(samples) == 3
    assert samples.n_failed == 1
    # trap 6: dropped, it would make log Z 0 instead of log 2/3
    assert log_partition_value(samples) == pytest.approx(math.log(2 / 3))


def log_partition_value(samples):
    return float(samples.log_w.logsumexp(0)) - math.log(len(samples))


@pytest.mark.parametrize(
    ("column", "values"),
    [("u", [math.nan, 0.0]), ("log_q", [math.nan, 0.0]), ("log_q", [-INF, 0.0]), ("u", [-INF, 0.0]), ("u", [0.0])],
)
def test_numbers_without_a_meaning_are_refused(column, values):
    columns = {"log_q": torch.zeros(2), "u": torch.zeros(2), column: torch.tensor(values)}
    with pytest.raises(InputError, match=r"; got .*: "):
        Samples(torch.zeros(2, 1), **columns)


def test_torsions_are_those_of_mdtraj():
    samples = alkane()
    expected = mdtraj.compute_dihedrals(samples.to_mdtraj(), [[0, 1, 2, 3]])[:, 0]
    assert samples.torsion("backbone").numpy() == pytest.approx(expected, abs=1e-5)
    assert samples.torsion([0, 1, 2, 3]).equal(samples.torsion("backbone"))
    assert samples.torsion("backbone").abs().max() > 0.1


@pytest.mark.parametrize("atoms", ["phi", [0, 1, 2], [0, 1, 2, 4], [0, 1, 1, 2], [-1, 1, 2, 3]])
def test_a_torsion_that_is_none_is_refused(atoms):
    with pytest.raises(InputError, match="a torsion must"):
        alkane().torsion(atoms)


@pytest.mark.parametrize("ask", [Samples.positions, Samples.to_mdtraj, lambda s: s.torsion("phi")])
def test_a_toy_has_no_positions(ask):
    with pytest.raises(InputError, match=r"positions must come from a molecule; got samples of toy: use samples\.x"):
        ask(weighted(system="toy"))


def test_rows_are_chosen_by_slice_mask_and_index():
    samples = alkane()
    mask = samples.u > 0.5
    for rows in (slice(10, 20), mask, mask.numpy(), torch.tensor([3, 1, 1]), [3, 1, 1]):
        chosen = samples[rows]
        index = torch.arange(len(samples))[rows]
        assert chosen.log_w.equal(samples.log_w[index])
        assert chosen.positions().equal(samples.positions()[index])
        assert chosen.seed is None
        assert chosen.system == "alkane"


@pytest.mark.parametrize("rows", [3, torch.tensor(3), torch.ones(7, dtype=torch.bool), torch.tensor([0.5])])
def test_rows_that_are_none_are_refused(rows):
    with pytest.raises(InputError, match="rows must be"):
        alkane()[rows]


def test_pooled_draws_keep_their_weights():
    a, b = weighted(1000, seed=1), weighted(500, seed=2)
    pool = a + b
    assert pool.log_w.equal(torch.cat([a.log_w, b.log_w]))
    assert pool.seed is None
    assert pool.independent
    assert len(a[:400] + a[400:]) == len(a)


def test_only_independent_draws_of_one_target_are_pooled():
    with pytest.raises(InputError, match="seed 0 twice"):
        weighted() + weighted()
    a, b, c = (weighted(seed=seed) for seed in (1, 2, 3))
    assert len(a + b + c) == 3 * len(a)
    for one, two in ((a + b, b), (b, a + b), (a + b, a + c)):
        with pytest.raises(InputError, match="draws that are there already"):
            one + two
    with pytest.raises(InputError, match="different temperature"):
        weighted(seed=1) + weighted(seed=2, temperature=2.0)
    with pytest.raises(InputError, match="different system"):
        weighted(seed=1) + weighted(seed=2, system="other")
    with pytest.raises(TypeError):
        weighted() + 1


def test_resampling_follows_the_target_and_keeps_log_z():
    samples = weighted(20_000)
    equal = samples.resample(5000, seed=3)
    n, exact = len(equal), 1.0
    # at most the error of independent draws of N(1, 1); the twin without weights misses by 1 = 70 σ
    assert abs(float(equal.x.mean()) - exact) < 4 / math.sqrt(n)
    assert abs(float(samples.x.mean()) - exact) > 4 / math.sqrt(n)
    assert equal.log_w.numpy() == pytest.approx(log_partition(samples.log_w).value, abs=1e-12)
    assert not equal.independent
    assert not (equal + weighted(seed=4)).independent


def test_resampling_is_systematic():
    samples = Samples(torch.arange(4.0)[:, None], torch.zeros(4), -torch.tensor([1.0, 2.0, 5.0, 2.0]).log())
    for seed in range(20):
        counts = torch.bincount(samples.resample(10, seed=seed).x[:, 0].long(), minlength=4)
        assert counts.tolist() == [1, 2, 5, 2]


def test_resampling_never_takes_a_draw_of_weight_zero():
    u = torch.tensor([INF, 0.0, INF, 0.0, INF])
    samples = Samples(torch.arange(5.0)[:, None], torch.zeros(5), u)
    for seed in range(50):
        assert set(samples.resample(3, seed=seed).x[:, 0].tolist()) <= {1.0, 3.0}


def test_resampling_depends_on_its_seed_only():
    samples = weighted()
    assert samples.resample(100, seed=1).x.equal(samples.resample(100, seed=1).x)
    assert not samples.resample(100, seed=1).x.equal(samples.resample(100, seed=2).x)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        first = samples.resample(100).x
        torch.manual_seed(5)
        assert samples.resample(100).x.equal(first)


@pytest.mark.parametrize("n", [0, -1, 2.0, True])
def test_a_wrong_number_of_rows_is_refused(n):
    with pytest.raises(InputError, match="n must be a positive integer"):
        weighted().resample(n)


def test_nothing_can_be_resampled_from_failed_draws():
    with pytest.raises(InputError, match="at least one draw must have a finite energy"):
        Samples(torch.zeros(3, 1), torch.zeros(3), torch.full((3,), INF)).resample(2)


def test_a_trajectory_has_the_frames_in_order_or_by_weight():
    samples = alkane()
    assert np.array_equal(samples.to_mdtraj().xyz, samples.positions().numpy())
    drawn = samples.to_mdtraj(resample=20, seed=1)
    assert np.array_equal(drawn.xyz, samples.resample(20, seed=1).positions().numpy())


def test_energies_kept_with_the_samples_survive_a_trajectory_that_rounds(tmp_path):
    """Trap 12: XTC keeps three decimals of a nanometre; energies recomputed from it are of other configurations."""
    samples = alkane(carbons=12)
    samples.to_mdtraj().save_xtc(tmp_path / "rounded.xtc")
    samples.save(tmp_path / "kept.npz")
    rounded = torch.from_numpy(mdtraj.load(tmp_path / "rounded.xtc", top=samples.to_mdtraj().topology).xyz)
    kept = Samples.load(tmp_path / "kept.npz")

    def stiff(x):
        return 5e4 * (x[:, 1:] - x[:, :-1]).norm(dim=-1).sub(0.15).square().sum(-1)  # kT, as C–C bonds

    assert (stiff(rounded) - stiff(samples.positions())).abs().max() > 0.1
    assert kept.positions().equal(samples.positions())
    assert kept.potential.equal(samples.potential)


def drawn(seed=1, target=None, flow=None, n=100):
    return draw(flow or coupling_flow(2), target or toys.DoubleWell(), n, seed=seed)


def test_draws_know_where_they_come_from_and_so_does_their_file(tmp_path):
    flow = coupling_flow(2, seed=3)
    samples = drawn(flow=flow)
    assert set(samples.provenance) == {"boltzgen", "target", "flow"}
    assert samples.provenance["boltzgen"] == boltzgen.__version__
    samples.save(tmp_path / "a.npz")
    assert Samples.load(tmp_path / "a.npz").provenance == samples.provenance
    assert drawn(seed=2, flow=flow).provenance == samples.provenance
    with torch.no_grad():
        next(flow.parameters()).add_(1e-3)
    trained = drawn(flow=flow)
    assert {name for name in trained.provenance if trained.provenance[name] != samples.provenance[name]} == {"flow"}
    other = reweight(samples, toys.DoubleWell("snf"))
    assert {name for name in other.provenance if other.provenance[name] != samples.provenance[name]} == {"target"}
    pool = samples + drawn(seed=2, flow=flow) + replace(trained, seed=5, x=trained.x + 1)
    assert pool.provenance["flow"].split() == [samples.provenance["flow"], trained.provenance["flow"]]
    assert pool.provenance["target"] == samples.provenance["target"]


def test_targets_of_one_name_are_not_pooled():
    with pytest.raises(InputError, match="got two called 'DoubleWell' whose force fields or parameters differ"):
        drawn(seed=1) + drawn(seed=2, target=toys.DoubleWell("snf"))
    unknown = replace(drawn(seed=2, target=toys.DoubleWell("snf")), provenance={})  # a file of an older release
    assert len(drawn(seed=1) + unknown) == 200


def test_another_temperature_is_another_target_whose_hash_is_not_known():
    samples = alkane()
    named = replace(samples, provenance={"target": "abc", "flow": "def"})
    assert named.at(310.0).provenance == {"flow": "def"}


def test_the_file_holds_the_log_weights_bit_for_bit(tmp_path):
    samples = weighted(100)
    samples.u[3] = INF
    samples.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert archive["log_w"].tobytes() == samples.log_w.numpy().tobytes()
        assert archive["log_w"][3] == -INF
    again = Samples.load(tmp_path / "a.npz")
    again.save(tmp_path / "b.npz")
    assert again.log_w.equal(samples.log_w)
    with np.load(tmp_path / "a.npz") as one, np.load(tmp_path / "b.npz") as two:
        assert {name: one[name].tobytes() for name in one} == {name: two[name].tobytes() for name in two}


@pytest.mark.parametrize("make", [weighted, alkane, drawn])
@pytest.mark.parametrize("name", ["samples.npz", "my samples", "Bütan-φ.npz"])
def test_saved_samples_are_read_back_bit_for_bit(tmp_path, make, name):
    samples = make()
    samples.save(tmp_path / name)
    loaded = Samples.load(tmp_path / name)
    for column in ("x", "log_q", "u", "log_w"):
        assert getattr(loaded, column).equal(getattr(samples, column))
        assert getattr(loaded, column).dtype == getattr(samples, column).dtype
    for plain in ("temperature", "system", "seed", "independent", "topology", "torsions", "provenance"):
        assert getattr(loaded, plain) == getattr(samples, plain)
    assert repr(loaded) == repr(samples)
    if samples.potential is not None:
        assert loaded.potential.equal(samples.potential)
        assert loaded.torsion("backbone").equal(samples.torsion("backbone"))
    assert len(loaded[:10] + samples[10:]) == len(samples)


def test_infinite_energies_and_no_rows_survive_the_file(tmp_path):
    samples = Samples(torch.zeros(2, 1), torch.tensor([0.0, -INF]), torch.tensor([0.0, INF]))
    for part in (samples, samples[:0]):
        part.save(tmp_path / "x.npz")
        assert Samples.load(tmp_path / "x.npz").u.equal(part.u)


def test_a_file_of_something_else_is_refused(tmp_path):
    write_ensemble(tmp_path / "other.npz", {"x": np.zeros(3)}, {})
    with pytest.raises(CheckpointError, match=r"other\.npz does not hold samples"):
        Samples.load(tmp_path / "other.npz")


def test_estimators_take_samples_as_they_are():
    samples = weighted(20_000)
    estimate = expectation(samples.log_w, samples.x[:, 0])
    assert abs(estimate.value - 1) < 4 * estimate.standard_error
    assert effective_sample_size(samples.log_w) / len(samples) == pytest.approx(math.exp(-1), rel=0.1)


def test_metadata_of_numpy_are_kept_as_plain_data(tmp_path):
    fields = {"temperature": np.float32(2.0), "seed": np.int64(1), "first": np.int64(7), "independent": np.bool_(False)}
    samples = Samples(torch.zeros(2, 1), torch.zeros(2), torch.zeros(2), torsions={"phi": np.arange(4)}, **fields)
    samples.save(tmp_path / "a.npz")
    again = Samples.load(tmp_path / "a.npz")
    assert (again.temperature, again.seed, again.first, again.independent) == (2.0, 1, 7, False)
    assert again.torsions == {"phi": [0, 1, 2, 3]}
    with pytest.raises(InputError, match="first must be a non-negative integer"):
        Samples(torch.zeros(2, 1), torch.zeros(2), torch.zeros(2), first=-1)


def test_rows_backwards():
    samples = weighted(100)
    for rows in (slice(None, None, -1), np.arange(100)[::-1], slice(-1, -101, -1)):
        assert torch.equal(samples[rows].x, samples.x.flip(0))
    assert len(samples[10:50:-1]) == 0


@pytest.mark.parametrize("rows", [[100], [-101], np.array([3, 200])])
def test_rows_that_there_are_not_are_refused(rows):
    with pytest.raises(InputError, match="rows must be between 0 and 99; got"):
        weighted(100)[rows]
