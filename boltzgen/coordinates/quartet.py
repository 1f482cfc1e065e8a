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
    particles permutes the rows of W and changes their signs; a rotation or mirror image turns its columns. Neither
    changes what is left of W but the plane in R³ that the columns span, of unit normal n, which relabelling takes to

        n₁ ≥ n₂ ≥ n₃ ≥ 0,

    one of the 48 triangles that the mirror planes of a cube cut the sphere into, and the Gram matrix
    Q = ½ q [1 + e₁, e₂; e₂, 1 − e₁] of the rows within it: q = Σ|xᵢ|², and e in the unit disc, where e = 0 has equal
    moments of inertia and |e| = 1 lies on a line. In these the measure is flat,

        dX = 1/16 · q² dq · d²e · d²n · dθ,

    with θ the angle of the rotation that is left out, and the chart has nothing to cut it but the sides of the
    triangle. y takes them to the real line, such that a normal law of y₁ … y₄ is uniform in e and nearly so in n:

        q = 3/2 d² exp(y₀/4),  (n₂/n₁)² = Φ(y₁),  n₃/n₂ = Φ(y₂),  e = (y₃, y₄) √((1 − exp(−s))/2s),  s = ½ (y₃² + y₄²).

    log_det is that of (y, θ) ↦ X in orthonormal coordinates. `inverse` takes positions of any labels, turned, mirrored
    and moved: `forward(inverse(x))` is one of the same distances. Where all four lie on one line, which has measure
    zero, log_det is −inf.

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
        size, first, second, *e = z.unbind(-1)
        s = 0.5 * (e[0].square() + e[1].square())
        q = 1.5 * self.distance**2 * (_SPREAD * size).exp()
        tiny = torch.finfo(z.dtype).tiny
        t, b = torch.special.ndtr(first).clamp_min(tiny), torch.special.ndtr(second)
        n = torch.stack([torch.ones_like(t), t.sqrt(), b * t.sqrt()], -1)
        frame = _frame(n / n.square().sum(-1, keepdim=True).sqrt())
        shrink = (_disc(s) / 2).sqrt()
        x, y, det = shrink * e[0], shrink * e[1], (-s / 2).exp()  # det Q = (det q/2)²
        root = torch.stack([1 + x + det, y, y, 1 - x + det], -1).view(-1, 2, 2)
        root = (0.5 * q / (1 + det)).sqrt()[:, None, None] * 0.5**0.5 * root  # the symmetric root of Q
        positions = self._hadamard.to(z).T @ (frame @ root)
        return positions.flatten(1), self._log_det(z, t, b)

    def _inverse(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        w = self._hadamard.to(x) @ x.reshape(-1, 4, 2)
        a, b = w.unbind(-1)
        n = torch.linalg.cross(a, b)
        size, order = n.abs().sort(-1, descending=True)
        w = torch.where(n < 0, -1.0, 1.0).to(x)[..., None] * w
        w = w.gather(-2, order[..., None].expand_as(w))
        tiny = torch.finfo(x.dtype).tiny
        area = size.square().sum(-1).sqrt()
        gram = _frame(size / area.clamp_min(tiny)[..., None]).mT @ w
        gram = gram @ gram.mT
        q = gram[:, 0, 0] + gram[:, 1, 1]
        e = torch.stack([gram[:, 0, 0] - gram[:, 1, 1], 2 * gram[:, 0, 1]], -1) / q.clamp_min(tiny)[:, None]
        square = e.square().sum(-1).clamp(0, 1)
        s = torch.where(square < 0.5, -torch.log1p(-square), -2 * (2 * area / q).log())
        e = e * (2 / _disc(s)).sqrt()[:, None]
        largest, middle, least = size.unbind(-1)
        t = _quantile(middle.square(), (largest - middle) * (largest + middle), largest.square())
        b = _quantile(least, middle - least, middle)
        size = (q / (1.5 * self.distance**2)).log() / _SPREAD
        y = torch.cat([torch.stack([size, t, b], -1), e], -1)
        log_det = -self._log_det(y, torch.special.ndtr(t), torch.special.ndtr(b))
        good = y.isfinite().all(-1) & log_det.isfinite()
        return torch.where(good[:, None], y, 0.0), torch.where(good, log_det, -math.inf)

    def _log_det(self, y: Tensor, t: Tensor, b: Tensor) -> Tensor:
        log_q = math.log(1.5 * self.distance**2) + _SPREAD * y[:, 0]
        normal = -0.5 * y[:, 1:].square().sum(-1) - math.log(2 * math.pi)
        log_det: Tensor = 3 * log_q + normal - 1.5 * (1 + t * (1 + b * b)).log() + math.log(_SPREAD / 64)
        return log_det


def _frame(n: Tensor) -> Tensor:
    """Two unit vectors across n (batch, 3), smooth on the triangle and mirrored where n₂ and n₃ are, (batch, 3, 2)."""
    first = n.new_tensor([0.0, 1.0, -1.0]) - n * (n[:, 1:2] - n[:, 2:])
    first = first / first.square().sum(-1, keepdim=True).sqrt()
    return torch.stack([first, torch.linalg.cross(n, first)], -1)


def _disc(s: Tensor) -> Tensor:
    """(1 − exp(−s))/s, which is 1 at 0."""
    s = s.clamp_min(torch.finfo(s.dtype).tiny)
    return -torch.expm1(-s) / s


def _quantile(part: Tensor, rest: Tensor, whole: Tensor) -> Tensor:
    """z of Φ(z) = part/whole = 1 − rest/whole, from the smaller of the two."""
    whole = whole.clamp_min(torch.finfo(whole.dtype).tiny)
    lower = torch.special.ndtri(torch.minimum(part, rest) / whole)
    return torch.where(part < rest, lower, -lower)
