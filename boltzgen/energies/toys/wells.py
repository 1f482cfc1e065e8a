"""Wells in the plane, and many of them at once."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ..energy import Energy
from .draws import uniform
from .landscape import Landscape
from .quadrature import grid, panels

__all__ = ["DoubleWell", "ManyWell", "MuellerBrown"]

_VARIANTS = {"noe": (-6.0, 1.0), "snf": (-6.0, -0.5), "bgflow": (-4.0, 0.0)}


class DoubleWell(Landscape):
    """Two wells along x and a spring along y, u = x⁴ + a x² + b x + ½ y².

    Papers differ in (a, b): numbers compare only within one variant. State a is the well left of the barrier's top,
    b the one right of it.

    Arguments:
        variant: "noe" for (−6, 1), "snf" for (−6, −½), "bgflow" for (−4, 0).

    Raises:
        InputError: if there is no such variant.

    Example:
        >>> target = DoubleWell()
        >>> print(f"{target.log_partition():.5f} {target.free_energy_difference():.4f}")
        11.02047 3.3800

    References:
        Noé, Olsson, Köhler, Wu (2019), Science 365, eaaw1147; Wu, Köhler, Noé (2020), "Stochastic normalizing flows".
    """

    def __init__(self, variant: str = "noe") -> None:
        if variant not in _VARIANTS:
            raise InputError(f"variant must be one of {', '.join(_VARIANTS)}; got {variant!r}: choose one")
        super().__init__()
        self.variant = variant
        self.a, self.b = _VARIANTS[variant]

    @property
    def barrier(self) -> float:
        """x at the top of the barrier."""
        return float(np.sort(np.roots([4.0, 0.0, 2 * self.a, self.b]).real)[1])

    def _profile(self, x: Tensor) -> Tensor:
        square = x * x
        return square * (square + self.a) + self.b * x

    def _energy(self, x: Tensor) -> Tensor:
        return self._profile(x[:, 0]) + 0.5 * x[:, 1].square()

    def _in_a(self, x: Tensor) -> Tensor:
        return x[:, 0] < self.barrier

    def _nodes(self) -> tuple[Tensor, Tensor]:
        return grid(panels([-5.0, self.barrier, 5.0], 16), panels([-12.0, 12.0], 16))

    def sample(self, n: int, *, seed: int) -> Tensor:
        """Independent draws by inversion of both distribution functions, (n, 2).

        That of x is interpolated linearly between 2¹⁶ points, which moves no average by more than 1e-7.
        """
        edges = torch.linspace(-4.0, 4.0, 2**16 + 1, dtype=torch.float64)
        cdf = torch.exp(-self._profile((edges[:-1] + edges[1:]) / 2)).cumsum(0)
        cdf = torch.cat([cdf.new_zeros(1), cdf / cdf[-1]])
        p = uniform(n, 2, seed)
        k = torch.searchsorted(cdf, p[:, 0].contiguous()).clamp(1, len(cdf) - 1)
        x = edges[k] + (p[:, 0] - cdf[k]) / (cdf[k] - cdf[k - 1]) * (edges[1] - edges[0])
        return torch.stack([x, torch.special.ndtri(p[:, 1])], -1).to(torch.get_default_dtype())


class MuellerBrown(Landscape):
    """Three minima on a winding path, u = k Σ_i A_i exp[a_i (x − x̄_i)² + b_i (x − x̄_i)(y − ȳ_i) + c_i (y − ȳ_i)²].

    State a holds the deepest minimum, above the line y − x = 1.45, and b the two others.

    Arguments:
        k: 1/kT in the units of the surface.

    Raises:
        InputError: unless k is positive and finite.

    Example:
        >>> print(f"{MuellerBrown(k=0.1).log_partition():.5f}")
        11.72959

    References:
        Müller, Brown (1979), Theor. Chim. Acta 53, 75.
    """

    terms = (
        (-200.0, -1.0, 0.0, -10.0, 1.0, 0.0),
        (-100.0, -1.0, 0.0, -10.0, 0.0, 0.5),
        (-170.0, -6.5, 11.0, -6.5, -0.5, 1.5),
        (15.0, 0.7, 0.6, 0.7, -1.0, 1.0),
    )

    divide = 1.45

    def __init__(self, k: float = 0.1) -> None:
        if not (math.isfinite(k) and k > 0):
            raise InputError(f"k must be a positive number; got {k!r}: pass e.g. k=0.1")
        super().__init__()
        self.k = float(k)

    def _energy(self, x: Tensor) -> Tensor:
        u = torch.zeros_like(x[:, 0])
        for A, a, b, c, x0, y0 in self.terms:
            dx, dy = x[:, 0] - x0, x[:, 1] - y0
            u = u + A * torch.exp(a * dx * dx + b * dx * dy + c * dy * dy)
        return self.k * u

    def _in_a(self, x: Tensor) -> Tensor:
        return x[:, 1] - x[:, 0] > self.divide

    def _nodes(self) -> tuple[Tensor, Tensor]:
        # s = y - x runs across the divide and t = x + y along it; dx dy = ds dt / 2
        across = panels([self.divide - 6.0, self.divide, self.divide + 6.0], 14)
        st, log_w = grid(across, panels([-6.0, 6.0], 24))
        s, t = st.unbind(-1)
        return torch.stack([(t - s) / 2, (t + s) / 2], -1), log_w - math.log(2.0)


class ManyWell(Energy):
    """Sixteen independent double wells of the variant "snf", u(x) = Σ_k u₂(x_2k, x_2k+1): 32 dimensions, 2¹⁶ modes.

    References:
        Noé, Olsson, Köhler, Wu (2019), Science 365, eaaw1147; Midgley et al. (2023), "Flow annealed importance sampling
        bootstrap".
    """

    wells = 16

    def __init__(self) -> None:
        super().__init__(2 * self.wells)
        self.well = DoubleWell("snf")

    def _energy(self, x: Tensor) -> Tensor:
        return self.well._energy(x.reshape(-1, 2)).reshape(-1, self.wells).sum(-1)

    def log_partition(self) -> float:
        """log Z, sixteen times that of one well."""
        return self.wells * self.well.log_partition()

    def entropy(self) -> float:
        """−E_p[log p] of the normalised density, in nats."""
        return self.wells * self.well.entropy()

    def sample(self, n: int, *, seed: int) -> Tensor:
        """Independent draws, (n, 32), as exact as those of the double well."""
        return self.well.sample(n * self.wells, seed=seed).reshape(n, -1)
