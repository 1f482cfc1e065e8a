"""The first session that docs/ shows is what a terminal still says: it is typed again, with short trainings."""

import importlib.util
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "first_session.md"
spec = importlib.util.spec_from_file_location("record", PAGE.with_name("record.py"))
record = importlib.util.module_from_spec(spec)
spec.loader.exec_module(record)
SHOWN = re.findall(r"```text\n\$ (.*?)\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
QUICK = {"--minutes 2 -n 10000": "--minutes 0.05 -n 2000", "--minutes 1": "--minutes 0.2", "-n 5000": "-n 2000"}
BY_LUCK = "boltzgen demo", "boltzgen resume", "boltzgen sample run", "boltzgen report run"
"""What draws of a training say depends on how long it was."""


def said(output):
    """The lines of an output without their numbers; of progress bars nothing."""
    lines = [line for line in output.splitlines() if line and "%|" not in line and not line.startswith("[")]
    return [re.sub(r"\s+", " ", re.sub(r"[\d.]+(e[+-]?\d+)?( \d{3}\b)?", "#", line)).strip() for line in lines]


def lasting(lines):
    """Of lines those that say what follows."""
    return [line for line in lines if re.search(r"^(written|next|interrupted|interrupt it)\b", line)]


def code_of(shown):
    found = re.search(r"^\[exit code (\d+)\]$", shown, flags=re.MULTILINE)
    return int(found[1]) if found else 0


def test_the_page_shows_every_command_and_every_exit_code():
    assert [command for command, _ in SHOWN] == [command for _, command, _ in record.STEPS]
    assert {3, 2, 130, 5} == {code_of(shown) for _, shown in SHOWN} - {0}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_session_goes_as_it_is_shown(tmp_path):
    record.furnish(tmp_path)
    for (command, shown), (_, _, interrupt) in zip(SHOWN, record.STEPS, strict=True):
        for long, short in QUICK.items():
            command = command.replace(long, short)
        code, output = record.typed(command, str(tmp_path), None if interrupt is None else 2.0)
        assert code == code_of(shown), (command, output)
        now, then = said("\n".join(record.shortened(output.replace(str(tmp_path), "~")))), said(shown)
        if command.startswith(BY_LUCK):
            now, then = lasting(now), lasting(then)
        assert now == then, command
