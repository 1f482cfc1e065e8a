import pytest
import torch

from boltzgen.flows.root import solve_increasing


def cubic(z):
    return z + z**3, 1 + 3 * z**2


def steep(z):
    """Newton's method alone runs away from its flat shoulders."""
    return torch.atan(10 * z) + 1e-3 * z, 10 / (1 + 100 * z**2) + 1e-3


def exponential(z):
    """From the right Newton's method alone comes down by one at a time."""
    return z.exp(), z.exp()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("f", [cubic, steep, exponential])
def test_solves_to_the_rounding_of_the_dtype(f, dtype):
    exact = torch.linspace(-3, 3, 1001, dtype=dtype)
    high = 88 if dtype == torch.float32 else 700
    found = solve_increasing(f, f(exact)[0], torch.full_like(exact, -1000), torch.full_like(exact, high))
    value, slope = f(exact)
    rounding = 4 * torch.finfo(dtype).eps * (1 + exact.abs() + value.abs() / slope)
    assert ((found - exact).abs() < rounding).all()


def test_solutions_do_not_depend_on_their_neighbours():
    y = torch.linspace(-1.4, 1.4, 50)
    bracket = torch.full((50,), -1e3), torch.full((50,), 1e3)
    together = solve_increasing(steep, y, *bracket)
    alone = [solve_increasing(steep, y[i : i + 1], bracket[0][:1], bracket[1][:1]) for i in range(50)]
    assert torch.allclose(together, torch.cat(alone), rtol=1e-6, atol=1e-9)


def test_first_and_second_derivatives_are_those_of_the_solution():
    y = torch.tensor([-2.0, 0.1, 3.0], dtype=torch.float64, requires_grad=True)
    a = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64, requires_grad=True)

    def solution(y, a):
        return solve_increasing(lambda z: (a * z + z**3, a + 3 * z**2), y, y.abs() * -9 - 9, y.abs() * 9 + 9)

    torch.autograd.gradcheck(solution, (y, a))
    torch.autograd.gradgradcheck(solution, (y, a))
