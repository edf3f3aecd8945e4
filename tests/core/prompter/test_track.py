"""Objects are followed both ways from where they were marked, and the claims of SAM-PT's design hold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from domainsam.errors import ConfigError, InputError
from domainsam.foundation import load_foundation
from domainsam.infer.pictures import PictureView
from domainsam.prompter.anchor import Anchor
from domainsam.prompter.pointmask import cut_box, decode_points
from domainsam.prompter.query import Pick, pick_points
from domainsam.prompter.track import Ended, FrameAnswer, TrackOptions, TrackSource, follow
from domainsam.prompter.trackers import FeatureTracker, StillTracker, Tracker
from domainsam.protocols import Click, Foundation, PromptSource, SceneObject, View, Window
from domainsam.testing.contracts import ArrayView, PromptSourceContract

SHAPE = (96, 160)


@pytest.fixture(scope="module")
def fake() -> Foundation:
    return load_foundation("fake")


def texture(seed: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
    blocks = np.random.default_rng(seed).integers(0, 255, (shape[0] // 4, shape[1] // 4, 3))
    return blocks.repeat(4, axis=0).repeat(4, axis=1).astype(np.uint8)


def film(places: list[tuple[int, int]]) -> Callable[[int], NDArray[np.uint8]]:
    """A textured square of 32 pixels, left upper corner at each place, before a smooth ground."""
    square = texture(1, (32, 32))

    def read(frame: int) -> NDArray[np.uint8]:
        picture = np.full((*SHAPE, 3), 90, np.uint8)
        row, col = places[frame]
        picture[row : row + 32, col : col + 32] = square
        return picture

    return read


def view_of(places: list[tuple[int, int]], foundation: Foundation) -> PictureView:
    return PictureView(film(places), len(places), foundation, side=160)


def square_at(row: int, col: int, frame: int = 0, label: str | None = None) -> SceneObject:
    return SceneObject(Window(row, col, 32, 32, frame), label, mask=np.ones((32, 32), bool))


LOOSE = TrackOptions(least_iou=0.0, refinements=1)


class TestTrackSource(PromptSourceContract):
    @pytest.fixture
    def source(self, fake: Foundation) -> PromptSource:
        return TrackSource((SceneObject.marked((Click(40, 30),)),), fake, StillTracker(), LOOSE)


def test_a_still_film_gives_every_picture_the_answer_of_its_points(fake: Foundation) -> None:
    view = view_of([(30, 50)] * 3, fake)
    options = TrackOptions(least_iou=0.0, negatives=0, extent=False)
    answers = list(follow(view, [square_at(30, 50)], fake, StillTracker(), options))
    assert [one.frame for one in answers] == [0, 1, 2]
    assert (answers[0].labels[30:62, 50:82] == 1).all()
    assert answers[0].labels.sum() == 32 * 32
    assert answers[0].scores == (1.0,)
    window = Window(16, 32, 64, 64, 1)
    alone = decode_points(view.features(window), window, fake, answers[1].points[0], np.zeros((0, 2)), 3)
    assert alone is not None
    assert np.array_equal(answers[1].labels == 1, alone.paint(SHAPE) > 0)
    assert np.array_equal(answers[1].labels, answers[2].labels)


def test_features_follow_a_square_both_ways(fake: Foundation) -> None:
    places = [(16 + 8 * step, 24 + 16 * step) for step in range(5)]
    view = view_of(places, fake)
    tracker = FeatureTracker(64, radius=30)
    answers = {one.frame: one for one in follow(view, [square_at(*places[2], frame=2)], fake, tracker, LOOSE)}
    assert sorted(answers) == [0, 1, 2, 3, 4]
    for frame, (row, col) in enumerate(places):
        points = answers[frame].points[0]
        assert len(points) >= 8, f"picture {frame}"
        middle = np.median(points, axis=0)
        assert abs(middle - (col + 16, row + 16)).max() <= 8, f"picture {frame}"


def test_an_object_that_leaves_is_given_up_and_said_where(fake: Foundation) -> None:
    def read(frame: int) -> NDArray[np.uint8]:
        return film([(30, 50)])(0) if frame < 2 else np.full((*SHAPE, 3), 90, np.uint8)

    view = PictureView(read, 6, fake, side=160)
    ended: list[Ended] = []
    options = TrackOptions(least_iou=0.0, patience=2, negatives=0)
    answers = list(follow(view, [square_at(30, 50)], fake, FeatureTracker(64), options, ended))
    assert [bool(one.labels.any()) for one in answers] == [True, True, False, False, False, False]
    assert ended == [Ended(1, 3, "forwards", "no point on it is seen")]
    assert answers[-1].scores == (0.0,)


def test_objects_that_change_places_change_their_numbers(fake: Foundation) -> None:
    view = view_of([(30, 50)] * 2, fake)
    one, other = square_at(30, 50), square_at(0, 120)
    first = list(follow(view, [one, other], fake, StillTracker(), LOOSE))
    second = list(follow(view, [other, one], fake, StillTracker(), LOOSE))
    for here, there in zip(first, second, strict=True):
        swapped = np.choose(there.labels, [0, 2, 1])
        assert np.array_equal(here.labels, swapped)
        assert here.scores == there.scores[::-1]


def test_objects_of_several_pictures_come_from_both_directions(fake: Foundation) -> None:
    view = view_of([(30, 50)] * 4, fake)
    marks = [square_at(30, 50, 1), square_at(0, 120, 2)]
    answers = list(follow(view, marks, fake, StillTracker(), LOOSE))
    seen: dict[int, set[int]] = {}
    for one in answers:
        seen.setdefault(one.frame, set()).update(np.unique(one.labels).tolist())
    assert all(seen[frame] >= {1, 2} for frame in range(4))
    assert len(answers) == 3 + 2, "only the picture between the two marks comes twice"


@pytest.mark.parametrize("variant", ["fixed", "median", "similar", "synced"])
def test_new_points_are_set_after_the_horizon(fake: Foundation, variant: str) -> None:
    class Counting(StillTracker):
        def __init__(self) -> None:
            self.begun: list[int] = []

        def begin(self, view: View, frame: int, points: NDArray[np.float64]) -> NDArray[np.float64]:
            self.begun.append(frame)
            return super().begin(view, frame, points)

    tracker = Counting()
    options = TrackOptions(least_iou=0.0, reinit=variant, horizon=4)  # type: ignore[arg-type]
    answers = list(follow(view_of([(30, 50)] * 10, fake), [square_at(30, 50)], fake, tracker, options))
    assert len(tracker.begun) == 3
    assert tracker.begun[0] == 0
    assert 1 < tracker.begun[1] <= 4 < tracker.begun[2] <= 8
    assert all(one.labels.any() for one in answers)


def test_a_horizon_beyond_the_film_changes_nothing(fake: Foundation) -> None:
    def run(options: TrackOptions) -> list[FrameAnswer]:
        view = view_of([(30, 50), (30, 52), (32, 54)], fake)
        return list(follow(view, [square_at(30, 50)], fake, FeatureTracker(64), options))

    plain, renewed = run(LOOSE), run(TrackOptions(least_iou=0.0, refinements=1, reinit="median", horizon=3))
    for one, other in zip(plain, renewed, strict=True):
        assert np.array_equal(one.labels, other.labels)


def test_patches_drop_points_whose_surroundings_change(fake: Foundation) -> None:
    def read(frame: int) -> NDArray[np.uint8]:
        picture = film([(30, 50)])(0)
        if frame:
            picture[30:62, 50:66] = 255 - picture[30:62, 50:66]
        return picture

    def points(patches: bool) -> NDArray[np.float64]:
        view = PictureView(read, 2, fake, side=160)
        options = TrackOptions(least_iou=0.0, patches=patches)
        return list(follow(view, [square_at(30, 50)], fake, StillTracker(), options))[1].points[0]

    assert points(False)[:, 0].min() < 66
    assert 0 < len(points(True)) < len(points(False))
    assert points(True)[:, 0].min() > 64


@pytest.mark.parametrize("pick", ["kmedoids", "random", "shi-tomasi", "mixed"])
def test_points_lie_on_the_mask_and_are_the_same_again(pick: Pick) -> None:
    mask = np.zeros((60, 80), bool)
    mask[10:50, 5:30], mask[40:45, 30:75] = True, True
    image = texture(4, (60, 80)).transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    points = pick_points(mask, 16, pick, 3, image)
    assert points.shape == (16, 2)
    assert mask[points[:, 1].astype(int), points[:, 0].astype(int)].all()
    assert np.array_equal(points, pick_points(mask, 16, pick, 3, image))
    assert len(pick_points(np.eye(3, dtype=bool), 16, pick, 3, image[:, :3, :3])) == 3
    with pytest.raises(ConfigError, match="not by 'grid'"):
        pick_points(mask, 4, "grid")  # type: ignore[arg-type]


def test_medoids_reach_thin_parts() -> None:
    mask = np.zeros((60, 80), bool)
    mask[10:50, 5:30], mask[40:43, 30:78] = True, True
    points = pick_points(mask, 6, "kmedoids", 0)
    assert points[:, 0].max() > 55
    assert points[:, 0].min() < 20


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (square_at(30, 50, frame=7), "object 1 is marked in picture 7; there are pictures 0 to 1"),
        (square_at(80, 50), "object 1 lies outside; pictures have x from 0 to 160 and y from 0 to 96"),
        (SceneObject.marked((Click(10, 10), Click(300, 10, inside=False))), "object 1 lies outside"),
    ],
)
def test_marks_beside_the_film_are_told(fake: Foundation, one: SceneObject, words: str) -> None:
    with pytest.raises(InputError, match=words):
        list(follow(view_of([(30, 50)] * 2, fake), [one], fake, StillTracker()))


def test_impossible_numbers_are_refused(fake: Foundation) -> None:
    for wrong in ({"points": 0}, {"patience": 0}, {"least_iou": 2.0}, {"horizon": 1}):
        with pytest.raises(ConfigError):
            TrackOptions(**wrong)
    with pytest.raises(InputError, match="0 objects are to be followed"):
        list(follow(ArrayView(foundation=fake), [], fake, StillTracker()))
    assert isinstance(FeatureTracker(64), Tracker)


def test_the_extent_moves_and_grows_with_the_points() -> None:
    points = np.array([[10.0, 10.0], [30.0, 10.0], [10.0, 30.0], [30.0, 30.0]])
    anchor = Anchor(points, (0.0, 0.0, 40.0, 40.0))
    seen = np.ones(4, bool)
    room = 0.08 * 40
    moved = anchor.carry(points + np.array([5, 7]), seen)
    assert moved == pytest.approx((5 - room, 7 - room, 45 + room, 47 + room))
    grown = anchor.carry((points - 20) * 1.5 + 20, seen)
    assert grown == pytest.approx((-10 - 1.5 * room, -10 - 1.5 * room, 50 + 1.5 * room, 50 + 1.5 * room))
    assert anchor.carry(points, ~seen) is None
    assert cut_box((0, 0, 9, 9), (4, 4, 20, 20)) == (4, 4, 9, 9)
    assert cut_box((0, 0, 3, 3), (4, 4, 20, 20)) == (4, 4, 20, 20)
    assert cut_box(None, (4, 4, 20, 20)) is None


def test_likeness_follows_a_square_that_its_points_alone_would_not_outline(fake: Foundation) -> None:
    places = [(16 + 4 * step, 24 + 12 * step) for step in range(4)]
    options = TrackOptions(least_iou=0.0, refinements=1, likeness=True, reinit="median", horizon=2)
    view, tracker = view_of(places, fake), FeatureTracker(64, radius=30)
    answers = list(follow(view, [square_at(*places[0])], fake, tracker, options))
    assert len(answers) == 4
    for answer, (row, col) in zip(answers, places, strict=True):
        truth = np.zeros(SHAPE, bool)
        truth[row : row + 32, col : col + 32] = True
        own = answer.labels == 1
        assert (own & truth).sum() / (own | truth).sum() > 0.7, f"picture {answer.frame}"
