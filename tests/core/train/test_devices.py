"""Training on several devices: all processes end together, with one set of weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import sys
from pathlib import Path
import torch
from domainsam.train.devices import choose_devices
from domainsam.train.history import History
from domainsam.train.loop import Run
from domainsam.train.state import RunState
from tests.core.train.test_loop import Blobs, make

class Own(Blobs):
    def __init__(self, rank):
        super().__init__()
        self.rank = rank

    def batch(self, step):
        return super().batch(2 * step + self.rank)

torch.set_num_threads(1)
folder = Path(sys.argv[1])
devices = choose_devices("cpu", 2, "float32")
run = Run(folder, "sig", devices)
state = RunState("sig")
history = History(folder, enabled=devices.rank == 0)
for name in ("coarse", "joint"):
    stage, net = make(Own(devices.rank), name=name)
    state = stage.run(run, state, history)
history.close()
said = devices.shared({"from": devices.rank})
torch.save({"said": said, "score": state.best_score, "net": net.state_dict()}, folder / f"{devices.rank}.pt")
devices.close()
"""


@pytest.mark.slow
def test_two_processes_end_with_equal_weights_and_one_log(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    environment["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # as the command line has it
    command = [sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(command, env=environment, check=True, timeout=300, capture_output=True, text=True)
    assert done.stdout.strip() == done.stderr.strip() == ""
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["said"] == second["said"] == {"from": 0}
    assert first["score"] == second["score"]
    for name, tensor in first["net"].items():
        assert torch.equal(tensor, second["net"][name]), name
    assert (tmp_path / "log.csv").is_file()
    # The running statistics saw different batches, so they were equal only by agreement.
    assert torch.load(tmp_path / "state.pt", weights_only=True)["done"]
