"""Learning where the flow lacks most: its draws, annealed towards p²/q, kept and learnt from again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..arguments import instances, positive_counts
from ..energies.energy import Energy
from ..errors import CheckpointError, InputError
from ..flows.flow import Flow
from ..flows.latent import Latent
from ..processes import ranks
from .fresh_draws import frozen
from .objectives import cross_entropy

__all__ = ["AnnealedReplay"]

_ORDER = 2.0
"""of the divergence; what is learnt from has the law q (p/q)^2."""
_FIRST_STEP, _LONGEST = 0.3, 1.2
"""of the leapfrog, whose steps in the flow's own law are stable below 2."""
_ACCEPTANCE = 0.65
"""aimed at by the steps."""
_LARGEST = 2**24
"""rows that can be chosen among."""
_JITTER = 0.3
"""relative spread of the steps, against trajectories that close on themselves."""


class AnnealedReplay:
    """Divergence of order two, ∫ p²/q, learnt from annealed draws of the flow that are kept for a while (FAB).

    Its gradient is that of the likelihood of draws x ~ g ∝ p²/q, which are dense where the flow lacks most,

        ∂/∂θ log ∫ p²/q dx = −E_g[∂ log q(x)/∂θ],

    and needs no samples of the target. Every few steps n draws of the flow pass through the laws q (p/q)^β, 0 < β < 2,
    by Metropolised Hamiltonian moves in the flow's latent space; annealed importance sampling gives them their weights
    for g. So wells that the flow has next to nothing in are found, if moves lead there. The draws of the last times are
    kept with weights and log q; a step learns from n of them, chosen with probabilities as their weights. Since they
    came, g has changed with the flow by q_old/q: that is the weight a chosen row has in the loss, and thereafter part
    of the one it is chosen by. A flow still far off gives all the weight to a few rows: let it learn by `reverse_kl`,
    softened, first.

    It is an objective with a memory: `train(flow, AnnealedReplay(target, 512), steps=…)` keeps it in the checkpoint and
    resumes to the same bits. Within a function, as in `lambda q: replay(q) + forward_kl(q, x)`, `train` cannot see it:
    a run taken up again begins with an empty memory.

    Arguments:
        target: the energy u, in kT, with a gradient; p ∝ exp(−u).
        n: rows of a step, and draws annealed at a time; each costs 1 + stages · leapfrog evaluations of the target.
        stages: laws between q and g, at equal distances in β.
        leapfrog: steps of a trajectory, of which there is one at each stage. Their lengths adapt to acceptance.
        reuse: steps between one annealing and the next.
        memory: annealings whose draws are kept.

    References:
        Midgley, Stimper, Simm, Schölkopf & Hernández-Lobato (2023), "Flow annealed importance sampling bootstrap",
        ICLR, equations 5-7 and algorithm 1. Neal, Stat. Comput. 11, 125 (2001), for the annealing; Schaul, Quan,
        Antonoglou & Silver (2016), for prioritised replay.

    Example:
        >>> target, flow = toys.Gaussian([3.0], [[0.5]]), coupling_flow(1)
        >>> history = train(flow, AnnealedReplay(target, 64), steps=8, progress=False)
        >>> target.evaluations  # twice 64 draws, 1 + 4 · 3 times
        Evaluations(energy=0, gradient=1664)
    """

    def __init__(
        self, target: Energy, n: int, *, stages: int = 4, leapfrog: int = 3, reuse: int = 4, memory: int = 64
    ) -> None:
        instances(target=(target, Energy))
        self.target = target
        self.n, self.stages, self.leapfrog, self.reuse, self.memory = positive_counts(
            n=n, stages=stages, leapfrog=leapfrog, reuse=reuse, memory=memory
        )
        if n * memory > _LARGEST:
            raise InputError(
                f"the memory must hold at most {_LARGEST} rows; got {memory} times {n}: remember fewer times"
            )
        self._of = f"{target.fingerprint} {n} {stages} {leapfrog} {reuse} {memory}"
        self._calls = 0
        self._step = torch.full((self.stages,), _FIRST_STEP, dtype=torch.float64)
        self._kept: tuple[Tensor, ...] = ()
        """x, log of the weights for g as it was when log q(x) was this, and log q(x): in main memory."""

    def __call__(self, flow: Flow) -> Tensor:
        """−Σ w̄ log q(x) over n rows of the memory; NaN, which `train` skips, if none has any weight."""
        instances(flow=(flow, Flow))
        if flow.context_size:
            raise InputError(
                f"flow must need no context; got one of size {flow.context_size}: pass flow.at(T), or flow.given(c)"
            )
        if self._calls % self.reuse == 0:
            new = [column.cpu() for column in self._annealed(flow)]
            columns = zip(self._kept, new, strict=True) if self._kept else ((column,) for column in new)
            self._kept = tuple(torch.cat(column)[-self.memory * self.n :].clone() for column in columns)
        self._calls += 1
        x, log_w, log_q = self._kept
        if not log_w.isfinite().any():
            return next(flow.parameters()).new_full((), torch.nan)
        rows = torch.multinomial(log_w.softmax(0), self.n, replacement=True)
        some = x[rows].to(flow.base._like.device)
        (now,) = ranks().shared(lambda mine: (flow.log_prob(some[mine]),), self.n)
        log_now = now.detach().cpu().double()
        change = torch.where(log_now.isfinite(), log_q[rows] - log_now, -torch.inf)
        self._kept = x, log_w.index_put((rows,), log_w[rows] + change), log_q.index_put((rows,), log_now)
        if not change.isfinite().any():
            return now.new_full((), torch.nan)
        return cross_entropy(now, change.to(now.device))

    @torch.no_grad()
    def _annealed(self, flow: Flow) -> tuple[Tensor, Tensor, Tensor]:
        """n draws of the flow after their moves towards g; log W, in which those of weight zero have −inf; log q."""
        z = flow.base.sample(self.n)
        spread, uniform = torch.rand(2, self.n, self.stages, dtype=torch.float64).to(z.device)
        velocity = torch.randn(self.stages, *z.shape, dtype=z.dtype).to(z.device)
        step = self._step.to(z.device) * (1 + _JITTER * (2 * spread - 1))
        rise = _ORDER / (self.stages + 1)

        def rows(mine: slice) -> tuple[Tensor, ...]:
            latent = Latent(flow, lambda x: (self.target.energy(x).double(), ()))
            walkers = latent.at(z[mine])
            log_w, accepted = rise * walkers.log_w, []
            for k in range(self.stages):
                noise = velocity[k, mine], uniform[mine, k]
                walkers, moved = latent.moved(walkers, rise * (k + 1), step[mine, k], self.leapfrog, *noise)
                log_w = log_w + rise * walkers.log_w
                accepted.append(moved)
            others = self.n - len(walkers.z)  # the rows of the other processes
            self.target.evaluations.gradient += others * (1 + self.stages * self.leapfrog)
            return walkers.x, log_w, -walkers.u - walkers.log_w, torch.stack(accepted, 1).double()

        with frozen(flow):
            x, log_w, log_q, accepted = ranks().shared(rows, self.n)
        self._step = (self._step * (accepted.mean(0).cpu() - _ACCEPTANCE).exp()).clamp_max(_LONGEST)
        return x, log_w, log_q

    def state_dict(self) -> dict[str, Any]:
        """Plain data from which `load_state_dict` continues to the same bits."""
        return {"of": self._of, "calls": self._calls, "step": self._step, "kept": list(self._kept)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what `state_dict` gave.

        Raises:
            CheckpointError: if that was of another target or other arguments.
        """
        if state.get("of") != self._of:
            raise CheckpointError(
                "the memory must be that of this target, with these arguments; got that of another: begin anew, in "
                "another file"
            )
        self._calls, self._step, self._kept = state["calls"], state["step"], tuple(state["kept"])
