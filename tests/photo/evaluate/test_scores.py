"""Scores agree with computations of another kind, and with the rules of the benchmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from domainsam.errors import InputError, MissingInputError
from domainsam_photo.evaluate import evaluate as module
from domainsam_photo.evaluate.evaluate import EvaluateOptions, evaluate_folder
from domainsam_photo.evaluate.layouts import read_groups, read_sequences
from domainsam_photo.evaluate.report import Gallery, render_report
from domainsam_photo.evaluate.scores import count_bands, measure_contour, measure_region
from domainsam_photo.generated import draw_film, encode_picture
from domainsam_photo.write.masks import encode_numbers

Mask = NDArray[np.bool_]


def blobs(seed: int, shape: tuple[int, int] = (120, 160)) -> Mask:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 7)
    return np.asarray(noise > np.quantile(noise, 0.7))


def contour_by_dilation(truth: Mask, answer: Mask) -> float:
    """DAVIS's F written out with loops over neighbours and a disk, as its definition says."""

    def outline(mask: Mask) -> Mask:
        rows, cols = mask.shape
        line = np.zeros_like(mask)
        for row in range(rows):
            for col in range(cols):
                beside = [(row, min(col + 1, cols - 1)), (min(row + 1, rows - 1), col)]
                beside.append((min(row + 1, rows - 1), min(col + 1, cols - 1)))
                line[row, col] = any(mask[place] != mask[row, col] for place in beside)
        return line

    radius = int(np.ceil(0.008 * np.linalg.norm(truth.shape)))
    steps = np.arange(-radius, radius + 1)
    disk = steps[:, None] ** 2 + steps[None] ** 2 <= radius**2
    lines = outline(truth), outline(answer)
    wide = [ndimage.binary_dilation(line, disk) for line in lines]
    counts = [int(line.sum()) for line in lines]
    if not any(counts):
        return 1.0
    if not all(counts):
        return 0.0
    precision = (lines[1] & wide[0]).sum() / counts[1]
    recall = (lines[0] & wide[1]).sum() / counts[0]
    return float(2 * precision * recall / (precision + recall))


@pytest.mark.parametrize("seed", [0, 1])
def test_region_and_contour_agree_with_their_definitions(seed: int) -> None:
    truth, answer = blobs(seed), np.roll(blobs(seed), (2, 1), (0, 1)) | blobs(seed + 10)
    assert measure_region(truth, answer) == pytest.approx((truth & answer).sum() / (truth | answer).sum())
    assert measure_contour(truth, answer) == pytest.approx(contour_by_dilation(truth, answer), abs=1e-12)
    assert measure_contour(truth, truth) == measure_region(truth, truth) == 1


def disc(row: int, col: int, radius: int) -> Mask:
    rows, cols = np.mgrid[:120, :160]
    return np.asarray((rows - row) ** 2 + (cols - col) ** 2 <= radius**2)


@pytest.mark.parametrize(
    ("truth", "answer", "region", "contour"),
    [
        (disc(60, 80, 30), disc(63, 84, 28), 0.7865853658536586, 0.38135593220338987),
        (disc(5, 150, 30), disc(8, 150, 33), 0.7898550724637681, 0.02395209580838323),
        (
            disc(40, 40, 20) | disc(80, 120, 25),
            disc(40, 42, 20) | disc(10, 150, 6),
            0.34506009967751394,
            0.5616438356164384,
        ),
    ],
)
def test_scores_are_those_of_the_official_code(
    truth: Mask, answer: Mask, region: float, contour: float
) -> None:
    """Figures that DAVIS's own code (davis2017-evaluation, ``db_eval_iou``, ``db_eval_boundary``) gave."""
    assert measure_region(truth, answer) == pytest.approx(region, abs=1e-12)
    assert measure_contour(truth, answer) == pytest.approx(contour, abs=1e-12)


def test_empty_masks_score_as_davis_says() -> None:
    empty, full = np.zeros((20, 30), bool), blobs(0, (20, 30))
    assert measure_region(empty, empty) == measure_contour(empty, empty) == 1
    assert measure_region(full, empty) == measure_contour(full, empty) == measure_contour(empty, full) == 0


def test_bands_are_what_erosion_takes() -> None:
    truth, answer = blobs(4), np.roll(blobs(4), 3, 0)
    depth = round(0.02 * float(np.hypot(*truth.shape)))
    bands = []
    for mask in (truth, answer):
        inner = ndimage.binary_erosion(np.pad(mask, 1), np.ones((3, 3)), depth)[1:-1, 1:-1]
        bands.append(mask & ~inner)
    assert count_bands(truth, answer) == ((bands[0] & bands[1]).sum(), (bands[0] | bands[1]).sum())


@pytest.fixture(scope="module")
def davis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two films in DAVIS's layout: a ball that rolls, and the same with a second number."""
    root = tmp_path_factory.mktemp("davis")
    for name in ("roll", "two"):
        pictures, masks = draw_film(3, 4)
        for kind in ("JPEGImages", "Annotations"):
            (root / kind / "480p" / name).mkdir(parents=True)
        for number, (picture, mask) in enumerate(zip(pictures, masks, strict=True)):
            Image.fromarray(picture).save(root / "JPEGImages/480p" / name / f"{number:05d}.jpg", quality=95)
            numbers = mask.astype(np.uint8)
            if name == "two":
                numbers[10:60, 250:300] = 2
            (root / "Annotations/480p" / name / f"{number:05d}.png").write_bytes(encode_numbers(numbers))
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("two\n")
    (root / "ImageSets/2016").mkdir(parents=True)
    lines = [f"/JPEGImages/480p/roll/{n:05d}.jpg /Annotations/480p/roll/{n:05d}.png" for n in range(4)]
    (root / "ImageSets/2016/old.txt").write_text("\n".join(lines))
    return root


def test_davis_is_scored_without_the_first_and_the_last_picture(davis: Path) -> None:
    shown: list[str] = []

    def watch(name: str, score: float, picture: object, truth: Mask, answer: Mask) -> None:
        shown.append(name)

    options = EvaluateOptions("davis", "still", "val", foundation="fake", device="cpu")
    result = evaluate_folder(davis, options, watch)
    assert [unit.name for unit in result.units] == ["two, object 1", "two, object 2"]
    assert shown == [f"two/{frame}, object {number}" for number in (1, 2) for frame in (1, 2)]
    ball = result.units[0]
    assert ball.pictures == 2
    assert ball.scores["J&F"] == pytest.approx((ball.scores["J"] + ball.scores["F"]) / 2)
    # The ball rolls away under points that stay.
    assert 0 <= ball.scores["J"] < 0.9
    means = [unit.scores["J&F"] for unit in result.units]
    assert result.interval("J&F").value == pytest.approx(np.mean(means))


def test_lists_of_both_years_name_films(davis: Path) -> None:
    assert [film.name for film in read_sequences(davis)] == ["roll", "two"]
    assert [film.name for film in read_sequences(davis, "old")] == ["roll"]
    assert sorted(read_sequences(davis, "val")[0].masks) == [0, 1, 2, 3]
    with pytest.raises(MissingInputError, match="no such list"):
        read_sequences(davis, "none")


@pytest.fixture
def perseg(tmp_path: Path) -> Path:
    """Two objects of three pictures each in PerSeg's layout, 16 x 16 pixels."""
    for name in ("cup", "hat"):
        for kind in ("Images", "Annotations"):
            (tmp_path / kind / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (16, 16), (9, 9, 9)).save(tmp_path / "Images" / name / f"{number:02d}.jpg")
            mask = np.zeros((16, 16, 3), np.uint8)
            mask[4:8, 4 : 8 + 4 * number] = (128, 0, 0)
            Image.fromarray(mask).save(tmp_path / "Annotations" / name / f"{number:02d}.png")
    return tmp_path


def test_perseg_pools_pictures_and_leaves_the_example_out(
    perseg: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With answers of 4 x 4 pixels, the truths being 4 x 8 and 4 x 12: 32 of 80 pixels."""
    answer = np.zeros((16, 16), bool)
    answer[4:8, 4:8] = True
    monkeypatch.setattr(module, "_make_by_example", lambda *_: lambda picture, truth: answer)
    result = evaluate_folder(perseg, EvaluateOptions("perseg", foundation="fake", device="cpu"))
    assert [(unit.name, unit.pictures) for unit in result.units] == [("cup", 2), ("hat", 2)]
    assert result.units[0].scores["IoU"] == pytest.approx(32 / 80)
    assert result.interval("IoU").value == pytest.approx(0.4)
    assert "name,pictures,IoU,boundary IoU" in result.csv()


def test_layouts_say_what_is_missing(perseg: Path, tmp_path: Path) -> None:
    (perseg / "Annotations" / "hat" / "02.png").unlink()
    with pytest.raises(InputError, match=r"02\.jpg: has no mask"):
        read_groups(perseg, "perseg")
    with pytest.raises(MissingInputError, match="images"):
        read_groups(tmp_path, "folder")


def test_the_report_shows_the_worst_and_needs_no_network(
    perseg: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        module, "_make_by_example", lambda *_: lambda picture, truth: np.zeros(truth.shape, bool)
    )
    gallery = Gallery(most=3)
    result = evaluate_folder(perseg, EvaluateOptions("perseg", foundation="fake", device="cpu"), gallery)
    page = render_report(result, "perseg", "domainsam photo evaluate", gallery.cases)
    assert len(gallery.cases) == 3
    assert page.count("data:image/jpeg;base64,") == 3
    assert "http" not in page.replace("http-equiv", "")
    assert "cup/01" in page


def test_folders_are_scored_from_the_boxes_of_the_truth(tmp_path: Path) -> None:
    picture, mask = draw_film(1, 1)[0][0], draw_film(1, 1)[1][0]
    for kind, content in (("images", picture), ("masks", mask)):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "a.png").write_bytes(encode_picture(content))
    result = evaluate_folder(tmp_path, EvaluateOptions("folder", device="cpu"))
    assert result.method == "boxes"
    assert result.units[0].pictures == 1
    assert result.units[0].scores["IoU"] > 0.8
