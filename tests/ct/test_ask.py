"""``ct ask``: slices are shown as radiologists see them, and answers of slices become one organ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

import domainsam
from domainsam.errors import ConfigError
from domainsam.foundation.fake import FakeFoundation
from domainsam.keywords import keyword_names
from domainsam.prompter.language.keywords import ask_options as language_options
from domainsam.protocols import SceneObject, Window
from domainsam.testing.oracle import SeeingSpeaker
from domainsam_cli import main
from domainsam_ct.ask.cases import choose_window
from domainsam_ct.ask.chains import boxes_between, join_slices
from domainsam_ct.ask.look import Slices
from domainsam_ct.ask.settings import WINDOWS
from domainsam_ct.ask.volume import choose_slices
from domainsam_ct.commands.ask import ask_command
from domainsam_ct.read.open import open_volume
from domainsam_ct.run import segment_options
from domainsam_ct.run_ask import NO_PART, ask_options, make_label

PHRASE = "the spleen"
SHAPE = (64, 60, 14)
"""Voxels along the patient's left, front and head; 2 x 2 x 5 mm."""
ORGAN = (slice(40, 56), slice(10, 26), slice(4, 11))
STRAY = (slice(4, 12), slice(40, 50), slice(0, 1))
SOFT, ORGAN_HU = 20.0, 160.0


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An organ at the patient's left and back, and something as bright far below it."""
    voxels = np.random.default_rng(0).normal(SOFT, 6, SHAPE).astype(np.int16)
    voxels[ORGAN] = voxels[STRAY] = ORGAN_HU
    voxels[:2] = -900
    path = tmp_path_factory.mktemp("ask") / "ct.nii.gz"
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([2.0, 2.0, 5.0, 1.0])), path)
    return path


def see(picture: np.ndarray) -> dict[str, list[np.ndarray]]:
    """What of a slice is bright."""
    bright = picture[..., 0] > 190
    return {PHRASE: [bright] if bright.any() else []}


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> SeeingSpeaker:
    speaker = SeeingSpeaker(see)
    monkeypatch.setattr("domainsam_ct.ask.cases.load_speaker", lambda *_: speaker)
    return speaker


def ask(scan: Path, out: Path, *more: str, phrase: str = PHRASE) -> int:
    return main(
        [
            *("ct", "ask", str(scan), phrase, "--mllm", "oracle", "--mode", "pqpp", "-o", str(out)),
            *("--foundation", "fake", "--device", "cpu", "--precision", "fp32", *more),
        ]
    )


def test_slices_become_one_organ_and_strays_are_left_out(
    scan: Path, oracle: SeeingSpeaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "spleen.nii.gz"
    assert ask(scan, out, "--statistics") == 0
    mask = np.asarray(nibabel.load(out).dataobj)
    truth = np.zeros(SHAPE, bool)
    truth[ORGAN] = True
    assert np.array_equal(nibabel.load(out).affine, nibabel.load(scan).affine)
    assert mask.any(axis=(0, 1)).tolist() == truth.any(axis=(0, 1)).tolist()
    assert ((mask > 0) & truth).sum() / ((mask > 0) | truth).sum() > 0.7
    text = capsys.readouterr().out
    assert "down to slice 4 (20 mm): the model sees it no more" in text
    assert "1 stray answers on other slices are left out" in text
    statistics = json.loads((tmp_path / "spleen_statistics.json").read_text())
    assert "spleen" in json.dumps(statistics)


@pytest.mark.slow
def test_slices_between_those_asked_have_boxes_between(
    scan: Path, oracle: SeeingSpeaker, tmp_path: Path
) -> None:
    """At 10 mm every second slice is asked about; those between are painted too."""
    out = tmp_path / "spleen.nii.gz"
    assert ask(scan, out, "--every", "10", "-q") == 0
    mask = np.asarray(nibabel.load(out).dataobj) > 0
    assert len(oracle.model.known) == 7
    assert np.flatnonzero(mask.any(axis=(0, 1))).tolist() == list(range(4, 11))
    assert mask[46:50, 15:20, 4:11].mean() > 0.9


def test_what_is_not_there_is_told(
    scan: Path, oracle: SeeingSpeaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "none.nii.gz"
    assert ask(scan, out, phrase="a third kidney") == 0
    captured = capsys.readouterr()
    assert "third_kidney: not found on any of 14 slices" in captured.out
    assert not np.asarray(nibabel.load(out).dataobj).any()


def test_patients_are_not_sent_away(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(
        [
            *("ct", "ask", str(scan), PHRASE, "--mllm", "https://models.example/v1#m"),
            *("-o", str(tmp_path / "a.nii.gz"), "--device", "cpu"),
        ]
    )
    assert code == 2
    assert "would send slices of a patient to models.example" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_open_scan_is_asked_too(scan: Path, oracle: SeeingSpeaker) -> None:
    with domainsam.open(scan) as opened:
        found = opened.find(ask=PHRASE, mllm="oracle", mode="pqpp", foundation="fake", device="cpu")
        assert found.names == ("spleen",)
        assert np.flatnonzero(found.mask.any(axis=(1, 2))).tolist() == list(range(4, 11))
        assert found.told["asked"]["spleen"]["parts"][0]["slices_found"] == 7
        with pytest.raises(ConfigError, match="no option is named 'mood'"):
            opened.find(ask=PHRASE, mllm="oracle", mood="good")
        with pytest.raises(ConfigError, match=r"'window' is said by ask=, save\(\) or open\(\), not here"):
            opened.find(ask=PHRASE, mllm="oracle", window="liver")


def test_slices_are_seen_from_the_feet_with_the_right_on_the_left(scan: Path) -> None:
    with open_volume(scan) as volume:
        slices = Slices(volume, WINDOWS["abdomen"])
        picture = slices.read(6)
        assert picture.shape == (60, 64, 3)
        rows, cols = np.nonzero(picture[..., 0] > 190)
        # The organ lies at the patient's left and back: to the right, and in the lower half.
        assert cols.min() == 64 - 56 or cols.min() == 40
        assert rows.min() == 60 - 26
        assert slices.show(6).shape == (480, 512, 3)


def test_pixels_that_are_not_square_are_shown_square_and_brought_back(tmp_path: Path) -> None:
    voxels = np.full((40, 20, 3), SOFT, np.int16)
    voxels[10:30, 5:15] = ORGAN_HU
    voxels[0, 0, 0] = -900
    path = tmp_path / "ct.nii.gz"
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1.0, 2.0, 5.0, 1.0])), path)
    with open_volume(path) as volume:
        slices = Slices(volume, WINDOWS["abdomen"])
        assert slices.own == (20, 40)
        assert slices.read(1).shape == (40, 40, 3)
        view = slices.view(FakeFoundation())
        mask = slices.read(1)[..., 0] > 160
        placed = slices.place(view.shrink_mask(mask, 1), view)
        assert placed.shape == (20, 40)
        assert placed[5:15, 10:30].mean() > 0.9
        assert placed.sum() < 1.2 * 200


def block(frame: int, left: int, score: float = 0.8) -> SceneObject:
    bounds = Window(10, left, 10, 10, frame)
    return SceneObject(bounds, score=score, box=bounds.box, mask=np.ones((10, 10), bool))


def test_chains_go_on_over_one_slice_without_an_answer_and_no_further() -> None:
    asked = list(range(0, 20, 2))
    found: dict[int, list[SceneObject]] = {frame: [] for frame in asked}
    for frame in (2, 4, 8, 14):
        found[frame] = [block(frame, 10)]
    found[4].append(block(4, 60))
    chains = join_slices(found, asked)
    assert [list(chain.objects) for chain in chains] == [[2, 4, 8], [14], [4]] or [
        list(chain.objects) for chain in chains
    ] == [[2, 4, 8], [4], [14]]
    between = boxes_between(chains[0], range(20))
    assert sorted(between) == [3, 5, 6, 7]
    assert between[3] == (10, 10, 20, 20)


def test_boxes_between_lie_between() -> None:
    asked = [0, 4]
    chains = join_slices({0: [block(0, 10)], 4: [block(4, 14)]}, asked)
    assert boxes_between(chains[0], range(5)) == {
        1: (11, 10, 21, 20),
        2: (12, 10, 22, 20),
        3: (13, 10, 23, 20),
    }


@pytest.mark.parametrize(
    ("frames", "spacing", "every", "slices"),
    [
        (7, 5.0, 5.0, [0, 1, 2, 3, 4, 5, 6]),
        (7, 2.0, 5.0, [0, 2, 4, 6]),
        (8, 1.0, 3.0, [0, 3, 6]),
        (2, 1, 50, [0]),
    ],
)
def test_slices_that_are_asked_about(frames: int, spacing: float, every: float, slices: list[int]) -> None:
    assert choose_slices(frames, spacing, every) == slices


@pytest.mark.parametrize(
    ("phrase", "window"),
    [
        ("the left lung", "lung"),
        ("Broken ribs", "bone"),
        ("the aorta", "mediastinum"),
        ("the spleen", "abdomen"),
        ("a pelvic abscess", "abdomen"),
    ],
)
def test_words_suggest_a_window(phrase: str, window: str) -> None:
    assert choose_window(phrase) == WINDOWS[window]


@pytest.mark.parametrize(
    ("phrase", "label"),
    [
        ("the spleen", "spleen"),
        ("Both  Kidneys!", "kidneys"),
        ("a third kidney", "third_kidney"),
        ("脾臓", "asked"),
        ("../../etc", "etc"),
    ],
)
def test_masks_are_named_after_words(phrase: str, label: str) -> None:
    assert make_label(phrase) == label


def test_impossible_options_are_refused() -> None:
    given: dict[str, Any] = {"phrase": PHRASE, "mllm": "m", "out": "a.nii.gz"}
    with pytest.raises(ConfigError, match="label is 'a b'"):
        ask_options(**given, label="a b")
    with pytest.raises(ConfigError, match="parts is 0"):
        ask_options(**given, parts=0)
    assert ask_options(**given, window="lung").job.run.window == WINDOWS["lung"]
    assert ask_options(**given, window=(0, 100)).job.run.window == (0, 100)


def test_keywords_are_the_options_of_the_command() -> None:
    options = {item.name for item in ask_command.params if item.expose_value}
    options -= {"as_json", "verbose", "scan", "phrase"}
    known = set(keyword_names(segment_options)) - set(NO_PART)
    assert options == known | set(keyword_names(ask_options, language_options)) - {"phrase"}
