"""Several processes give what one gives, part cleanly, and do not outlive one of them.

Run by torchrun, this file is one of the processes.
"""

import itertools
import math
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from boltzgen import (
    AnnealedReplay,
    Energy,
    Samples,
    alpha_divergence,
    anneal,
    coupling_flow,
    draw,
    flow_matching,
    force_matching,
    forward_kl,
    log_variance,
    molecular_flow,
    reverse_kl,
    toys,
    train,
)
from boltzgen.checkpoint import load_checkpoint
from boltzgen.errors import InputError, RankError
from boltzgen.flows import Continuous, Flow, Normal
from boltzgen.processes import Ranks, distributed, ranks
from boltzgen.training import coordinate_entropy

STEPS = 50
TARGET = toys.DoubleWell()


class Hinge(Energy):
    """A bond whose length follows a torsion with two wells."""

    def __init__(self):
        super().__init__((2,))

    def _energy(self, x):
        length, phi = x.unbind(-1)
        return 0.5 * ((length - 0.3 * phi.cos()) / 0.2).square() - 2.0 * (2 * phi).cos() - phi.cos()


def hinge_flow(temperature=None):
    """A flow in two parts."""
    scale = torch.full((1, 1), 0.5)
    sizes = {"torsion_bins": 8, "torsion_hidden": (8,), "stiff_layers": 2, "stiff_hidden": (8,)}
    return molecular_flow([False, True], torch.zeros(1), scale, **sizes, temperature=temperature, seed=1)


def flow_of():
    return coupling_flow(2, layers=2, hidden=(8,), seed=1)


def parameters(flow):
    return torch.cat([p.detach().flatten() for p in flow.parameters()]).double().cpu()


def trained(objective, dtype, device="cpu"):
    flow = flow_of().to(device, dtype)
    train(flow, lambda q: objective(q, dtype), steps=STEPS, learning_rate=3e-3, progress=False)
    return parameters(flow)


def both(flow, dtype):
    """Energy, weighted data, and a term that no process shares."""
    x = torch.linspace(-2, 2, 130, dtype=dtype, device=next(flow.parameters()).device).view(65, 2)
    log_w = -TARGET.energy(x)
    size = sum(p.square().sum() for p in flow.parameters())
    return reverse_kl(flow, TARGET, 100, soften=20.0) + 0.5 * forward_kl(flow, x, log_w) + 0.1 * size


def everything(device="cpu"):
    """What is compared between numbers of processes."""
    found = {f"{dtype}": trained(both, dtype, device) for dtype in (torch.float32, torch.float64)}
    found["variance"] = trained(lambda q, _: log_variance(q, TARGET, 100), torch.float64, device)
    found["alpha"] = trained(lambda q, _: alpha_divergence(q, TARGET, 101, trust=0.9), torch.float64, device)
    found["entropy"] = trained(
        lambda q, _: reverse_kl(q, TARGET, 100) - 0.1 * coordinate_entropy(q, lambda x: x[:, 0], 100, width=0.3),
        torch.float64,
        device,
    )
    replay = AnnealedReplay(toys.DoubleWell(), 50, stages=2)
    found["replay"] = trained(lambda q, _: replay(q), torch.float64, device)
    found["replay's ledger"] = torch.tensor(replay.target.evaluations.total)
    x = torch.linspace(-1, 1, 66, dtype=torch.float64, device=device).view(33, 2)
    counted = toys.DoubleWell()
    with torch.no_grad():
        reverse_kl(flow_of().to(device, torch.float64), counted, 33)
    found["ledger without gradients"] = torch.tensor([counted.evaluations.energy, counted.evaluations.gradient])
    found["forces"] = trained(lambda q, _: force_matching(q, x, -x), torch.float64, device)
    flow = Flow(Normal(2), Continuous(2, hidden=(8,), steps=2, generator=torch.Generator().manual_seed(1)))
    flow = flow.to(device, torch.float64)
    train(flow, lambda q: flow_matching(q, x), steps=STEPS, progress=False)
    found["velocity"] = parameters(flow)
    flow = flow_of().to(device, torch.float64)
    target = toys.DoubleWell()
    history = anneal(flow, target, hot=4.0, steps=40, progress=False)
    found["annealed"] = parameters(flow)
    found["ledger"] = torch.tensor([history.energy, history.gradient, history.training_samples])
    for method in ("continuous", "transport"):
        flow = flow_of().to(device, torch.float64)
        history = anneal(flow, toys.DoubleWell(), method=method, hot=4.0, steps=40, progress=False)
        found[method] = parameters(flow)
        found[f"{method}, ledger"] = torch.tensor([history.energy, history.gradient, history.training_samples])
    flow = hinge_flow().to(device, torch.float64)
    history = anneal(flow, Hinge(), hot=2.0, steps=140, progress=False)
    assert history.rounds[-1].temperature == 1.0
    found["annealed in parts"] = parameters(flow)
    for name, flow, energy in (
        ("a range", coupling_flow(2, layers=2, hidden=(8,), temperature=1.0, seed=1), target),
        ("a range in parts", hinge_flow(temperature=2.0), Hinge()),
    ):
        flow = flow.to(device, torch.float64)
        history = anneal(flow, energy, hot=2.0, steps=60, progress=False)
        found[name] = parameters(flow)
        found[f"ledger of {name}"] = torch.tensor([history.energy, history.gradient, history.training_samples])
    found["a row that is NaN"] = interrupted(device, row=True)
    found["a gradient that is NaN"] = interrupted(device, row=False)
    found["draws"] = drawn(7300, device)
    return found


def interrupted(device, *, row):
    """A training of which two steps cannot be taken, and only the last process could tell by itself."""
    flow, steps = flow_of().to(device, torch.float64), itertools.count()
    x = torch.linspace(-2, 2, 130, dtype=torch.float64, device=device).view(65, 2)

    def objective(q):
        wrong = next(steps) in (5, 20)
        loss = forward_kl(q, torch.cat([x[:-1], x[-1:] + math.nan]) if wrong and row else x)
        if wrong and not row and ranks().rank == ranks().size - 1:
            loss.register_hook(lambda gradient: gradient * math.nan)
        return loss

    history = train(flow, objective, steps=STEPS, learning_rate=3e-3, progress=False)
    assert history.skipped == 2
    assert [k for k, loss in enumerate(history.losses) if math.isnan(loss)] == [5, 20]
    return parameters(flow)


def drawn(n, device="cpu"):
    samples = draw(coupling_flow(2, seed=1).to(device), TARGET, n, seed=3)
    return torch.cat([samples.x.double(), samples.log_w[:, None]], 1)


def launched(processes, *job, restarts=0, meeting=("--standalone",)):
    """This file under torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", *meeting, "--nproc-per-node", str(processes)]
    command += ["--max-restarts", str(restarts)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, __file__, *map(str, job)], env=environment, text=True, stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def of_one():
    return everything()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("processes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_any_number_of_processes_gives_what_one_gives(processes, of_one, tmp_path):
    run = launched(processes, "everything", tmp_path / "found.pt")
    _, words = run.communicate(timeout=200)
    assert run.returncode == 0, words
    found = torch.load(tmp_path / "found.pt")
    assert torch.equal(found["draws"], of_one["draws"])
    compare(found, of_one, double={2: 1e-12, 3: 1e-11}[processes], single=1e-5)  # sums in other orders
    moved = (of_one["torch.float64"] - parameters(flow_of())).abs().max()
    assert moved > 1e-2  # or nothing would have been compared


@pytest.mark.timeout(180)
def test_machines_that_meet_at_a_rendezvous_give_what_one_process_gives(of_one, tmp_path):
    """Two launchers of a process each, as on two machines."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        place = f"localhost:{free.getsockname()[1]}"
    meeting = ("--nnodes=2", "--rdzv-backend=c10d", f"--rdzv-endpoint={place}", "--rdzv-id=test")
    runs = [launched(1, "some", tmp_path / "found.pt", meeting=meeting) for _ in range(2)]
    for run in runs:
        _, words = run.communicate(timeout=150)
        assert run.returncode == 0, words
    found = torch.load(tmp_path / "found.pt")
    assert found.pop("size") == 2
    assert torch.equal(found["draws"], of_one["draws"])
    compare(found, {name: of_one[name] for name in found}, double=1e-12, single=1e-5)


def compare(found, expected, *, double, single):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        most = {"torch.float32": single, "ledger": 0}.get(name, double)
        torch.testing.assert_close(found[name], value, rtol=0, atol=most, msg=lambda text, name=name: name + text)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.timeout(300)
def test_two_processes_on_gpus_give_what_one_gives(tmp_path):
    """By nccl if there are two GPUs; on a single one by gloo, through main memory."""
    run = launched(2, "everything", tmp_path / "found.pt", "cuda")
    _, words = run.communicate(timeout=250)
    assert run.returncode == 0, words
    compare(torch.load(tmp_path / "found.pt"), everything("cuda"), double=1e-9, single=1e-3)


@pytest.mark.parametrize(("gpus", "backend"), [(0, "gloo"), (1, "gloo"), (2, "cpu:gloo,cuda:nccl")])
def test_processes_without_a_gpu_each_do_not_speak_by_nccl(monkeypatch, gpus, backend):
    """It refuses two processes on one GPU, and whatever lies in main memory."""
    asked = []

    def init(*backends, **_):
        asked.append(backends)
        raise RuntimeError("enough")

    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    monkeypatch.setattr(torch.distributed, "rendezvous", lambda *_, **__: iter([(None, 0, 4)]))
    monkeypatch.setattr(torch.distributed, "init_process_group", init)
    with pytest.raises(RankError, match="enough"), distributed():
        pass
    assert asked == [(backend,)]


def test_a_group_that_takes_nothing_from_main_memory_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_backend_config", lambda: "cuda:nccl")
    with pytest.raises(InputError, match=r"got one of cuda:nccl: make it with init_process_group"), distributed():
        pass


@pytest.mark.timeout(120)
def test_an_error_on_the_first_process_is_every_process_s(tmp_path):
    run = launched(2, "refusal", tmp_path / "words")
    _, words = run.communicate(timeout=100)
    assert run.returncode == 0, words
    said = [(tmp_path / f"words{rank}").read_text() for rank in (0, 1)]
    assert said == ["only the first is asked: got 0"] * 2


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("job", "lost"), [("anneal", 0), ("anneal", 1), ("train", 1)])
def test_a_lost_process_ends_the_others_with_a_checkpoint_to_go_on_from(tmp_path, job, lost):
    """The first process writes it: when it is lost the checkpoint is an earlier one."""
    checkpoint, pid = tmp_path / "training.pt", tmp_path / "pid"
    run = launched(2, "endless", checkpoint, job, lost, pid)
    while not (pid.exists() and pid.read_text()) and run.poll() is None:
        time.sleep(0.1)
    begin = time.monotonic()
    os.kill(int(pid.read_text()), signal.SIGKILL)
    _, words = run.communicate(timeout=60)
    assert time.monotonic() - begin < 30
    assert run.returncode != 0
    assert "the processes of a distributed run must all live; one was lost" in words
    assert "start again, training goes on from its checkpoint" in words
    saved = len(load_checkpoint(checkpoint)["history"]["losses"])
    assert saved >= (10 if lost == 0 else 20), words
    history = endless(checkpoint, job, steps=saved + 1)  # with one process instead of two
    assert len(history.losses) > saved


def endless(checkpoint, job, steps=10**6, told=lambda k: None):
    """A training that is told the number of each step."""
    if job == "anneal":
        return anneal(
            flow_of(), TARGET, hot=4.0, steps=steps, checkpoint=checkpoint, progress=False, compile="never",
            watch=lambda history: told(len(history.losses)),
        )  # fmt: skip
    taken = itertools.count()

    def objective(q):
        told(next(taken))
        return reverse_kl(q, TARGET, 100)

    return train(flow_of(), objective, steps=steps, checkpoint=checkpoint, progress=False)


@pytest.mark.timeout(120)
def test_a_training_goes_on_with_another_number_of_processes_to_the_same_parameters(of_one, tmp_path):
    """One process for 17 steps, two for 17 more, and one to the end."""
    checkpoint = tmp_path / "training.pt"
    life(checkpoint, 17)
    assert load_checkpoint(checkpoint)["done"] == 17
    run = launched(2, "life", checkpoint, 17)
    _, words = run.communicate(timeout=100)
    assert run.returncode == 0, words
    assert load_checkpoint(checkpoint)["done"] == 34
    torch.testing.assert_close(life(checkpoint), of_one["torch.float64"], rtol=0, atol=1e-12)


def life(checkpoint, steps=STEPS):
    """A training that goes on from its checkpoint for some steps, or to its end."""
    flow, taken = flow_of().double(), itertools.count(1)

    def objective(q):
        if next(taken) == steps and ranks().leads:
            os.kill(os.getpid(), signal.SIGINT)
        return both(q, torch.float64)

    with suppress(KeyboardInterrupt):
        train(flow, objective, steps=STEPS, learning_rate=3e-3, checkpoint=checkpoint, progress=False)
    return parameters(flow)


@pytest.mark.timeout(240)
def test_a_launcher_that_restarts_goes_on_from_the_checkpoint(tmp_path):
    checkpoint = tmp_path / "training.pt"
    run = launched(2, "mortal", checkpoint, tmp_path / "begun", restarts=1)
    _, words = run.communicate(timeout=200)
    assert run.returncode == 0, words
    first, second = (int(word) for word in (tmp_path / "begun").read_text().split())
    assert first == 0
    assert second >= 10  # from the beginning of the round in which the process was lost
    assert len(load_checkpoint(checkpoint)["history"]["losses"]) >= 60


@pytest.mark.timeout(900)
@pytest.mark.parametrize("times", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_processes_part_cleanly_with_all_written(tmp_path, times):
    expected = drawn(3000)
    for k in range(times):
        run = launched(2, "part", tmp_path / f"{k}-")
        _, words = run.communicate(timeout=90)
        assert (run.returncode, words) == (0, "")  # nothing to complain of, such as a group that nobody destroyed
        # a thread that outlives the group can end the process with an abort while Python shuts down
        assert [(tmp_path / f"{k}-{rank}").read_text() for rank in (0, 1)] == ["(3.0, True) 0"] * 2
        samples = Samples.load(tmp_path / f"{k}-samples.npz")
        assert torch.equal(torch.cat([samples.x.double(), samples.log_w[:, None]], 1), expected)
        assert load_checkpoint(tmp_path / f"{k}-training.pt")["done"] == 5


def test_shares_cover_the_rows_in_order():
    for size in (1, 2, 3, 7):
        shares = [Ranks(rank, size).share(100) for rank in range(size)]
        assert [i for share in shares for i in range(100)[share]] == list(range(100))
    with pytest.raises(InputError, match="use fewer processes"):
        Ranks(0, 3).share(2)


def test_one_process_is_by_itself():
    with distributed() as alone:
        assert (alone.rank, alone.size, alone.leads) == (0, 1, True)
        assert ranks().first(lambda: [1]) == [1]
        assert ranks().highest(2.5) == 2.5
        x = torch.arange(3.0)
        assert ranks().shared(lambda rows: (x[rows],), 3)[0].equal(x)


def main(job, out, *more):
    with distributed() as team:
        if job == "everything":
            found = everything(*more)
            if team.leads:
                torch.save(found, out)
        elif job == "some":
            found = {"torch.float64": trained(both, torch.float64), "draws": drawn(7300), "size": team.size}
            if team.leads:
                torch.save(found, out)
        elif job == "refusal":

            def refuse():
                raise InputError(f"only the first is asked: got {team.rank}")

            with pytest.raises(InputError) as error:
                team.first(refuse)
            Path(f"{out}{team.rank}").write_text(str(error.value))
        elif job == "part":
            train(flow_of(), lambda q: both(q, torch.float32), steps=5, checkpoint=f"{out}training.pt", progress=False)
            samples = draw(coupling_flow(2, seed=1), TARGET, 3000, seed=3)
            if team.leads:
                samples.save(f"{out}samples.npz")
            received = team.gathered(torch.ones(team.rank + 1), [1, 2]).sum().item(), threads("gloo") > 0
        elif job == "life":
            life(out, int(*more))
        elif job == "mortal":
            begun = []

            def live(history):
                steps = len(history.losses)
                if team.leads and not begun:
                    with open(more[0], "a") as file:
                        file.write(f"{steps} ")
                begun.append(steps)
                if team.rank == 1 and steps == 20 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
                    os.kill(os.getpid(), signal.SIGKILL)

            anneal(flow_of(), TARGET, hot=4.0, steps=60, checkpoint=out, watch=live, progress=False, compile="never")
        elif job == "endless":
            kind, lost, pid = more

            def tell(k):
                if k == 10 and team.leads:
                    os.kill(os.getpid(), signal.SIGUSR1)  # for a checkpoint
                if k == 21 and team.rank == int(lost):
                    Path(pid).write_text(str(os.getpid()))

            endless(out, kind, told=tell)
    if job == "part":
        Path(f"{out}{team.rank}").write_text(f"{received} {threads('gloo')}")


def threads(name):
    """How many threads of this process have names with `name` in them."""
    return sum(name in task.read_text() for task in Path("/proc/self/task").glob("*/comm"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # by which the launcher ends those who are left
    try:
        main(*sys.argv[1:])
    except RankError as lost:
        sys.exit(str(lost))
