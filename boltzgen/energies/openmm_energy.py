"""Any System that OpenMM can evaluate as an `Energy`, through OpenMM itself, frame by frame."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import openmm
import torch
from torch import Tensor

from ..errors import EnergyError, InputError
from ..processes import processors
from ..units import kT
from .energy import Energy
from .forces import named_forces
from .openmm_context import Frames, dynamics_context
from .openmm_platforms import platforms
from .openmm_pool import Pool
from .openmm_system import check_supported, notes, translation_invariant
from .openmm_xml import serialize

__all__ = ["OpenMMEnergy"]

_REFERENCE_ATOMS = 64  # up to here the double loop of Reference beats the CPU platform's threads and single precision
_COMPILED_BY_CPU = (openmm.CustomNonbondedForce, openmm.CustomGBForce, openmm.CustomManyParticleForce)
_INHERITED: list[Frames | Pool | None] = []  # kept from before a fork: ending one waits for threads left behind


class OpenMMEnergy(Energy):
    """Reduced energy u(x) = U(x)/kT of an OpenMM System, evaluated by OpenMM.

    It takes every System that `check_supported` admits, and is slow: one frame at a time, from positions in double
    precision. `ForceFieldEnergy` is the fast way for the forces it knows. The gradient is −F/kT; there are no second
    derivatives. A frame that OpenMM refuses has u = +inf.

    The System is copied: later changes to it have no effect. Each Context uses one thread and each frame is evaluated
    on its own, so u depends neither on the other frames of the batch nor on `workers` (except that the CPU platform's
    neighbour list, used for forces with a cutoff, leaves a trace of earlier frames in the last bits).

    Arguments:
        system: an `openmm.System` without constraints and without periodic boundaries.
        temperature: in K.
        platform: name of an OpenMM platform. "auto" is Reference for up to 64 atoms, unless a custom force acts
            between all pairs (`CustomGBForce`, ...), and CPU for the rest; it never depends on a timing, so that a
            run can be repeated.
        workers: number of processes that share each batch; 0 evaluates in this process, "auto" starts one per
            available core. They need no `if __name__ == "__main__"`, and pay off from some dozens of frames on.

    Raises:
        InputError: if the temperature is not positive, or there is no such platform.
        UnsupportedSystemError: if the System cannot be sampled as it stands.
        EnergyError: if OpenMM cannot evaluate it on that platform.

    Example:
        >>> import openmm
        >>> system, bond = openmm.System(), openmm.HarmonicBondForce()
        >>> for _ in range(2):
        ...     _ = system.addParticle(12.0)
        >>> _ = bond.addBond(0, 1, 0.15, 1000.0)
        >>> _ = system.addForce(bond)
        >>> energy = OpenMMEnergy(system, 300.0)
        >>> energy.energy(torch.tensor([[[0.0, 0.0, 0.0], [0.25, 0.0, 0.0]]]))
        tensor([2.0045])
    """

    def __init__(
        self, system: openmm.System, temperature: float, *, platform: str = "auto", workers: int | str = 0
    ) -> None:
        check_supported(system)
        super().__init__((system.getNumParticles(), 3), temperature)
        self._engine: dict[str, Any] = {"platform": _platform(platform, system), "workers": _workers(workers)}
        self._names = list(named_forces(system))
        self._remarks = dict[str, str]()  # why OpenMM evaluates a force
        self._notes = notes(system)
        xml = serialize(system)
        self._system = re.sub(r' openmmVersion="[^"]*"', "", xml)  # for the fingerprint: no dict is
        self._settings: dict[str, Any] = {
            "xml": xml,
            "platform": self.platform,
            "centred": translation_invariant(system),
        }
        self._lock = threading.Lock()
        self._owner = {"pid": os.getpid()}
        frames = self._open()  # whatever OpenMM has against the System, it says now
        self._engine["backend"] = None if self.workers else frames

    @property
    def platform(self) -> str:
        """Name of the OpenMM platform."""
        return str(self._engine["platform"])

    @property
    def workers(self) -> int:
        """Number of processes that share each batch; 0 if this one evaluates it."""
        return int(self._engine["workers"])

    def describe(self) -> str:
        """Which force is evaluated where, and what there is to know of it, one per line."""
        why = {name: f", since {remark}" for name, remark in self._remarks.items()}
        lines = [f"{name}: OpenMM, {self.platform} platform{why.get(name, '')}" for name in self._names]
        return "\n".join([*lines, *(f"{name}: {note}" for name, note in self._notes.items())])

    def context(self, integrator: openmm.Integrator, masses: Sequence[float]) -> openmm.Context:
        """A new Context for this System on this platform, one thread, with other masses; nothing acts on velocities.

        Arguments:
            integrator: that the Context is to use.
            masses: one per particle, in dalton.
        """
        return dynamics_context(self._settings["xml"], self.platform, integrator, masses)

    def close(self) -> None:
        """End of the worker processes and of the Context; the next evaluation starts new ones."""
        with self._lock:
            self._leave_inherited()
            if isinstance(self._engine["backend"], Pool):
                self._engine["backend"].close()
            self._engine["backend"] = None

    def _energy(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():  # a loop over frames is nothing to compile; as a decorator: 3 s at import
            eager: Callable[[Tensor], Tensor] = torch.compiler.disable(self._differentiable)  # type: ignore[no-untyped-call]
            return eager(x)
        return self._differentiable(x)

    def _differentiable(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            u: Tensor = _WithGradient.apply(x, self)  # type: ignore[no-untyped-call]
            return u
        return self._evaluate(x, gradient=False)[0]

    def _evaluate(self, x: Tensor, *, gradient: bool) -> tuple[Tensor, Tensor | None]:
        """u and ∂u/∂x in x's dtype; rows of the gradient that are not finite are 0."""
        positions = x.detach().to("cpu", torch.float64).contiguous().numpy()
        with self._lock:
            U, F = self._ready().evaluate(positions, forces=gradient)
        beta = 1.0 / kT(self.temperature)
        u = (beta * torch.from_numpy(U)).to(x)
        if F is None:
            return u, None
        g = (-beta * torch.from_numpy(F)).to(x)
        finite = torch.isfinite(g).flatten(1).all(1)[:, None, None]
        return u, torch.where(finite, g, torch.zeros_like(g))

    def _ready(self) -> Frames | Pool:
        self._leave_inherited()
        backend: Frames | Pool | None = self._engine["backend"]
        if backend is None:
            backend = Pool(self.workers, **self._settings) if self.workers else self._open()
            self._engine["backend"] = backend
        return backend

    def _leave_inherited(self) -> None:
        """After a fork the Context's threads and the pipes to the workers are the parent's."""
        if self._owner["pid"] != os.getpid():
            _INHERITED.append(self._engine["backend"])
            self._engine["backend"], self._owner = None, {"pid": os.getpid()}

    def _open(self) -> Frames:
        try:
            return Frames(**self._settings)
        except openmm.OpenMMException as error:
            raise EnergyError(
                f"OpenMM must be able to evaluate this System on platform {self.platform}; got {error}: "
                "check its forces, or choose another platform"
            ) from None

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_lock"} | {
            "_engine": self._engine | {"backend": None}
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._lock = threading.Lock()
        self._owner = {"pid": os.getpid()}


class _WithGradient(torch.autograd.Function):
    """u of an `OpenMMEnergy`, with the gradient found on the way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, energy: OpenMMEnergy) -> Tensor:
        u, gradient = energy._evaluate(x, gradient=True)
        ctx.save_for_backward(x, gradient)
        return u

    @staticmethod
    def backward(ctx: Any, grad_u: Tensor) -> tuple[Tensor, None]:
        x, gradient = ctx.saved_tensors
        return _Gradient.apply(x, gradient, grad_u), None  # type: ignore[no-untyped-call]


class _Gradient(torch.autograd.Function):
    """The gradient as a function of x whose own derivative is refused, not silently 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gradient: Tensor, grad_u: Tensor) -> Tensor:
        return grad_u[:, None, None] * gradient

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        raise EnergyError(
            "OpenMMEnergy must be differentiated only once; got a request for second derivatives, which OpenMM does "
            "not have: use ForceFieldEnergy, or differences of gradients"
        )


def _platform(name: str, system: openmm.System) -> str:
    available, problems = platforms()
    if name == "auto":
        small = system.getNumParticles() <= _REFERENCE_ATOMS
        reference = small and not any(isinstance(force, _COMPILED_BY_CPU) for force in system.getForces())
        return "Reference" if reference or "CPU" not in available else "CPU"
    if name not in available:
        failures = [line for line in problems if f"OpenMM{name}." in line]
        why = f" (OpenMM says: {failures[0]})" if failures else ""
        raise InputError(
            f'platform must be "auto" or one of {", ".join(available)}; got {name!r}{why}: choose one that is there'
        )
    return name


def _workers(workers: int | str) -> int:
    if workers == "auto":
        return processors() if processors() > 1 else 0
    if not isinstance(workers, Integral) or isinstance(workers, bool) or workers < 0:
        raise InputError(f'workers must be a number of processes or "auto"; got {workers!r}: pass 0 for none')
    return int(workers)
