"""What a benchmark ran on and with, for its record."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

__all__ = ["about", "processor", "versions"]


def about(*packages: str) -> dict[str, Any]:
    """Processor, cores, threads of torch, and load of the machine; versions of Python, torch and what is named."""
    machine = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg(),
    }
    return {"machine": machine, "versions": versions(*packages)}


def versions(*packages: str) -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in ("torch", *packages)}}


def processor() -> str:
    """The model of the processor, as Linux names it; elsewhere as Python does."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
