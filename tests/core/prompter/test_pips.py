"""PIPS's network has the tensors of its public file, and points go on in chains of eight pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from domainsam.errors import CheckpointError
from domainsam.prompter.pips import PipsTracker, choose_next
from domainsam.prompter.pips_network import FRAMES, WIDTH, PipsNetwork, embed, sample_clamped
from domainsam.prompter.trackers import Tracker
from domainsam.testing.contracts import ArrayView

POINTS = np.array([[30.0, 20.0], [50.0, 40.0]])


@pytest.fixture(scope="module")
def network() -> PipsNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PipsNetwork().eval()


@pytest.fixture(scope="module")
def tracker(network: PipsNetwork, tmp_path_factory: pytest.TempPathFactory) -> PipsTracker:
    """As the public code saves it, optimiser and all."""
    path = tmp_path_factory.mktemp("pips") / "model-000200000.pth"
    optimiser = {"state": {}, "param_groups": [{"lr": 1e-4}]}
    torch.save({"optimizer_state_dict": optimiser, "model_state_dict": network.state_dict()}, path)
    return PipsTracker(path)


def test_names_and_shapes_are_those_of_the_public_code(network: PipsNetwork) -> None:
    shapes = {name: tuple(part.shape) for name, part in network.state_dict().items()}
    assert len(shapes) == 200
    assert shapes["fnet.layer2.0.downsample.0.weight"] == (96, 64, 1, 1)
    assert shapes["fnet.conv2.weight"] == (256, 416, 3, 3)
    assert shapes["delta_block.to_delta.0.weight"] == (512, 519)
    assert shapes["delta_block.to_delta.1.0.fn.0.weight"] == (32, 8, 1)
    assert shapes["delta_block.to_delta.12.1.fn.3.weight"] == (512, 2048)
    assert shapes["delta_block.to_delta.15.weight"] == (1040, 512)
    assert shapes["ffeat_updater.0.weight"] == (WIDTH, WIDTH)
    assert shapes["vis_predictor.0.weight"] == (1, WIDTH)


def test_places_between_cells_are_sampled_and_beyond_the_edge_go_on(network: PipsNetwork) -> None:
    features = torch.arange(12.0).view(1, 3, 4)
    places = torch.tensor([[1.5, 0.5], [0.0, 2.0], [3.4, 0.0]])
    # The last lies beyond the middle of the last cell, whose two neighbours are both that cell.
    assert sample_clamped(features, places)[:, 0].tolist() == pytest.approx([3.5, 8.0, 3.0])
    waves = embed(torch.tensor([[[0.0, 0.5, 0.0]]]))
    assert waves.shape == (1, 1, 195)
    assert waves[0, 0, :2].tolist() == [0.0, 1.0]
    # The second rate is 1000 / 64 * 2.
    assert waves[0, 0, 66].item() == pytest.approx(np.sin(0.5 * 31.25), abs=1e-5)


def test_the_network_keeps_the_first_place_and_looks(network: PipsNetwork) -> None:
    with torch.no_grad():
        maps = network.encode(torch.rand(FRAMES, 3, 64, 96))
        at = torch.from_numpy(POINTS).float()
        places, odds, looks = network(maps, at, iterations=2)
    assert maps.shape == (FRAMES, WIDTH, 8, 12)
    assert torch.equal(places[0], at)
    assert torch.allclose(looks, sample_clamped(maps[0], at / 8))
    assert odds.shape == (FRAMES, 2)
    assert torch.isfinite(places).all()


def test_the_next_eight_begin_where_a_point_is_surely_seen_as_late_as_can_be() -> None:
    assert choose_next(np.array([1, 1, 0.95, 0.92, 0.91, 0.5, 0.5, 0.2])) == 4
    assert choose_next(np.ones(8)) == 7
    # Less and less is asked, but never the first two.
    assert choose_next(np.array([1, 1, 0.1, 0.3, 0.2, 0.1, 0.1, 0.1])) == 3


def constant(step: tuple[float, float], odds: float) -> Any:
    """In the place of the network: points that move by ``step`` a picture, seen with ``odds``."""

    def answer(maps: Tensor, points: Tensor, looks: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        assert maps.shape[0] == FRAMES
        way = torch.arange(FRAMES)[:, None, None] * torch.tensor(step)
        return points[None] + way, torch.full((FRAMES, len(points)), odds), torch.zeros(len(points), WIDTH)

    answer.encode = lambda picture: torch.zeros(1, WIDTH, 8, 12)  # type: ignore[attr-defined]
    return answer


@pytest.mark.parametrize("way", [1, -1])
def test_points_go_on_through_a_film_both_ways(
    tracker: PipsTracker, monkeypatch: pytest.MonkeyPatch, way: int
) -> None:
    view = ArrayView((64, 96), frames=20)
    monkeypatch.setattr(tracker, "_network", constant((1.0, 0.5), 5.0))
    start = 0 if way > 0 else 19
    state = tracker.begin(view, start, POINTS)
    for number in range(1, 20):
        found, seen = tracker.step(view, state, start + way * number)
        np.testing.assert_allclose(found, POINTS + number * np.array([1.0, 0.5]), atol=1e-4)
        assert seen.all()
    assert state.begun.tolist() == [start + way * 14] * 2
    assert len(state.maps) <= 2 * FRAMES
    monkeypatch.setattr(tracker, "_network", constant((0.0, 0.0), -5.0))
    assert not tracker.step(view, tracker.begin(view, 3, POINTS), 4)[1].any()


def test_the_network_itself_runs_on_any_size(tracker: PipsTracker) -> None:
    view = ArrayView((64, 96), frames=2)
    found, seen = tracker.step(view, tracker.begin(view, 0, POINTS), 1)
    assert np.isfinite(found).all()
    assert seen.shape == (2,)
    assert isinstance(tracker, Tracker)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="no file of PIPS"):
        PipsTracker(tmp_path / "other.pth")
