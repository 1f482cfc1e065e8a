"""Progress: a bar on a terminal, plain lines elsewhere, nothing when not wanted."""

import io
import re

import pytest

from boltzgen.energies.toys import DoubleWell
from boltzgen.flows import coupling_flow
from boltzgen.progress import Progress, show
from boltzgen.reweighting import effective_sample_size
from boltzgen.sampling import draw
from boltzgen.sampling.extension import extend
from boltzgen.training import anneal


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that is told how late it is."""
    now = [100.0]
    monkeypatch.setattr("boltzgen.progress.time.monotonic", lambda: now[0])
    return now


def test_without_a_terminal_a_line_every_five_seconds_tells_time_rate_and_message(clock):
    stream = io.StringIO()
    with Progress("drawing", unit="draws", stream=stream) as bar:
        for second in range(21):
            clock[0] = 100.0 + second
            bar(second / 40, f"effective {second} %", count=1000 + 50 * second)
    assert stream.getvalue().splitlines() == [
        "drawing:   0 %, 0:00  effective 0 %",
        "drawing:  12 %, 0:05, 0:35 left, 50 draws/s  effective 5 %",
        "drawing:  25 %, 0:10, 0:30 left, 50 draws/s  effective 10 %",
        "drawing:  38 %, 0:15, 0:25 left, 50 draws/s  effective 15 %",
        "drawing:  50 %, 0:20, 0:20 left, 50 draws/s  effective 20 %",
    ]


def test_what_comes_before_the_counting_is_no_part_of_the_rate(clock):
    """A trial of compiled code takes minutes before the first step."""
    stream = io.StringIO()
    with Progress("training", stream=stream) as bar:
        bar(0.0, "compiling")
        for second in (240, 250):
            clock[0] = 100.0 + second
            bar((second - 240) / 100, count=second - 240)
    assert [line.strip() for line in stream.getvalue().splitlines()[1:]] == [
        "training:   0 %, 4:00",
        "training:  10 %, 4:10, 1:30 left, 1.00 steps/s",
    ]


def test_slow_work_has_a_rate_with_digits(clock):
    stream = io.StringIO()
    with Progress("training", stream=stream) as bar:
        for second in (0, 8):
            clock[0] = 100.0 + second
            bar(second / 40, count=second / 4)
    assert stream.getvalue().splitlines()[-1].strip().endswith("0.25 steps/s")


def test_a_training_shows_its_loss_beside_the_effective_share_and_draws_show_theirs(clock, capsys, monkeypatch):
    """On a clock that goes on by three seconds whenever somebody looks."""

    def later():
        clock[0] += 3.0
        return clock[0]

    monkeypatch.setattr("boltzgen.progress.time.monotonic", later)
    flow, target = coupling_flow(2, layers=2, hidden=(16,)), DoubleWell()
    anneal(flow, target, steps=100)
    lines = capsys.readouterr().err.splitlines()
    assert re.search(r"left, 0\.11 steps/s  T 10, loss -?[\d.]+$", lines[3]), lines[3]
    assert re.search(r"steps/s  T 1, loss -?[\d.e-]+, ESS [\d.]+ %, KL [\d.e-]+$", lines[-1]), lines[-1]
    assert all(", loss " in line for line in lines[1:]), lines
    samples = draw(flow, target, 3000, seed=1, progress=True)
    drawn = capsys.readouterr().err.splitlines()[-1]
    share = 100 * effective_sample_size(samples.log_w) / 3000
    assert drawn.endswith(f"3000 of 3000, effective {share:.1f} %")
    extend(draw(flow, target, 2000, seed=1), flow, target, 3000, seed=1, progress=True)
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"3000 of 3000, effective {share:.1f} %")


def test_without_a_terminal_there_is_a_plain_line_now_and_then():
    stream = io.StringIO()
    with Progress("training", stream=stream, interval=60.0) as bar:
        for k in range(100):
            bar(k / 100, f"loss {k}")
        bar(1.0, "done")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("training:   0 %")
    assert lines[-1].startswith("training: 100 %")
    assert lines[-1].endswith("done")


def test_on_a_terminal_there_is_a_bar():
    stream = Terminal()
    with Progress("drawing", stream=stream) as bar:
        bar(0.5, "half")
        bar(1.0, "all")
    assert "\r" in stream.getvalue()
    assert re.search(r"50%\|#+ +\| 0:00(, 0:00 left)?  half", stream.getvalue())
    assert "100%" in stream.getvalue()
    assert stream.getvalue().endswith("\n")


def test_nothing_is_shown_when_not_wanted(capsys):
    with show("training", visible=False) as bar:
        bar(1.0, "done")
    assert capsys.readouterr() == ("", "")


def test_what_was_done_before_does_not_shorten_the_time_left(monkeypatch):
    now = iter([0.0, 0.0, 60.0])
    monkeypatch.setattr("boltzgen.progress.time.monotonic", lambda: next(now))
    stream = io.StringIO()
    with Progress("drawing", stream=stream, interval=0.0) as bar:
        bar(0.5)
        bar(0.75)
    assert stream.getvalue().splitlines()[-1].startswith("drawing:  75 %, 1:00, 1:00 left")
