"""The gate fires on scans and answers that no body gives, and not on usual ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from domainsam.checkpoint import read_header
from domainsam.familiar import Judgement, Known, learn_known, parse_known
from domainsam.infer.workroom import WorkRoom
from domainsam_ct.generated import draw_abdomen, make_centred_affine
from domainsam_ct.labels import LabelMap, load_label_map
from domainsam_ct.measure.cleanup import Cleaned
from domainsam_ct.measure.gate import BANDS, judge_case
from domainsam_ct.measure.plausible import find_implausible
from domainsam_ct.measure.statistics import HounsfieldUnits, OrganStatistics, Tally
from domainsam_ct.model.shipped import WEIGHTS
from domainsam_ct.read.open import open_volume
from tests.ct.made import write_nifti
from tests.ct.standin import write_case

SHAPE, SPACING = (96, 72, 36), (3.6, 3.6, 6.0)
WINDOW = (-125.0, 275.0)
Arrays = tuple[NDArray[np.int16], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def body() -> Arrays:
    return draw_abdomen(SHAPE, SPACING)


@pytest.fixture(scope="module")
def labels() -> LabelMap:
    return load_label_map("synapse")


@pytest.fixture(scope="module")
def known() -> Known:
    bodies = (draw_abdomen((64, 48, 20), (5.4, 5.4, 9.0), seed)[0] for seed in range(1, 6))
    samples = (hu.ravel()[None].astype(np.float32) for hu in bodies)
    return learn_known(
        samples, BANDS, window=WINDOW, resolutions=[0.6, 4.0], spacings=[1, 8], unit="HU", sensor="CT"
    )


@pytest.fixture
def judge(tmp_path: Path, labels: LabelMap) -> Callable[..., Judgement]:
    def judged(hu: NDArray[np.int16], mask: NDArray[np.uint8], known: Known | None = None) -> Judgement:
        path = write_nifti(tmp_path / "ct.nii.gz", hu, make_centred_affine(hu.shape, SPACING))
        with open_volume(path, scratch=tmp_path) as volume:
            tally = Tally(volume.grid, labels)
            tally.add(0, np.moveaxis(mask, 2, 0), np.moveaxis(volume.slices(0, mask.shape[2]), 2, 0))
            return judge_case(volume, tally.statistics(), Cleaned(), known)

    return judged


def kinds(judgement: Judgement) -> set[str]:
    return {doubt.kind for doubt in judgement.doubts}


def test_twenty_usual_crops_raise_no_doubt(
    judge: Callable[..., Judgement], body: Arrays, known: Known
) -> None:
    rng = np.random.default_rng(0)
    hu, mask = body
    for _ in range(20):
        start = rng.integers(0, (16, 12, 16))
        stop = np.array(SHAPE) - rng.integers(0, (16, 12, 8))
        cut = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        judgement = judge(hu[cut], mask[cut], known)
        assert judgement.texts == ()
        assert judgement.compared


def test_the_shipped_model_knows_what_its_scans_were_like(
    judge: Callable[..., Judgement], body: Arrays
) -> None:
    header = read_header(WEIGHTS / "abdomen.safetensors")
    known = parse_known(header.knows)
    assert known is not None
    assert (known.sensor, known.unit, known.window, known.samples) == ("CT", "HU", WINDOW, 18)
    hu, mask = body
    # Drawn bodies have coarse pixels; their values are those of a scan.
    assert kinds(judge(hu, mask, known)) == {"resolution"}
    assert judge(hu, mask, known).compared
    assert "values" in kinds(judge((hu + 1024).astype(np.int16), mask, known))


def draw_leg() -> NDArray[np.int16]:
    """Thigh: bone, muscle, fat, air."""
    x, y = np.meshgrid(np.arange(SHAPE[0]) - 48, np.arange(SHAPE[1]) - 36, indexing="ij")
    away = np.hypot(x, y) * SPACING[0]
    plane = np.select([away < 14, away < 65, away < 85], [900, 55, -100], -1000)
    noise = np.random.default_rng(0).normal(0, 12, SHAPE)
    return np.asarray(plane[..., None] + noise, np.int16)


def draw_phantom() -> NDArray[np.int16]:
    leg = draw_leg()
    noise = np.random.default_rng(1).normal(0, 15, SHAPE)
    return np.where(leg > -500, noise, leg).astype(np.int16)


def test_wrong_values_are_doubted(judge: Callable[..., Judgement], body: Arrays, known: Known) -> None:
    """Stored values (1024 too high), rescaled twice (1024 too low), an MR; with the file's word or not."""
    hu, mask = body
    wrong = {"stored": hu + 1024, "twice": hu - 1024, "mr": (np.clip(hu, -200, 400) + 200) * 2}
    for name, values in wrong.items():
        for word in (None, known):
            judgement = judge(values.astype(np.int16), mask, word)
            assert "values" in kinds(judgement), name
            assert "density" in kinds(judgement), name
            assert judgement.line.startswith("doubtful: values")


def test_other_scans_are_doubted(judge: Callable[..., Judgement], body: Arrays, known: Known) -> None:
    hu, mask = body
    nothing = np.zeros(SHAPE, np.uint8)
    assert "values" in kinds(judge(draw_phantom(), nothing))
    assert "nothing" in kinds(judge(draw_leg(), nothing))
    speck = nothing.copy()
    speck[46:49, 40:43, 10:12] = 1
    assert "size" in kinds(judge(draw_leg(), speck)), "a spleen of 1.4 mL"
    assert kinds(judge(hu[::-1], mask[::-1])) == {"side"}
    assert kinds(judge(hu[:, :, ::-1], mask[:, :, ::-1])) == {"order"}
    assert kinds(judge(hu, nothing, known)) == {"nothing"}


def test_a_scan_of_another_kind_is_doubted_by_what_the_file_says(
    judge: Callable[..., Judgement], body: Arrays, known: Known
) -> None:
    """Contrast in place of none, for instance: no rule of physics is broken."""
    hu, mask = body
    brighter = np.where((hu > 20) & (hu < 200), hu + 110, hu).astype(np.int16)
    assert kinds(judge(brighter, mask)) <= {"density"}
    (doubt,) = [d for d in judge(brighter, mask, known).doubts if d.kind == "values"]
    assert "HU, in training below" in doubt.text


def organ(name: str, **figures: object) -> OrganStatistics:
    return OrganStatistics(name, 1, 100, **figures)  # type: ignore[arg-type]


def test_sizes_are_told_beyond_disease_alone() -> None:
    """A shrunken kidney, a child's liver at the edge, and a spleen of 2 L are rare, not impossible."""
    usual = [
        organ("kidney_left", volume_ml=30.0, touches_border=False),
        organ("liver", volume_ml=90.0, touches_border=True),
        organ("spleen", volume_ml=2000.0, touches_border=False),
        organ("pancreas", volume_ml=20.0, touches_border=None),
    ]
    assert find_implausible(usual) == ()
    small, large = find_implausible(
        [
            organ("liver", volume_ml=90.0, touches_border=False),
            organ("pancreas", volume_ml=1200.0, touches_border=False),
        ]
    )
    assert (small.kind, small.about, large.about) == ("size", "liver", "pancreas")
    assert small.text.startswith(
        "liver of 90.0 mL, inside the scan, is less than bodies have (250 mL or more)"
    )


def test_pieces_and_confidence() -> None:
    whole = organ("liver", confidence=0.9)
    assert find_implausible([whole], Cleaned({1: 100})) == ()
    (pieces,) = find_implausible([whole], Cleaned({1: 101}))
    assert (pieces.kind, pieces.about) == ("pieces", "liver")
    small = OrganStatistics("gallbladder", 4, 10, confidence=0.3)
    assert find_implausible([whole, small]) == ()
    (unsure,) = find_implausible([organ("liver", confidence=0.55), small])
    assert "mean probability of 0.53" in unsure.text


def test_density_is_of_solid_organs() -> None:
    def of(name: str, mean: float) -> OrganStatistics:
        return organ(name, hu=HounsfieldUnits(mean, 10.0, mean - 30, mean + 30, mean))

    assert find_implausible([of("liver", -20.0), of("kidney_left", 300.0), of("stomach", -600.0)]) == ()
    (doubt,) = find_implausible([of("liver", 1069.0)])
    assert "liver of 1069 HU on average" in doubt.text


def test_doubts_are_told_everywhere_and_refused_only_with_strict(
    tmp_path: Path, ct_segment: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """The stand-in's organs are far too small for a body."""
    import csv
    import json

    scan = write_case(tmp_path / "ct.nii.gz")
    out = tmp_path / "out"
    assert ct_segment(scan, "-o", out, "--statistics", "--report") == 0
    printed = capsys.readouterr()
    assert "; doubtful: size" in printed.out
    assert "liver of 47.0 mL, inside the scan, is less than bodies have" in printed.err
    told = json.loads((out / "ct_statistics.json").read_text())
    assert told["judgement"]["doubtful"] is True
    assert told["judgement"]["compared_with_training"] is False
    assert ("size", "liver") in {(doubt["kind"], doubt["about"]) for doubt in told["judgement"]["doubts"]}
    rows = {row["organ"]: row for row in csv.DictReader((out / "ct_statistics.csv").read_text().splitlines())}
    assert (rows["liver"]["doubtful"], rows["liver"]["model_dice"]) == ("1", "0.912")
    assert (rows["spleen"]["model_dice"], rows["aorta"]["touches_border"]) == ("", "1")
    page = (out / "ct_report.html").read_text()
    assert "To be doubted." in page
    assert "Not judged: the model file does not say what it was trained on" in page
    assert ct_segment(scan, "-o", tmp_path / "strict", "--strict") == 2
    assert "ct: doubtful: size, and --strict was given" in capsys.readouterr().err
    assert not (tmp_path / "strict").exists()


def test_a_work_room_is_left_clean_by_a_refusal(tmp_path: Path, ct_segment: Callable[..., int]) -> None:
    scan = write_case(tmp_path / "ct.nii.gz")
    assert ct_segment(scan, "-o", tmp_path / "seg.nii.gz", "--strict", "-q") == 2
    with WorkRoom(tmp_path / ".ct.domainsam", resume=False):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"ct.nii.gz"}
