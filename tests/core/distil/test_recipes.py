"""Every recipe brings a student nearer to its teacher on held-back pictures, and is what was published."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from domainsam.distil.asking import disagree, find_boxes
from domainsam.distil.end_to_end import EndToEndLesson, choose_places
from domainsam.distil.judge import judge
from domainsam.distil.layerwise import DecoderLesson, LayerLesson, layer_weights
from domainsam.distil.lessons import FeatureLesson, Lesson, masked_error
from domainsam.distil.masked import MaskedLesson, choose_hidden, grey_out
from domainsam.distil.pairs import Pair
from domainsam.distil.pictures import Material, ViewBatch
from domainsam.distil.prompted import PromptLesson
from domainsam.distil.recipes import END_TO_END, FEATURES, PROMPTS, STAGES, choose_options, plan_stages
from domainsam.distil.taps import TappedTeacher, as_map, tap
from domainsam.errors import ConfigError
from domainsam.protocols import Features, Foundation
from tests.core.distil.tiny import make_pair, material, views

LATE = 10**6
"""A step at which all layers have their full weight."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Foundation, Material]:
    return material(tmp_path_factory.mktemp("distil"))


def teach(lesson: Lesson, pictures: Material, steps: int, rate: float) -> tuple[float, float]:
    """Loss on the held-back pictures before and after some steps, for the same prompts."""
    stream = views(pictures.learning)
    lesson.prepare()
    before = held_loss(lesson, pictures)
    optimizer = torch.optim.AdamW([part for part in lesson.parameters() if part.requires_grad], lr=rate)
    lesson.train()
    torch.manual_seed(0)
    for step in range(steps):
        optimizer.zero_grad()
        lesson(stream.batch(step))["loss"].backward()
        optimizer.step()
    return before, held_loss(lesson, pictures)


@torch.no_grad()
def held_loss(lesson: Lesson, pictures: Material) -> float:
    lesson.eval()
    batch = views(pictures.held_back).gather(range(len(pictures.held_back)), LATE)
    total = 0.0
    for seed in range(3):
        torch.manual_seed(seed)
        total += float(lesson(batch)["loss"])
    return total / 3


def layer_lesson(pair: Pair, rise: float = 2.0) -> LayerLesson:
    tapped = TappedTeacher(pair.teacher, 4)
    images = torch.zeros(1, 3, 64, 64)
    with torch.no_grad(), tap(pair.student.encoder) as seen:
        pair.student.eval().encode(images)
    own = [as_map(layer, (4, 4)).shape[1] for layer in seen]
    theirs = [layer.shape[1] for layer in tapped.encode(images).levels[-4:]]
    return LayerLesson(Pair(pair.teacher, pair.student, tapped.encode, pair.adopted), own, theirs, rise)


def test_features_come_nearer(made: tuple[Foundation, Material]) -> None:
    teacher, pictures = made
    pair = make_pair(teacher)
    held = views(pictures.held_back)
    first = judge(Pair(teacher, pair.student.eval(), pair.teach, True), held)
    before, after = teach(FeatureLesson(pair), pictures, 20, 1e-3)
    last = judge(pair, held)
    assert after < 0.7 * before
    assert last["feature_error"] < 0.5 * first["feature_error"]
    assert last["feature_cosine"] > first["feature_cosine"] + 0.3


@pytest.mark.parametrize("recipe", ["sami", pytest.param("layerwise", marks=pytest.mark.slow)])
def test_what_is_reconstructed_or_learnt_by_layers_comes_nearer(
    made: tuple[Foundation, Material], recipe: str
) -> None:
    teacher, pictures = made
    pair = make_pair(teacher)
    lesson = MaskedLesson(pair, depth=1, width=32) if recipe == "sami" else layer_lesson(pair)
    first = judge(Pair(teacher, pair.student.eval(), pair.teach, True), views(pictures.held_back))
    before, after = teach(lesson, pictures, 24, 3e-3)
    last = judge(Pair(teacher, pair.student.eval(), pair.teach, True), views(pictures.held_back))
    # The tiny teacher's deepest layers hardly vary, so that their relative error says little.
    assert recipe == "layerwise" or after < 0.8 * before
    assert last["feature_error"] < 0.8 * first["feature_error"]


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param("prompt-loop", marks=pytest.mark.slow),
        "end-to-end",
        pytest.param("decoder", marks=pytest.mark.slow),
    ],
)
def test_answers_come_nearer(made: tuple[Foundation, Material], recipe: str) -> None:
    teacher, pictures = made
    pair = make_pair(teacher)
    lesson = {
        "prompt-loop": lambda: PromptLesson(pair, prompts=4),
        "end-to-end": lambda: EndToEndLesson(pair, masks=4, points=64),
        "decoder": lambda: DecoderLesson(pair, prompts=4),
    }[recipe]()
    before, after = teach(lesson, pictures, 10, 1e-3)
    assert after < 0.9 * before


def test_equal_networks_have_nothing_to_disagree_in(made: tuple[Foundation, Material]) -> None:
    """Student = teacher: no point is added, and the error of features is 0."""
    teacher, pictures = made
    masks = torch.rand(3, 16, 16) > 0.5
    assert (disagree(masks, masks, outside=True)[..., 2] == -1).all()
    batch = views(pictures.held_back).gather([0])
    features = teacher.encode(batch.images)
    assert float(masked_error(features.image, features.image, batch.valid())) == 0


def test_points_lie_where_both_disagree_and_say_what_is_wrong() -> None:
    truth, guess = torch.zeros(2, 8, 8, dtype=torch.bool), torch.zeros(2, 8, 8, dtype=torch.bool)
    truth[0, 2, 5] = True
    guess[1, 6, 1] = True
    points = disagree(truth, guess, outside=True)
    assert points[:, 0].tolist() == [[22.0, 10.0, 1.0], [6.0, 26.0, 0.0]]
    assert disagree(truth, guess, outside=False)[:, 0, 2].tolist() == [1.0, -1.0]
    assert find_boxes(truth)[0].tolist() == [20.0, 8.0, 24.0, 12.0]


def test_padding_counts_for_nothing() -> None:
    own, wanted = torch.zeros(1, 2, 4, 4), torch.ones(1, 2, 4, 4)
    wanted[..., 2:, :] = 100.0
    batch = ViewBatch(torch.zeros(1, 3, 64, 64), torch.tensor([[32.0, 64.0]]))
    assert float(masked_error(own, wanted, batch.valid())) == 1.0


def test_with_nothing_hidden_sami_is_the_error_of_features(made: tuple[Foundation, Material]) -> None:
    teacher, pictures = made
    pair = make_pair(teacher)
    batch = views(pictures.held_back).gather([0, 1])
    pair.student.eval()
    with torch.no_grad():
        plain = FeatureLesson(pair).terms(batch)
        hidden = MaskedLesson(pair, ratio=0.0, depth=1, width=32).eval().terms(batch)
    for name, (_, value) in plain.items():
        assert float(hidden[name][1]) == float(value)


def test_three_quarters_are_hidden_and_grey() -> None:
    keep, hide = choose_hidden(2, 16, 0.75, torch.device("cpu"))
    assert (keep.shape, hide.shape) == ((2, 4), (2, 12))
    assert sorted(torch.cat([keep, hide], 1)[0].tolist()) == list(range(16))
    grey = grey_out(torch.ones(2, 3, 64, 64), hide, (4, 4))
    assert torch.equal((grey[:, 0, ::16, ::16] == 0.5).flatten(1).sum(1), torch.tensor([12, 12]))


def test_layers_join_one_after_another() -> None:
    assert layer_weights(0, 3, 10) == [1, 0, 0]
    assert layer_weights(5, 3, 10) == [1, 0.5, 0]
    assert layer_weights(10, 3, 10) == [1, 1, 0]
    assert layer_weights(15, 3, 10) == [1, 1, 0.5]
    assert layer_weights(99, 3, 10) == [1, 1, 1]


def test_what_does_not_learn_stays_with_its_running_statistics(made: tuple[Foundation, Material]) -> None:
    teacher, pictures = made
    pair = make_pair(teacher)
    lesson = DecoderLesson(pair, prompts=2)
    state = {name: value.clone() for name, value in pair.student.encoder.state_dict().items()}
    teach(lesson, pictures, 1, 1e-2)
    assert all(torch.equal(value, state[name]) for name, value in pair.student.encoder.state_dict().items())


def test_unsure_places_are_chosen() -> None:
    logits = torch.full((1, 1, 16, 16), 9.0)
    logits[..., :8] = 0.0
    places = choose_places(logits, 200)
    assert places.shape == (1, 1, 200, 2)
    sure = F.grid_sample(logits, places, align_corners=False)[0, 0, 0]
    assert (sure[:150] < 9).float().mean() > 0.95
    assert choose_places(logits, 10**6).shape[2] == 256


def test_a_teacher_that_finds_nothing_leaves_no_hole(made: tuple[Foundation, Material]) -> None:
    class Blind:
        """Answers every prompt with nothing."""

        def __init__(self, teacher: Foundation) -> None:
            self.name, self.device = teacher.name, teacher.device

        def decode(self, features: Features, prompts: object, multimask: bool = False) -> object:
            masks = made[0].decode(features, prompts, multimask)  # type: ignore[arg-type]
            return type(masks)(masks.logits * 0 - 5, masks.iou)

    teacher, pictures = made
    pair = make_pair(teacher)
    blind = Pair(Blind(teacher), pair.student, teacher.encode, True)  # type: ignore[arg-type]
    batch = views(pictures.held_back).gather([0])
    for lesson in (EndToEndLesson(blind, masks=2), PromptLesson(blind, 2), DecoderLesson(blind, 2)):
        lesson.prepare()
        loss = lesson(batch)["loss"]
        loss.backward()
        assert torch.isfinite(loss)
    assert set(judge(blind, views(pictures.held_back))) == {"feature_error", "feature_cosine"}


def test_lengths_and_rates_are_the_published_ones() -> None:
    features = choose_options(FEATURES, 0, epoch=100, batch=64)
    assert (features.steps, features.warmup, features.weight_decay) == (1000, 500, 0.01)
    assert features.lr == pytest.approx(0.1 * 64 / 512)
    prompts = choose_options(PROMPTS, 1, epoch=100, batch=16)
    assert (prompts.steps, prompts.clip) == (500, 0.01)
    assert prompts.lr == pytest.approx(1e-4)
    last = choose_options(END_TO_END, 1, epoch=100, batch=256)
    assert (last.steps, last.clip) == (200, 2.0)
    assert last.lr == pytest.approx(8e-7 * 64)
    assert not last.decay_vectors
    own = choose_options(PROMPTS, 1, 100, 16, steps=(7, 5), rates=(1e-2,))
    assert (own.steps, own.lr) == (5, 1e-2)
    assert choose_options(FEATURES, 0, 100, 16, epochs=(2,)).warmup == 100
    with pytest.raises(ConfigError, match="--steps 3,0: expected numbers above 0"):
        choose_options(FEATURES, 0, 100, 16, steps=(3, 0))
    assert plan_stages("prompt-loop", begun=True) == (PROMPTS,)
    assert plan_stages("mse", begun=True) == STAGES["mse"]
