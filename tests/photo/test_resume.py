"""A film whose following was cut short is gone on with, and gives the bytes of an unbroken run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from domainsam.errors import ConfigError
from domainsam.prompter.frozen import freeze, name_kinds, thaw
from domainsam.prompter.pips import PipsState
from domainsam.prompter.track import Ended, FrameAnswer
from domainsam_photo import halfway, track
from domainsam_photo.generated import draw_film, encode_picture
from domainsam_photo.run import run_track
from tests.kills import contents

FRAMES = 7
OPTIONS = {"foundation": "fake", "device": "cpu", "least_iou": 0.0, "reinit": "median", "horizon": 3}


@pytest.fixture
def film(tmp_path: Path) -> Path:
    pictures, _ = draw_film(3, FRAMES)
    (tmp_path / "film").mkdir()
    for number, picture in enumerate(pictures):
        (tmp_path / "film" / f"{number:03d}.png").write_bytes(encode_picture(picture[:160, :240]))
    (tmp_path / "marks.json").write_text(
        '{"objects": [{"points": [[84, 116]], "slice": 2}, {"points": [[120, 128]], "slice": 4}]}'
    )
    return tmp_path / "film"


class StoppedError(Exception):
    """The machine went off."""


def stop_after(count: int) -> Callable[..., Iterator[FrameAnswer]]:
    answer = track.answer_frames

    def answers(*given: Any) -> Iterator[FrameAnswer]:
        for number, one in enumerate(answer(*given)):
            if number == count:
                raise StoppedError
            yield one

    return answers


@pytest.mark.parametrize("count", [1, 4, 8])
def test_what_was_cut_short_ends_in_the_same_bytes(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Pictures 2 to 6 forwards, then 3 to 0 backwards: stopped in the first, and in both directions."""
    monkeypatch.setattr(halfway, "SECONDS", 0.0)
    marks = {"points": tmp_path / "marks.json", **OPTIONS}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    told = run_track(film, whole, **marks)
    assert told.seen[0] > 4
    answered: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(track, "answer_frames", stop_after(count))
        with pytest.raises(StoppedError):
            run_track(film, broken, **marks)
    assert not list(broken.glob("*.png")), "nothing is half written"
    paint = halfway.Halfway.paint

    def watch(self: halfway.Halfway, frame: int, numbers: Any) -> None:
        answered.append(frame)
        paint(self, frame, numbers)

    monkeypatch.setattr(halfway.Halfway, "paint", watch)
    again = run_track(film, broken, resume=True, **marks)
    every = [2, 3, 4, 5, 6, 3, 2, 1, 0]
    assert answered == every[count:], "what was answered is not answered again"
    assert (again.seen, again.ended) == (told.seen, told.ended)
    here, there = contents(whole), contents(broken)
    # It names the folder.
    here.pop("track.json")
    there.pop("track.json")
    assert here == there
    assert len(here) == FRAMES
    answered.clear()
    third = run_track(film, broken, resume=True, **marks)
    assert third == again
    assert not answered, "a film that is complete is passed over"


def test_another_run_is_not_gone_on_with(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from domainsam_cli import main

    monkeypatch.setattr(halfway, "SECONDS", 0.0)
    marks = {"points": tmp_path / "marks.json", **OPTIONS}
    with monkeypatch.context() as patch:
        patch.setattr(track, "answer_frames", stop_after(2))
        with pytest.raises(StoppedError):
            run_track(film, tmp_path / "out", **marks)
    words = [
        "photo",
        "track",
        str(film),
        "--points",
        str(tmp_path / "marks.json"),
        "-o",
        str(tmp_path / "out"),
    ]
    assert main([*words, "--foundation", "fake", "--device", "cpu", "-q", "--resume"]) == 2
    assert "horizon was 3 and is now 24" in capsys.readouterr().err
    # Without it all begins anew, and nothing of the other run is in it.
    assert run_track(film, tmp_path / "out", **marks).seen == run_track(film, tmp_path / "new", **marks).seen
    assert not list((tmp_path / "out").glob(".*"))


def test_a_state_is_the_same_from_disk(tmp_path: Path) -> None:
    state = PipsState(3, np.array([[1.5, 2.0]]))
    state.looks, state.maps = torch.arange(3, dtype=torch.bfloat16), {1: torch.ones(2)}
    shared = np.arange(6).reshape(2, 3)[:, ::2]
    value = {
        "a": [state, Ended(1, 2, "forwards", "why")],
        4: (None, float("inf"), shared, shared, np.int64(7)),
    }
    kinds = name_kinds(PipsState, Ended)
    arrays = freeze(value, kinds)
    assert len(arrays) == 8, "six of the state, one that is there twice, and the tree"
    np.savez(tmp_path / "s.npz", allow_pickle=False, **arrays)
    with np.load(tmp_path / "s.npz", allow_pickle=False) as read:
        back = thaw(dict(read), kinds)
    found, ended = back["a"]
    assert ended == value["a"][1]
    assert found.maps == {}, "what can be computed again is not kept"
    assert found.looks.dtype == torch.bfloat16
    assert torch.equal(found.looks, state.looks)
    assert np.array_equal(found.paths, state.paths)
    assert found.frame == 3
    assert back[4][:2] == (None, float("inf"))
    assert back[4][4] == 7
    assert np.array_equal(back[4][2], shared)
    assert back[4][2].dtype == shared.dtype
    with pytest.raises(ConfigError, match="a set cannot be kept on disk"):
        freeze({1, 2}, kinds)
