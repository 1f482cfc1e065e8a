import pytest
import torch

from boltzgen.errors import InputError
from boltzgen.flows import LU, Householder, Permutation

EXACT = 1e-12


def points(n=5, d=3):
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_lu_starts_as_the_identity_and_is_the_product_of_its_factors(randomise):
    layer = LU(3).double()
    z = points()
    assert torch.equal(layer.forward(z)[0], z)
    randomise(layer)
    w = layer.weight.detach()
    matrix = (w.tril(-1) + torch.eye(3)) @ (w.triu(1) + w.diagonal().exp().diag())
    x, log_det = layer.forward(z)
    assert (x - (z @ matrix.T + layer.bias)).abs().max() < EXACT
    assert (log_det - torch.linalg.slogdet(matrix).logabsdet).abs().max() < EXACT


def test_householder_is_orthogonal_and_a_reflection_reflects():
    layer = Householder(3, reflections=2, generator=torch.Generator().manual_seed(0)).double()
    matrix = layer.forward(torch.eye(3, dtype=torch.float64))[0].T
    assert (matrix @ matrix.T - torch.eye(3)).abs().max() < EXACT
    assert torch.linalg.det(matrix).item() == pytest.approx(1.0)
    one = Householder(3, reflections=1).double()
    v = one.vectors.detach()
    assert (one.forward(v)[0] + v).abs().max() < EXACT
    again = Householder(3, reflections=2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.vectors.double(), layer.vectors)


def test_reflections_apply_from_the_right():
    layer = Householder(2, reflections=2).double()
    with torch.no_grad():
        layer.vectors.copy_(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    # the second first: (x, y) → (−y, −x); then the first: → (y, −x)
    assert (layer.forward(torch.tensor([[1.0, 2.0]]).double())[0] - torch.tensor([[2.0, -1.0]])).abs().max() < EXACT


def test_permutations_are_state():
    layer, other = Permutation([2, 0, 1]), Permutation([0, 1, 2])
    other.load_state_dict(layer.state_dict())
    z = points()
    assert torch.equal(other.forward(z)[0], z[:, [2, 0, 1]])
    assert torch.equal(other.inverse(z[:, [2, 0, 1]])[0], z)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Permutation([0, 2]), "must be a permutation"),
        (lambda: Permutation([0, 0]), "must be a permutation"),
        (lambda: Householder(2, reflections=0), "reflections must be a positive integer"),
    ],
)
def test_what_is_no_such_map_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
