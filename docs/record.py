"""The first session of a user, typed into a real terminal and written down: makes docs/first_session.md.

    python docs/record.py

Takes some minutes. The terminal is a pseudo-terminal, so that progress bars and Ctrl-C are the real ones; of a bar only
its last state is kept, and of long output the beginning and the end.
"""

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

from boltzgen.molecule import find

PAGE = Path(__file__).parent / "first_session.md"
MOST = 26
"""lines shown of one output."""
INTRODUCTION = """# A first session

What a terminal shows to somebody who has never used boltzgen, mistakes included. Made by `python docs/record.py`, on an
idle machine with two cores; of a progress bar the last state is shown, and of long output the beginning and the end.
"""
FIELD = "--forcefield amber14-all.xml implicit/obc2.xml"
STEPS: list[tuple[str, str, float | None]] = [  # what is said before, the command, seconds of training until Ctrl-C
    ("The trained generator that comes with boltzgen answers at once:",
     "boltzgen sample alanine_dipeptide -n 10000 --seed 1 --out ala2.npz", None),
    ("", "boltzgen report ala2.npz --out ala2/report.html", None),
    ("The same trained here, from the energy alone, for two minutes instead of ten:",
     "boltzgen demo --minutes 2 -n 10000", None),
    ("A molecule of one's own, from a file in which the hydrogens are missing:",
     f"boltzgen check xray.pdb {FIELD}", None),
    ("With hydrogens, but with a force field that does not exist:",
     "boltzgen check mine.pdb --forcefield amber99.xml", None),
    ("As it should be:", f"boltzgen check mine.pdb {FIELD}", None),
    ("The settings in a file, with a slip of the pen:", "boltzgen init mine.pdb --out mine.toml", None),
    ("", "sed -i -e 's/^temperature/temprature/' mine.toml", None),
    ("", "boltzgen train --config mine.toml --out run", None),
    ("", "sed -i -e 's/^temprature/temperature/' mine.toml", None),
    ("Interrupted by Ctrl-C, and continued:", "boltzgen train --config mine.toml --out run --minutes 1", 20.0),
    ("", "boltzgen resume run", None),
    ("Draws, and whether to trust them. A minute is not enough for this molecule, and the verdict says so:",
     "boltzgen sample run -n 5000 --seed 1", None),
    ("", "boltzgen report run --strict", None),
]  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        furnish(Path(folder))
        parts = []
        for words, command, interrupt in STEPS:
            print(f"$ {command}", flush=True)
            code, output = typed(command, folder, interrupt)
            shown = shortened(output.replace(folder, "~"))
            status = f"\n[exit code {code}]" if code else ""
            block = "\n".join(["```text", f"$ {command}", *shown]) + f"{status}\n```\n"
            parts.append(f"{words}\n\n{block}" if words else block)
    PAGE.write_text("\n".join([INTRODUCTION, *parts]), encoding="utf-8")


def furnish(folder: Path) -> None:
    """A structure with hydrogens and one without."""
    structure = find("isoleucine_dipeptide").structure
    shutil.copy(structure, folder / "mine.pdb")
    heavy = [line for line in structure.read_text().splitlines() if line[76:78].strip() != "H"]
    (folder / "xray.pdb").write_text("\n".join(line for line in heavy if not line.startswith("CONECT")) + "\n")


def typed(command: str, folder: str, interrupt: float | None) -> tuple[int, str]:
    """Exit code and output of a command in a terminal of 100 columns; Ctrl-C some seconds after its training began."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job would hand on that it is ignored
    process = subprocess.Popen(
        command,
        shell=True,
        cwd=folder,
        stdin=child,
        stdout=child,
        stderr=child,
        env=environment,
        start_new_session=True,
    )
    os.close(child)
    begin, output = None, b""
    while True:
        if begin is None and re.search(rb"training +\d+%", output):
            begin = time.monotonic()
        if interrupt is not None and begin is not None and time.monotonic() - begin > interrupt:
            os.killpg(process.pid, signal.SIGINT)
            interrupt, output = None, output + b"^C\r\n"
        if select.select([parent], [], [], 0.2)[0]:
            try:
                some = os.read(parent, 65536)
            except OSError:  # the other end is closed
                break
            if not some:
                break
            output += some
    os.close(parent)
    code = process.wait()
    return 128 - code if code < 0 else code, output.decode("utf-8", "replace")


def shortened(output: str) -> list[str]:
    """The lines of an output as they stand in the end, without the codes of the terminal."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output).replace("\r\n", "\n")
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    if len(lines) <= MOST:
        return lines
    return [*lines[: MOST - 8], f"[... {len(lines) - MOST + 1} more lines]", *lines[-7:]]


if __name__ == "__main__":
    main()
