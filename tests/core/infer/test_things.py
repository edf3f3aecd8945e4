"""Objects of windows are kept on disk exactly, and a run that goes on looks only at what is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from domainsam.errors import InputError
from domainsam.infer.journal import Journal
from domainsam.infer.things import StagedWindows
from domainsam.protocols import SceneObject, Window

WINDOWS = (Window(0, 0, 64, 64), Window(0, 32, 64, 64))


def make(seed: int) -> SceneObject:
    mask = np.random.default_rng(seed).random((5 + seed, 7)) > 0.3
    bounds = Window(3, 4 * seed, *mask.shape)
    return SceneObject(bounds, score=0.1 + seed / 7, box=bounds.box, mask=mask)


def test_what_was_found_is_known_again_after_a_kill(tmp_path: Path) -> None:
    looked: list[str] = []

    def look(name: str, *seeds: int) -> list[SceneObject]:
        looked.append(name)
        return [make(seed) for seed in seeds]

    told: list[tuple[int, int]] = []
    with Journal(tmp_path / "journal", {"run": 1}) as journal:
        staged = StagedWindows(tmp_path, journal, 2, lambda stage, done, total: told.append((done, total)))
        first = staged.once(WINDOWS[0], lambda: look("a", 1, 2))
        assert staged.once(WINDOWS[1], lambda: look("b")) == []
    assert told == [(1, 2), (2, 2)]
    # The second window's file is lost, as if the machine had gone down.
    (tmp_path / "objects_0_0_32.u8").unlink()
    with Journal(tmp_path / "journal", {"run": 1}, resume=True) as journal:
        staged = StagedWindows(tmp_path, journal, 2)
        again = staged.once(WINDOWS[0], lambda: look("never"))
        staged.once(WINDOWS[1], lambda: look("b again"))
    assert looked == ["a", "b", "b again"]
    for one, other, seed in zip(first, again, (1, 2), strict=True):
        assert (one.bounds, one.score, one.box) == (other.bounds, other.score, other.box)
        assert other.score == make(seed).score
        assert np.array_equal(np.asarray(other.mask), np.asarray(make(seed).mask))
    with pytest.raises(InputError, match="cannot resume"):
        Journal(tmp_path / "journal", {"run": 2}, resume=True)
