"""A million draws in little memory: drawn, judged, saved and read back within half a gigabyte."""

import subprocess
import sys

import pytest

CODE = """
import resource
import torch
import boltzgen as bg
from boltzgen.flows import coupling_flow

torch.set_num_threads(1)
flow, target = coupling_flow(2, layers=2, transform="affine", hidden=(8,)), bg.toys.DoubleWell()
bg.judge(bg.draw(flow, target, 2000, seed=1))  # all that is loaded late is there
bg.expectation(torch.zeros(2000), torch.zeros(2000))

size = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize"))
limit = (size + 512 * 1024) * 1024
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    torch.ones(600 * 2**20, dtype=torch.uint8)
    print("no limit")
except RuntimeError:
    print("limited")
samples = bg.draw(flow, target, 1_000_000, seed=1)
bg.judge(samples)
bg.expectation(samples.log_w, samples.x[:, 0])
samples.save("samples.npz")
print(len(bg.Samples.load("samples.npz")))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits as Linux has them")
@pytest.mark.filterwarnings("ignore::boltzgen.errors.UnreliableEstimateWarning")
def test_a_million_draws_fit_into_little_memory(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", CODE]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout.split() == ["limited", "1000000"], done.stderr[-2000:]
