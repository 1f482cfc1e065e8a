import pytest
import torch

from boltzgen.flows import TriangularAffine
from boltzgen.flows.triangular import unit_lower_solve

EXACT = 1e-12


def problem(m=5, n=7, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    columns, rows = torch.triu_indices(m, m, 1)
    entries = torch.randn(len(rows), n, generator=generator, dtype=dtype)
    matrices = torch.eye(m, dtype=dtype).repeat(n, 1, 1)
    matrices[:, rows, columns] = entries.T
    return entries, matrices, torch.randn(m, n, generator=generator, dtype=dtype)


@pytest.mark.parametrize("transpose", [False, True])
def test_solves_what_linear_algebra_solves(transpose):
    entries, matrices, b = problem()
    expected = torch.linalg.solve(matrices.mT if transpose else matrices, b.T).T
    assert (unit_lower_solve(entries, b, transpose=transpose) - expected).abs().max() < 1e-9


@pytest.mark.parametrize("transpose", [False, True])
def test_gradients_first_and_second(transpose):
    entries, _, b = problem(m=4, n=2)
    inputs = [entries.requires_grad_(), b.requires_grad_()]
    torch.autograd.gradcheck(lambda e, b: unit_lower_solve(e, b, transpose=transpose), inputs)
    torch.autograd.gradgradcheck(lambda e, b: unit_lower_solve(e, b, transpose=transpose), inputs)


@pytest.mark.slow
def test_the_operator_is_well_formed():
    entries, _, b = problem(m=3, n=2)
    inputs = (entries.requires_grad_(), b.requires_grad_(), False)
    torch.library.opcheck(torch.ops.boltzgen.unit_lower_solve.default, inputs)


def test_is_the_affine_map_of_its_matrix():
    entries, matrices, z = problem()
    layer = TriangularAffine(5, gain=1.0, max_log_scale=1e6)
    mean, log_scale = torch.ones_like(z), 0.1 * z
    x, log_det = layer(z, mean, log_scale, entries)
    expected = mean + torch.einsum("nij,jn->in", matrices, log_scale.exp() * z)
    assert (x - expected).abs().max() < EXACT
    assert (log_det - log_scale.sum(0)).abs().max() < 1e-9
