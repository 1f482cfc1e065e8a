"""One flow for every temperature: layers that keep volumes, and a base whose width is the square root of it."""

from __future__ import annotations

from ..errors import InputError
from .actnorm import ActNorm
from .autoregressive import Autoregressive
from .bijection import Bijection, Composition, Inverse
from .coupling import Coupling
from .flow import Flow
from .linear import Whitening
from .mixing import LU, Householder, Permutation
from .transformer import Additive, Mixed, Transformer

__all__ = ["steered"]


def steered(flow: Flow, ratio: float) -> Flow:
    """The same flow at `ratio` times its temperature: q_r(x) ∝ q(x)^(1/r), exactly, whatever its parameters.

    It takes layers whose Jacobian determinant is the same everywhere, additive couplings above all, and a base that can
    be tempered: normal, of r times the variance, on linear dimensions; uniform or von Mises on angles. If q is the
    Boltzmann distribution at T, then q_r is that at r T. The parameters are shared, not copied, so that data of many
    temperatures train the one flow: add up forward divergences of `steered(flow, r)`.

    Arguments:
        flow: e.g. `coupling_flow(d, transform="additive")`, perhaps between `ActNorm` and `LU` layers.
        ratio: r > 0.

    Returns:
        A flow with the same bijection.

    Raises:
        InputError: if a layer changes volumes by other factors at other places, the base cannot be tempered, or the
            ratio is not positive.

    Example:
        >>> import torch
        >>> from boltzgen.flows import coupling_flow
        >>> hot = steered(coupling_flow(1, transform="additive", layers=1), 4.0)
        >>> hot.sample(10_000, seed=1)[0].std().round(decimals=1)
        tensor(2.)

    References:
        Dibak, Klein, Krämer, Noé (2022), Temperature steerable flows and Boltzmann generators.
    """
    if not 0 < ratio < float("inf"):
        raise InputError(f"ratio must be positive; got {ratio}: pass T/T₀, e.g. 600 / 300")
    _check(flow.bijection)
    return Flow(flow.base.tempered(ratio), flow.bijection)


def _check(layer: Bijection) -> None:
    if isinstance(layer, Composition):
        for part in layer.steps():
            _check(part)
    elif isinstance(layer, Inverse):
        _check(layer.bijection)
    elif isinstance(layer, (Coupling, Autoregressive)):
        if not _keeps_volumes(layer.transformer):
            raise InputError(
                f"every layer must change all volumes alike; got {type(layer.transformer).__name__}: build the flow "
                "with transform='additive'"
            )
    elif not isinstance(layer, (Permutation, Householder, LU, ActNorm, Whitening)):
        raise InputError(
            f"every layer must change all volumes alike; got {type(layer).__name__}: build the flow of additive "
            "couplings and linear maps"
        )


def _keeps_volumes(transformer: Transformer) -> bool:
    if isinstance(transformer, Mixed):
        return _keeps_volumes(transformer.first) and _keeps_volumes(transformer.second)
    return isinstance(transformer, Additive)
