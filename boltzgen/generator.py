"""The facade: one target, the coordinates and the flow that suit it, and the verbs train, sample, save and load."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

from .arguments import counts, device_of, instances, positive_counts, positive_numbers
from .checkpoint import load_checkpoint, save_checkpoint
from .coordinates import InternalCoordinates
from .coordinates.frames import in_chart
from .energies import Energy, Pullback, toys
from .errors import CheckpointError, InputError
from .files import as_path, exclusive
from .flows import Flow, coupling_flow, molecular_flow
from .molecule import Molecule, find
from .molecule.systems import System
from .processes import ranks
from .run_folder import RunFolder
from .sampling import Samples, draw, weigh
from .training import History, anneal, chart_data
from .units import positive_temperature

if TYPE_CHECKING:
    from .training.annealing import Method
    from .training.compilation import Compile

__all__ = ["BoltzmannGenerator"]

_KIND = "generator"
HOTTER = 4.0
"""Temperature at which the training of a molecule starts, in units of the one wanted."""
_COMPARED, _SAME = 64, 1e-2
"""draws compared to tell flows apart, and the difference in log q, of the inverse in float32, that says nothing."""


class BoltzmannGenerator:
    """A target density, and a flow trained to draw from it.

    For a molecule the flow lives on internal coordinates and starts as the force field's own harmonic approximation at
    four times the temperature; for any other energy it is made of spline couplings that start from a normal law.

    Arguments:
        target: a `Molecule`, a system that `find` found, or an `Energy` of configurations (d,).
        temperature: K; what the molecule's system says if None. An `Energy` has its own.
        up_to: K; if given, one training serves all temperatures from `temperature` to this one, see `at`.
        flow: a flow for the target, if not the one chosen here.
        seed: of the flow's initial weights and of the noise of training.
        hold: torsions of the molecule to keep near its structure's, see `InternalCoordinates`.

    Attributes:
        molecule, coordinates: of a molecular target, else None.
        target: the density that is learned; for a molecule a `Pullback` on its internal coordinates.
        flow: the flow.
        history: of the last training, None before.

    Example:
        >>> generator = BoltzmannGenerator(toys.DoubleWell())
        >>> history = generator.train(steps=50, progress=False)
        >>> generator.sample(1000, seed=1).x.shape
        torch.Size([1000, 2])
    """

    def __init__(
        self,
        target: Molecule | System | Energy,
        *,
        temperature: float | None = None,
        up_to: float | None = None,
        flow: Flow | None = None,
        seed: int = 0,
        hold: Sequence[str] = (),
    ) -> None:
        self.molecule: Molecule | None = None
        self.coordinates: InternalCoordinates | None = None
        (self.seed,) = counts(seed=seed)
        self.history: History | None = None
        self._toy: dict[str, Any] | None = None
        self._hold = [hold] if isinstance(hold, str) else list(hold)
        self._at = False
        if isinstance(target, System):
            if target.toy is not None:
                self._toy = {"name": target.toy, "parameters": dict(target.parameters)}
            target = target.molecule() if target.toy is None else target.energy()
        if isinstance(target, Molecule):
            self.molecule = target
            self.temperature = positive_temperature(target.default_temperature if temperature is None else temperature)
            self.coordinates = InternalCoordinates(target, hold=self._hold)
            self.target: Energy = Pullback(target.energy(self.temperature), self.coordinates)
        elif isinstance(target, Energy):
            if temperature is not None and temperature != target.temperature:
                target = target.at(temperature)
            self.target, self.temperature = target, target.temperature
        else:
            raise InputError(
                f"target must be a Molecule or an Energy; got {type(target).__name__}: use e.g. Molecule.from_pdb(path)"
            )
        if self._hold and self.molecule is None:
            raise InputError(
                f"hold must name torsions of a molecule; got {self._hold} for another target: leave it out"
            )
        if flow is None and len(self.target.event_shape) != 1:
            raise InputError(
                f"target must be a Molecule, or an Energy of configurations (d,); got one of "
                f"{tuple(self.target.event_shape)}: for the positions of a molecule pass the Molecule itself"
            )
        self.up_to = None if up_to is None else positive_temperature(up_to)
        if self.up_to is not None and self.up_to < self.temperature:
            raise InputError(
                f"up_to must not be below the temperature; got up_to={up_to:g} and {self.temperature:g}: pass the "
                "hottest temperature of the range"
            )
        self.flow = self._default_flow() if flow is None else flow
        instances(flow=(self.flow, Flow))
        if self.up_to is not None and self.flow.temperature is None:
            raise InputError(
                "the flow of a range must be one for every temperature; got another: build it with temperature=T, or "
                "leave out up_to"
            )
        if self.flow.event_shape != self.target.event_shape:
            raise InputError(
                f"the flow must draw configurations of shape {tuple(self.target.event_shape)}; "
                f"got {tuple(self.flow.event_shape)}: build it for this target"
            )

    def train(
        self,
        *,
        minutes: float | None = None,
        steps: int | None = None,
        data: Any = None,
        method: Method = "auto",
        run_dir: str | os.PathLike[str] | None = None,
        about: Mapping[str, Any] | None = None,
        begun: Callable[[], None] = lambda: None,
        compile: Compile = "auto",
        progress: bool = True,
    ) -> History:
        """Trains the flow on the energy, and on data to start from if there are any; see `anneal`.

        Arguments:
            minutes, steps: the budget, one of them; ten minutes if neither is given.
            data: frames of the molecule at this temperature, (m, n_atoms, 3) in nm or an mdtraj trajectory, see
                `chart_data`; for another target configurations (m, d). They need not be converged.
            method: of going down in temperature, see `anneal`.
            run_dir: folder for checkpoints and the trained generator; called again with it, training goes on where it
                stopped, also after a crash. One training at a time may use it. Beside them run.json says what was
                trained, when, where and with which versions, and metrics.jsonl how it goes.
            about: plain data to keep in run.json.
            begun: called once run.json is written: from there on the run folder can be gone on with.
            compile: "auto", "always" or "never"; see `compiled`.
            progress: whether to show progress on standard error.

        Returns:
            The record of the training.
        """
        self._require_whole("trained")
        if minutes is None and steps is None:
            minutes = 10.0
        if minutes is not None:
            (minutes,) = positive_numbers(minutes=minutes)
        if steps is not None:
            (steps,) = positive_counts(steps=steps)
        if data is not None and isinstance(self.target, Pullback) and self.coordinates is not None:
            data = chart_data(self.target, data)
        settings = {"temperature": self.temperature, "up_to": self.up_to, "seed": self.seed, "method": method}
        settings |= {"minutes": minutes, "steps": steps}
        folder = None if run_dir is None else RunFolder(run_dir, {**settings, **(about or {})}, begun)
        with nullcontext() if folder is None else _held(folder):
            self.history = anneal(
                self.flow,
                self.target,
                method=method,
                hot=self._hot,
                steps=steps,
                minutes=minutes,
                data=None if data is None else torch.as_tensor(data),
                seed=self.seed,
                checkpoint=None if folder is None else folder.training,
                fingerprint=self.fingerprint,
                compile=compile,
                watch=folder if ranks().leads else None,
                progress=progress,
            )
            if folder is not None and ranks().leads:
                self.save(folder.generator)
                folder.finish(self.history)
        return self.history

    def sample(self, n: int, *, seed: int | None = None, batch_size: int = 1024, progress: bool = False) -> Samples:
        """n weighted draws; see `draw`."""
        return draw(self.here, self.target, n, seed=seed, batch_size=batch_size, progress=progress)

    def weigh(self, configurations: Any) -> Samples:
        """Configurations known to exist, with the weights this flow would give them: where it lost a mode, huge ones.

            judge(generator.sample(100_000), reference_log_w=generator.weigh(frames).log_w)

        Arguments:
            configurations: of a molecule frames, as for `train`; of another target (m, d).

        Raises:
            InputError: if they are not the molecule's or the target's, or more than 1 % lie outside the chart.

        Warns:
            UserWarning: if some frames, outside the chart, were left out.
        """
        if self.coordinates is not None:
            return weigh(self.here, self.target, in_chart(self.coordinates, configurations)[0])
        return weigh(self.here, self.target, torch.as_tensor(configurations))

    def drew(self, samples: Samples) -> bool:
        """Whether these are draws of this flow as it is now: not if it was trained further since."""
        instances(samples=(samples, Samples))
        x, log_q = samples.x[samples.u.isfinite()][:_COMPARED], samples.log_q[samples.u.isfinite()][:_COMPARED]
        home = next(self.flow.buffers())
        if x.shape[1:] != self.flow.event_shape or not len(x):
            return False
        with torch.no_grad():
            again = self.here.log_prob(x.to(home)).double().cpu()
        return float((again - log_q).abs().median()) < _SAME

    @property
    def here(self) -> Flow:
        """The flow at this temperature."""
        return self.flow if self.flow.temperature is None else self.flow.at(self.temperature)

    def at(self, temperature: float) -> BoltzmannGenerator:
        """This generator at another temperature of its range: `generator.at(450.0).sample(n)`.

        It shares the flow, and can do all but be trained or saved, as the whole range can. Weights are exact at any
        temperature; beyond the range, few draws may be effective.

        Arguments:
            temperature: K.

        Raises:
            InputError: if the flow was made for one temperature alone.
        """
        self.flow.at(temperature)  # refuses what it cannot be
        other = copy.copy(self)
        other._at = True
        other.target, other.temperature = self.target.at(temperature), positive_temperature(temperature)
        return other

    def to(self, device: str | torch.device) -> Self:
        """Moves the target and the flow, and with them all further work, to a device.

        A draw is the same on every device up to rounding: its noise is made on the CPU. Weights stay float64 sums.

        Arguments:
            device: "cpu", "cuda" or "cuda:1"; "auto" is a GPU if there is one.

        Raises:
            InputError: if there is no such device.
        """
        device = device_of(device)
        self.target.to(device)
        self.flow.to(device)
        return self

    @property
    def fingerprint(self) -> str:
        """What a checkpoint must agree on: the target, its chart and temperature, and the flow's architecture."""
        if self.molecule is not None and self.coordinates is not None:
            what = self.molecule.fingerprint + self.coordinates.fingerprint
        else:
            what = self.target.fingerprint
        return hashlib.sha256(repr((what, self.temperature, self.seed, self.flow.architecture)).encode()).hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Saves the generator, its molecule included, so that `load` needs nothing else.

        A toy is saved by its name, if it was found by it. An `Energy` of one's own is not: give it to `load`.
        """
        self._require_whole("saved")
        state: dict[str, Any] = {
            "molecule": None if self.molecule is None else self.molecule.state(),
            "toy": self._toy,
            "temperature": self.temperature,
            "up_to": self.up_to,
            "seed": self.seed,
            "hold": self._hold,
            "flow": self.flow.state_dict(),
            "history": None if self.history is None else self.history.state_dict(),
        }
        save_checkpoint(as_path(path), state, fingerprint=self.fingerprint, kind=_KIND)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, target: Energy | None = None, flow: Flow | None = None
    ) -> BoltzmannGenerator:
        """The generator saved at `path`, or the trained one that comes with a bundled system.

        Arguments:
            path: a file written by `save`, a run folder of `train`, or the name of a bundled system.
            target: the energy, if it was neither a molecule's nor a toy's.
            flow: a flow of the same architecture, if it was not the one chosen here.

        Raises:
            CheckpointError: if the file is damaged or belongs to another target or flow.
            InputError: if there is no such file, or the system comes without a trained generator.

        Example:
            >>> BoltzmannGenerator.load("alanine_dipeptide").sample(10, seed=1).positions().shape
            torch.Size([10, 22, 3])
        """
        file = _saved(as_path(path))
        state = load_checkpoint(file, kind=_KIND)
        toy, temperature = state.get("toy"), state["temperature"]
        if (state["molecule"] is None and toy is None) != (target is not None):
            need = "pass the energy it was made with as target=…" if target is None else "leave out target"
            raise CheckpointError(f"{file} must be loaded with what it was made of; got the contrary: {need}")
        if target is not None:
            subject: Molecule | Energy = target
            temperature = None
        elif toy is not None:
            subject = toys.load(toy["name"], **toy["parameters"])
        else:
            subject = Molecule.from_state(state["molecule"])
        made = {"up_to": state.get("up_to"), "seed": state["seed"], "hold": state.get("hold", ())}
        generator = cls(subject, temperature=temperature, flow=flow, **made)
        generator._toy = toy
        load_checkpoint(file, fingerprint=generator.fingerprint, kind=_KIND)
        generator.flow.load_state_dict(state["flow"])
        if state["history"] is not None:
            generator.history = History.from_state(state["history"])
        return generator

    def _default_flow(self) -> Flow:
        if self.coordinates is not None:
            scales = self.coordinates.harmonic_scales(self.up_to or HOTTER * self.temperature)
            return molecular_flow(self.coordinates.circular, *scales, temperature=self.up_to, seed=self.seed)
        return coupling_flow(self.target.event_shape.numel(), temperature=self.up_to, seed=self.seed)

    def _require_whole(self, done: str) -> None:
        if self._at:
            raise InputError(
                f"what is {done} must be the generator of the whole range; got that at {self.temperature:g}, which "
                "shares its flow: use the one that at() was called on"
            )

    @property
    def _hot(self) -> float | None:
        """Where training starts."""
        return self.up_to or (None if self.coordinates is None else HOTTER * self.temperature)


@contextmanager
def _held(folder: RunFolder) -> Iterator[None]:
    """A folder of this training, in which no other works; of several processes one holds it for all."""
    with ExitStack() as held:

        def hold() -> None:
            held.enter_context(exclusive(folder.path))
            folder.require_own()

        ranks().first(hold)
        yield


def _saved(path: Path) -> Path:
    """The file of a saved generator, of the bundled ones too."""
    if path.is_dir():
        run = RunFolder(path)
        if run.training.exists() and not run.generator.exists():
            raise InputError(
                f"{path} must be the folder of a training that has ended; got one that was interrupted: go on with "
                "`boltzgen resume`, or train(run_dir=…)"
            )
        return run.generator
    if path.exists() or len(path.parts) > 1 or path.suffix:
        return path
    file = find(str(path)).folder / "generator.pt"
    if not file.exists():
        raise InputError(f"{path} must come with a trained generator; got a system without one: train it first")
    return file
