"""Shapes of four identical particles in the plane: labels, mirror image and rigid motion left out, in a flat chart."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arguments import positive_numbers
from ..flows.bijection import Bijection

__all__ = ["PlanarQuartet"]

_SPREAD = 0.25
"""of log q for one unit of its coordinate."""


class PlanarQuartet(Bijection):
    """Shapes of four identical particles in the plane, y (n, 5) ↔ positions x (n, 8) of zero centroid.

    Of the centred positions X (4, 2) take W = HX, (3, 2), with H = ½ [+ + − −; + − + −; + − − +]. A relabelling of the
    particles permutes the rows of W and changes their signs; a rotation or mirror image turns its columns. What is left
    of W is the plane in R³ that the columns span, of unit normal n, and within it the Gram matrix of the rows
    Q = ½ q [1 + e₁, e₂; e₂, 1 − e₁]: q = Σ|xᵢ|², and e in the unit disc, where e = 0 has equal moments of inertia and
    |e| = 1 lies on a line. The measure is flat,

        dX = 1/16 · q² dq · d²e · d²n · dθ,

    with θ the angle of the rotation that is left out. Relabelling acts on n as the symmetries of a cube. It takes it to

        n₁ ≥ n₂, n₃ ≥ 0,   e₂ ≥ 0,

    the exchange of n₂ and n₃ being that of e₂ and −e₂: a 48th of all, without a point where the chart is singular. y
    takes it to the real line, such that a normal law of y₁ … y₄ is uniform in e and nearly so in n:

        q = 3/2 d² exp(y₀/4),   n₂/n₁ = Φ(y₁),   n₃/n₁ = Φ(y₂),   e = (y₃, v) √((1 − exp(−s))/2s),

    with v the same quantile of the half-normal law that y₄ is of the normal one, and s = ½ (y₃² + v²).

    log_det is that of (y, θ) ↦ X in orthonormal coordinates. `inverse` takes positions of any labels, turned, mirrored
    and moved: `forward(inverse(x))` is one of the same distances. Where all four lie on one line, or symmetry makes a
    coordinate infinite, which has measure zero, log_det is −inf.

    Arguments:
        distance: d, about that between two particles.

    Attributes:
        log_symmetry: log (4! · 2 · 2π), the labellings, mirror images and rotations, so that log Z is that of all
            configurations of zero centroid, as of `DW4().centred()`.

    Raises:
        InputError: if the distance is not positive.

    Example:
        >>> from boltzgen.energies import Pullback
        >>> from boltzgen.energies.toys import DW4
        >>> target = Pullback(DW4(), PlanarQuartet())
        >>> target.event_shape, target.energy(torch.zeros(1, 5)).shape
        (torch.Size([5]), torch.Size([1]))

    References:
        Kendall (1984), Shape manifolds, Procrustean metrics, and complex projective spaces: planar shapes.
    """

    _hadamard: Tensor

    def __init__(self, *, distance: float = 4.0) -> None:
        super().__init__(5, 8)
        (self.distance,) = positive_numbers(distance=distance)
        self.log_symmetry = math.log(math.factorial(4) * 2 * 2 * math.pi)
        rows = torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]], dtype=torch.float64)
        self.register_buffer("_hadamard", rows / 2, persistent=False)

    def _forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        q = 1.5 * self.distance**2 * (_SPREAD * z[:, 0]).exp()
        ratios = _normal(z[:, 1:3])
        n = torch.cat([torch.ones_like(ratios[:, :1]), ratios], 1)
        frame = _frame(n / n.square().sum(1, keepdim=True).sqrt())
        e = torch.stack([z[:, 3], -torch.special.ndtri(0.5 * _normal(-z[:, 4]))], 1)
        s = 0.5 * e.square().sum(1)
        det = (-0.5 * s).exp()  # det Q = (½ q det)²
        x, y = (e * (0.5 * _disc(s)).sqrt()[:, None]).T
        root = torch.stack([1 + x + det, y, y, 1 - x + det], 1).view(-1, 2, 2)
        root = root * (0.25 * q / (1 + det)).sqrt()[:, None, None]  # the symmetric root of Q
        return (self._hadamard.to(z).T @ (frame @ root)).flatten(1), self._log_det(z, ratios, s)

    def _inverse(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        w = self._hadamard.to(x) @ x.reshape(-1, 4, 2)
        n = torch.linalg.cross(*w.unbind(-1))
        w = torch.where(n < 0, -1.0, 1.0).to(x)[..., None] * w
        n, order = n.abs().sort(-1, descending=True)
        w = w.gather(1, order[..., None].expand_as(w))
        tiny = torch.finfo(x.dtype).tiny
        area = n.square().sum(1).sqrt()  # ½ q det
        gram = _frame(n / area.clamp_min(tiny)[:, None]).mT @ w
        gram = gram @ gram.mT
        q = gram[:, 0, 0] + gram[:, 1, 1]
        e = torch.stack([gram[:, 0, 0] - gram[:, 1, 1], 2 * gram[:, 0, 1]], 1) / q.clamp_min(tiny)[:, None]
        square = e.square().sum(1).clamp(0, 1)
        s = torch.where(square < 0.5, -torch.log1p(-square), -2 * (2 * area / q).log())
        e = e * (2 / _disc(s)).sqrt()[:, None]
        ratios = n[:, 1:] / n[:, :1].clamp_min(tiny)
        ratios = torch.where(e[:, 1:] < 0, ratios.flip(1), ratios)
        v = -torch.special.ndtri(2 * _normal(-e[:, 1:].abs()))
        size = (q / (1.5 * self.distance**2)).log() / _SPREAD
        y = torch.cat([size[:, None], torch.special.ndtri(ratios), e[:, :1], v], 1)
        log_det = -self._log_det(y, ratios, s)
        good = y.isfinite().all(1) & log_det.isfinite()
        return torch.where(good[:, None], y, 0.0), torch.where(good, log_det, -math.inf)

    def _log_det(self, y: Tensor, ratios: Tensor, s: Tensor) -> Tensor:
        log_q = math.log(1.5 * self.distance**2) + _SPREAD * y[:, 0]
        normal = -0.5 * y[:, 1:].square().sum(1) - math.log(8 * math.pi)
        sphere = -1.5 * (1 + ratios.square().sum(1)).log()
        log_det: Tensor = 3 * log_q + sphere + normal + math.log(_SPREAD / 16)
        return log_det


def _normal(z: Tensor) -> Tensor:
    """Φ(z), also where it is tiny: torch.special.ndtr is 0 from z = −9 on."""
    return 0.5 * torch.erfc(-math.sqrt(0.5) * z)


def _frame(n: Tensor) -> Tensor:
    """Two unit vectors across n (batch, 3), the first changing sign where n₂ and n₃ are exchanged, (batch, 3, 2)."""
    first = n.new_tensor([0.0, 1.0, -1.0]) - n * (n[:, 1:2] - n[:, 2:])
    first = first / first.square().sum(1, keepdim=True).sqrt()
    return torch.stack([first, torch.linalg.cross(n, first)], -1)


def _disc(s: Tensor) -> Tensor:
    """(1 − exp(−s))/s, which is 1 at 0."""
    s = s.clamp_min(torch.finfo(s.dtype).tiny)
    return -torch.expm1(-s) / s
