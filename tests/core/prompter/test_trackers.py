"""Points go with optical flow while it returns to where it came from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.optical_flow import raft_small

from domainsam.errors import CheckpointError, ConfigError
from domainsam.prompter.trackers import FeatureTracker, FlowTracker, Tracker
from domainsam.testing.contracts import ArrayView

POINTS = np.array([[30.0, 20.0], [50.0, 40.0]])


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> FlowTracker:
    path = tmp_path_factory.mktemp("raft") / "raft_small.pth"
    torch.manual_seed(0)
    torch.save(raft_small(weights=None, progress=False).state_dict(), path)
    return FlowTracker(path)


def flows(*given: tuple[float, float]) -> Callable[[Tensor, Tensor], list[Tensor]]:
    """In the place of the network: constant flows, one a call."""
    left = list(given)

    def answer(one: Tensor, other: Tensor) -> list[Tensor]:
        assert one.shape == other.shape == (1, 3, 128, 128)
        assert float(one.min()) >= -1
        flow = torch.tensor(left.pop(0), dtype=torch.float32)
        return [flow.view(1, 2, 1, 1).expand(1, 2, 128, 128)]

    return answer


def test_points_move_by_the_flow_and_are_lost_where_it_does_not_return(
    tracker: FlowTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = ArrayView((64, 96), frames=3)
    state = tracker.begin(view, 0, POINTS)
    stub: Any = flows((3, 2), (-3, -2), (4, 0), (4, 0))
    monkeypatch.setattr(tracker, "_network", stub)
    found, seen = tracker.step(view, state, 1)
    np.testing.assert_allclose(found, POINTS + np.array([3, 2]), atol=1e-4)
    assert seen.all()
    found, seen = tracker.step(view, state, 2)
    np.testing.assert_allclose(found, POINTS + np.array([7, 2]), atol=1e-4)
    assert not seen.any()


def test_the_network_itself_runs_on_any_size(tracker: FlowTracker) -> None:
    view = ArrayView((64, 96), frames=2)
    found, seen = tracker.step(view, tracker.begin(view, 0, POINTS), 1)
    assert found.shape == (2, 2)
    assert np.isfinite(found).all()
    assert seen.shape == (2,)
    assert isinstance(tracker, Tracker)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="raft_large or raft_small"):
        FlowTracker(tmp_path / "other.pth")
    with pytest.raises(ConfigError, match="expected more than 0"):
        FeatureTracker(64, radius=0)
