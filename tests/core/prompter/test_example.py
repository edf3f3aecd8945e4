"""What looks like an example is found wherever it lies, ranked; nothing is found where nothing is alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from domainsam.errors import ConfigError, InputError
from domainsam.foundation import load_foundation
from domainsam.infer.pictures import PictureView
from domainsam.prompter.cascade import learn_weights
from domainsam.prompter.example import ExampleOptions, ExampleSource, Target, learn_examples
from domainsam.prompter.search import overlap, own_areas, suppress_same
from domainsam.prompter.target import Shown, calibrate_shown, compare, contrast_shown
from domainsam.protocols import Foundation, PromptSource, SceneObject, View, Window
from domainsam.testing.contracts import ArrayView, PromptSourceContract

RED, BLUE = (210, 40, 30), (30, 60, 200)


@pytest.fixture(scope="module")
def embedded() -> Foundation:
    return load_foundation("embedded")


@pytest.fixture(scope="module")
def fake() -> Foundation:
    return load_foundation("fake")


def disc(centre: tuple[int, int], radius: int, shape: tuple[int, int]) -> NDArray[np.bool_]:
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    return np.asarray((rows - centre[0]) ** 2 + (cols - centre[1]) ** 2 <= radius**2)


def draw(
    discs: list[tuple[tuple[int, int], tuple[int, int, int]]], shape: tuple[int, int] = (256, 384)
) -> NDArray[np.uint8]:
    """Coloured discs of 26 pixels on grey-green noise."""
    noise = np.random.default_rng(0).normal(0, 8, (*shape, 3))
    picture = np.clip(np.array((120, 140, 110)) + noise, 0, 255).astype(np.uint8)
    for centre, colour in discs:
        picture[disc(centre, 26, shape)] = colour
    return picture


def see(picture: NDArray[np.uint8], foundation: Foundation) -> PictureView:
    return PictureView(lambda _: picture, 1, foundation, side=max(picture.shape[:2]))


def mark(mask: NDArray[np.bool_], frame: int = 0) -> SceneObject:
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    bounds = Window(int(rows[0]), int(cols[0]), int(np.ptp(rows)) + 1, int(np.ptp(cols)) + 1, frame)
    return SceneObject(bounds, mask=mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1].copy())


class TestExampleSource(PromptSourceContract):
    @pytest.fixture
    def source(self, fake: Foundation) -> PromptSource:
        view = ArrayView(frames=2, foundation=fake)
        target = learn_examples([(view, mark(disc((30, 40), 9, (64, 96))))], fake)
        return ExampleSource(target, fake)


@pytest.fixture(scope="module")
def target(embedded: Foundation) -> Target:
    """A red disc beside a blue one."""
    picture = draw([((70, 80), RED), ((170, 280), BLUE)])
    return learn_examples([(see(picture, embedded), mark(disc((70, 80), 26, picture.shape[:2])))], embedded)


def iou(one: SceneObject, truth: NDArray[np.bool_]) -> float:
    whole = np.zeros_like(truth)
    whole[one.bounds.slices] = one.mask
    return float((whole & truth).sum() / (whole | truth).sum())


def test_what_looks_alike_is_found_and_ranked(embedded: Foundation, target: Target) -> None:
    centres = [(60, 300), (180, 70)]
    picture = draw([(centres[0], RED), (centres[1], RED), ((150, 220), BLUE)])
    found = list(ExampleSource(target, embedded).find(see(picture, embedded)))
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    truths = [disc(centre, 26, picture.shape[:2]) for centre in centres]
    assert max(iou(found[0], truth) for truth in truths) > 0.8
    for truth in truths:
        assert max(iou(one, truth) for one in found) > 0.3


def test_nothing_alike_is_an_answer(embedded: Foundation, target: Target) -> None:
    assert list(ExampleSource(target, embedded).find(see(draw([]), embedded))) == []


def test_always_gives_the_best_place_of_a_picture(embedded: Foundation, target: Target) -> None:
    options = ExampleOptions(least=1, always=True)
    found = list(ExampleSource(target, embedded, options).find(see(draw([((100, 100), BLUE)]), embedded)))
    assert len(found) == 1


def shown(own: list[float], ground: list[float]) -> Shown:
    """An example of 4 cells in 4 x 4, all descriptors of its own alike, as are those around it."""
    vectors = torch.tensor(ground).view(-1, 1, 1).repeat(1, 4, 4)
    mask = np.zeros((4, 4), bool)
    mask[1:3, 1:3] = True
    vectors[:, 1:3, 1:3] = torch.tensor(own).view(-1, 1, 1)
    share = mask.astype(np.float32)
    return Shown(
        Window(0, 0, 32, 32), vectors, torch.zeros(256, 2, 2), mask, share, np.ones((4, 4), bool), 256
    )


def test_a_counterexample_takes_its_likes_away() -> None:
    """What differs from the ground in one way is parted by what the counter-example shows."""
    ground, wanted, alike = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.8, 0.6]
    example, counter = shown(wanted, ground), shown(alike, ground)
    centre = torch.zeros(3)
    plain, against = (contrast_shown([example], others, centre) for others in ([], [counter]))
    assert against[1].shape == (2, 3)
    there = torch.tensor([wanted, alike]).T[:, None]
    assert compare(there, *plain, centre)[0].tolist() == pytest.approx([1.0, 0.8])
    assert compare(there, *against, centre)[0].tolist() == pytest.approx([0.2, -0.2])
    means = calibrate_shown([example], [counter], centre).score(np.array([0.2, -0.2], np.float32))
    assert means[0] > 0.5 > means[1]


def test_several_examples_are_calibrated_on_those_left_out() -> None:
    """An example that was not shown looks less alike than one that was."""
    ground = [1.0, 0.0, 0.0]
    marks = [shown([0.0, 1.0, 0.0], ground), shown([0.0, 0.8, 0.6], ground)]
    one = calibrate_shown(marks[:1], [], torch.zeros(3))
    both = calibrate_shown(marks, [], torch.zeros(3))
    assert one.high == pytest.approx(1.0)
    assert both.high == pytest.approx(0.8)
    assert both.low < both.cut < both.high
    scores = both.score(np.array([both.low - 1, both.cut, both.high + 1], np.float32))
    assert scores.tolist() == pytest.approx([0, 0.5, 1])


def test_finetuning_learns_two_weights_that_sum_to_one_with_the_first(embedded: Foundation) -> None:
    picture = draw([((70, 80), RED)])
    view = see(picture, embedded)
    truth = disc((70, 80), 26, (256, 384))
    features = view.features(Window(0, 0, 256, 384))
    weights = learn_weights([(features, (80.0, 70.0), truth)], embedded, steps=200)
    assert sum(weights) == pytest.approx(1)
    assert weights != pytest.approx((1 / 3,) * 3, abs=1e-3)


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (SceneObject.marked(box=(1, 1, 9, 9)), "example 1 is marked without its outline"),
        (mark(np.ones((60, 99), bool)), "example 1 lies at rows 0 to 60, columns 0 to 99 of frame 0"),
        (mark(np.ones((9, 9), bool), frame=3), "of frame 3; the scene has 64 rows, 96 columns and 2 frame"),
        (mark(np.ones((64, 96), bool)), "example 1 covers everything around it"),
    ],
)
def test_an_example_that_cannot_be_one_is_told(fake: Foundation, one: SceneObject, words: str) -> None:
    with pytest.raises(InputError, match=words):
        learn_examples([(ArrayView(frames=2, foundation=fake), one)], fake)


def test_an_example_without_data_is_told(fake: Foundation) -> None:
    class Blank(ArrayView):
        def block(self, window: Window):  # type: ignore[no-untyped-def]
            block = super().block(window)
            block.valid[:] = False
            return block

    view: View = Blank(foundation=fake)
    with pytest.raises(InputError, match="example 1 lies where the scene has no data"):
        learn_examples([(view, mark(disc((30, 40), 9, (64, 96))))], fake)
    with pytest.raises(InputError, match="no example was given"):
        learn_examples([], fake)


def test_a_target_of_another_foundation_is_refused(fake: Foundation, target: Target) -> None:
    with pytest.raises(InputError, match="learned with another foundation than fake"):
        ExampleSource(target, fake)
    for wrong in ({"least": 2.0}, {"most": 0}, {"smaller": 2.0}):
        with pytest.raises(ConfigError):
            ExampleOptions(**wrong)  # type: ignore[arg-type]


def test_what_lies_on_a_better_object_is_left_out() -> None:
    large, small = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    large[5:25, 5:25], small[10:20, 10:20] = True, True
    one, other = mark(large), mark(small)
    assert overlap(one, other) == 1.0
    assert overlap(one, mark(small, frame=1)) == 0.0
    assert suppress_same([one, other]) == [one]


def test_windows_answer_for_every_cell_once() -> None:
    counted = np.zeros((1000 // 8, 1400 // 8), int)
    for window, area in own_areas((1000, 1400), 512, 0):
        rows, cols = area
        assert window.row <= rows.start * 8
        assert rows.stop * 8 <= window.row + window.height
        assert window.col <= cols.start * 8 < cols.stop * 8 <= window.col + window.width
        counted[area] += 1
    assert (counted == 1).all()
