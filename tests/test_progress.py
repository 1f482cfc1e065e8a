"""Progress: a bar on a terminal, plain lines elsewhere, nothing when not wanted."""

import io
import re

from boltzgen.progress import Progress, show


class Terminal(io.StringIO):
    def isatty(self):
        return True


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
