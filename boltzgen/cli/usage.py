"""A parser of command lines whose errors say where help is."""

from __future__ import annotations

import argparse
from typing import NoReturn

__all__ = ["Parser"]


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that names the help to read after each error."""

    def error(self, message: str) -> NoReturn:
        command = self.prog if " " in self.prog else f"{self.prog} COMMAND"
        super().error(f"{message}: see `{command} --help`")
