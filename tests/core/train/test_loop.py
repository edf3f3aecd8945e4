"""The loop: an interrupted and resumed run is an unbroken one, and what it keeps is the best."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from domainsam.errors import CheckpointError, ConfigError
from domainsam.train.crops import Batch, read_batches_ahead
from domainsam.train.devices import OneDevice, choose_devices
from domainsam.train.history import History
from domainsam.train.loop import Run, Stage, StageOptions, learning_rate
from domainsam.train.state import RunState, load_state, save_state

CPU = torch.device("cpu")
OPTIONS = StageOptions(steps=12, lr=0.05, warmup=3, eval_every=3, ema=0.9)


class Interrupted(Exception):
    """Stands for a kill."""


class Blobs:
    """Batches whose labels are where the image is bright."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.fail_at: int | None = None

    def batch(self, step: int) -> Batch:
        self.asked.append(step)
        if step == self.fail_at:
            raise Interrupted
        rng = np.random.default_rng([3, step])
        image = torch.from_numpy(rng.random((2, 3, 8, 8), dtype=np.float32))
        return Batch(image, (image[:, 0] > 0.5).long(), torch.ones(2, 8, 8, dtype=torch.bool))


class Usual(nn.Module):
    """How far a mean is from what it usually was, which no model file keeps."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        self.mean.lerp_(values.detach().mean(), 0.1)
        return (values.mean() - self.mean).square()


class Objective(nn.Module):
    """A tiny network with all that could break a resumption: dropout, running statistics, a memory."""

    def __init__(self) -> None:
        super().__init__()
        self.usual = Usual()
        self.net = nn.Sequential(
            nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Conv2d(4, 2, 1)
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        answer = self.net(batch.images)
        return {"loss": nn.functional.cross_entropy(answer, batch.labels) + self.usual(answer)}


def make(stream: Blobs, options: StageOptions = OPTIONS, name: str = "coarse") -> tuple[Stage, nn.Module]:
    torch.manual_seed(0)
    objective = Objective()
    probe = stream.batch(10_000)

    def evaluate() -> Mapping[str, float]:
        assert not objective.net.training
        with torch.no_grad():
            right = objective.net(probe.images).argmax(1) == probe.labels
        return {"coarse_iou": float(right.float().mean())}

    stage = Stage(
        *(name, objective, objective.net, stream, evaluate, "coarse_iou", options), remembers=objective.usual
    )
    return stage, objective.net


def run_in(folder: Path, resume: bool = False) -> Run:
    folder.mkdir(exist_ok=True)
    return Run(folder, "sig", OneDevice(CPU, "float32"), resume=resume)


def weights(net: nn.Module) -> bytes:
    return b"".join(value.numpy().tobytes() for value in net.state_dict().values())


def test_interrupted_and_resumed_is_unbroken_bit_for_bit(tmp_path: Path) -> None:
    stage, net = make(Blobs())
    run = run_in(tmp_path / "whole")
    whole = stage.run(run, run.start(), History(run.folder))

    stream = Blobs()
    stream.fail_at = 8
    stage, _ = make(stream)
    run = run_in(tmp_path / "parts")
    with pytest.raises(Interrupted):
        stage.run(run, run.start(), History(run.folder))
    again, other = make(Blobs())
    run = run_in(tmp_path / "parts", resume=True)
    state = run.start()
    assert (state.stage, state.step) == ("coarse", 6)
    resumed = again.run(run, state, History(run.folder))

    assert weights(net) == weights(other)
    assert whole.best_score == resumed.best_score
    assert whole.history == resumed.history
    whole_log, log = ((tmp_path / part / "log.csv").read_text() for part in ("whole", "parts"))
    assert whole_log == log
    assert (tmp_path / "parts" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_learning_lowers_the_loss_and_the_best_average_is_left(tmp_path: Path) -> None:
    stage, net = make(Blobs(), replace(OPTIONS, steps=60, eval_every=10))
    run = run_in(tmp_path)
    state = stage.run(run, run.start(), History(tmp_path))
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [10, 20, 30, 40, 50, 60]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert state.best_score == max(float(row["coarse_iou"]) for row in state.history)
    for name, value in net.state_dict().items():
        assert torch.equal(value, state.best[name])
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_finished_stage_is_not_trained_again(tmp_path: Path) -> None:
    stage, net = make(Blobs())
    run = run_in(tmp_path)
    stage.run(run, run.start(), History(tmp_path))
    stream = Blobs()
    again, other = make(stream)
    stream.asked.clear()
    run = run_in(tmp_path, resume=True)
    again.run(run, run.start(), History(tmp_path))
    assert stream.asked == []
    assert weights(net) == weights(other)


def test_patience_ends_a_stage_early(tmp_path: Path) -> None:
    stage, _ = make(Blobs(), replace(OPTIONS, steps=90, patience=2))
    scores = iter([0.5, 0.6, 0.4, 0.3, 0.9])
    stage.evaluate = lambda: {"coarse_iou": next(scores)}
    run = run_in(tmp_path)
    state = stage.run(run, run.start(), History(tmp_path))
    assert (state.step, state.best_score) == (12, 0.6)


def test_without_a_score_the_last_weights_are_kept(tmp_path: Path) -> None:
    stage, _ = make(Blobs(), replace(OPTIONS, ema=0.0))
    stage.evaluate = lambda: {"coarse_iou": math.nan}
    run = run_in(tmp_path)
    state = stage.run(run, run.start(), History(tmp_path))
    assert state.best_score == -math.inf
    assert all(torch.equal(state.best[name], value) for name, value in state.trained.items())


def test_a_loss_that_is_not_finite_stops_with_a_hint(tmp_path: Path) -> None:
    stage, net = make(Blobs())
    with torch.no_grad():
        net[0].weight.fill_(math.inf)
    run = run_in(tmp_path)
    with pytest.raises(ConfigError, match=r"not finite at step 1.*lower --lr"):
        stage.run(run, run.start(), History(tmp_path))


def test_the_rate_rises_and_falls() -> None:
    options = StageOptions(steps=100, lr=1.0, warmup=10, lr_floor=0.1)
    rates = [learning_rate(step, options) for step in range(100)]
    assert rates[0] < 0.11
    assert rates.index(max(rates)) == 9
    assert all(after <= before for before, after in pairwise(rates[9:]))
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


def test_states_are_complete_or_absent_and_of_one_run(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_state(path, RunState("mine", "coarse", 4, trained={"w": torch.ones(2)}))
    assert torch.load(path, weights_only=True)["step"] == 4
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]
    assert torch.equal(load_state(path, "mine", CPU).trained["w"], torch.ones(2))
    with pytest.raises(CheckpointError, match="other options"):
        load_state(path, "another", CPU)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="damaged"):
        load_state(path, "mine", CPU)


def test_batches_come_in_order_whatever_the_threads_do() -> None:
    stream = Blobs()
    with read_batches_ahead(stream, 5, 25, 4) as batches:
        first = next(iter(batches))
        rest = list(batches)
    assert torch.equal(first.images, stream.batch(5).images)
    assert len(rest) == 19
    assert torch.equal(rest[-1].images, stream.batch(24).images)


def test_several_devices_need_a_kind_of_device() -> None:
    with pytest.raises(ConfigError, match="kind of device"):
        choose_devices("cuda:1", 2, "float32")
    assert isinstance(choose_devices("cpu", 1, "float32"), OneDevice)


def test_the_last_weights_are_kept_where_validation_is_to_choose_nothing(tmp_path: Path) -> None:
    stage, net = make(Blobs(), replace(OPTIONS, keep="last"))
    scores = iter([0.9, 0.6, 0.5, 0.1])
    stage.evaluate = lambda: {"coarse_iou": next(scores)}
    state = stage.run(run_in(tmp_path), RunState("sig"), History(tmp_path))
    assert [float(row["coarse_iou"]) for row in state.history] == [0.9, 0.6, 0.5, 0.1]
    for name, value in net.state_dict().items():
        assert torch.equal(value, state.ema[name]), name
