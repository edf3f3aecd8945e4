"""SAM 2 gives the official image predictor's answers and keeps its memory parts within reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sam2.build_sam import build_sam2
from sam2.sam2_image_predictor import SAM2ImagePredictor
from torch.overrides import TorchFunctionMode

from domainsam.foundation import FOUNDATIONS, load_foundation
from domainsam.foundation.picture import fit_squash
from domainsam.foundation.sam2 import Sam2Foundation, build
from domainsam.weights import KNOWN
from tests.core.foundation.test_sam import real_picture
from tests.core.official import CASES, lively, official_prompts, our_prompts, picture

LIMIT = 1e-4
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit.script. is deprecated:FutureWarning"
)  # the official code
CONFIG = "configs/sam2.1/sam2.1_hiera_t.yaml"
SIDE = 256
"""No weight depends on the input's size, so a small one saves time; the slow test uses 1024."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[SAM2ImagePredictor, Sam2Foundation]:
    return official_and_ours(tmp_path_factory.mktemp("sam2"), SIDE)


def official_and_ours(folder: Path, side: int) -> tuple[SAM2ImagePredictor, Sam2Foundation]:
    torch.manual_seed(0)
    official = lively(build_sam2(CONFIG, device="cpu", hydra_overrides_extra=[f"++model.image_size={side}"]))
    path = folder / KNOWN["sam2.1_hiera_tiny"].file
    torch.save({"model": official.state_dict()}, path)
    foundation = load_foundation(path)
    assert isinstance(foundation, Sam2Foundation)
    assert (foundation.name, foundation.image_size) == ("sam2.1_hiera_tiny", 1024)
    predictor = SAM2ImagePredictor(official)
    predictor._bb_feat_sizes = [(side // stride, side // stride) for stride in (4, 8, 16)]
    return predictor, foundation


def worst_difference(
    predictor: SAM2ImagePredictor, foundation: Sam2Foundation, image: NDArray[np.uint8]
) -> float:
    """Over all kinds of prompts, one reading and three: logits, estimated IoU and full masks."""
    predictor.set_image(image)
    side = predictor.model.image_size
    images, fit = fit_squash(image, side)
    features = foundation.encode(images)
    scale = (fit.resized[1] / fit.original[1], fit.resized[0] / fit.original[0])
    worst = 0.0
    for parts in CASES.values():
        prompts = fit.prompts(our_prompts(parts, side // 4, scale))
        for multimask in (False, True):
            full, iou, low = predictor.predict(
                **official_prompts(parts, side // 4), multimask_output=multimask, return_logits=True
            )
            masks = foundation.decode(features, prompts, multimask)
            assert low.std() > 0.1, "the official logits do not vary: nothing would be compared"
            ours = (masks.logits.clamp(-32, 32)[0], masks.iou[0], fit.masks(masks.logits)[0])
            for theirs, mine in zip((low, iou, full), ours, strict=True):
                worst = max(worst, float(np.abs(theirs - mine.numpy()).max()))
    return worst


def test_equals_the_official_predictor(pair: tuple[SAM2ImagePredictor, Sam2Foundation]) -> None:
    assert worst_difference(*pair, picture(300, 420)) <= LIMIT


def test_equals_the_official_predictor_on_a_real_picture(
    pair: tuple[SAM2ImagePredictor, Sam2Foundation], shared_data: Path
) -> None:
    assert worst_difference(*pair, real_picture(shared_data)) <= LIMIT


@pytest.mark.slow
def test_equals_the_official_predictor_at_full_size(tmp_path: Path) -> None:
    assert worst_difference(*official_and_ours(tmp_path, 1024), picture(600, 800)) <= LIMIT


def test_levels_are_what_the_decoder_adds(pair: tuple[SAM2ImagePredictor, Sam2Foundation]) -> None:
    predictor, foundation = pair
    predictor.set_image(picture(64, 64))
    features = foundation.encode(fit_squash(picture(64, 64), SIDE)[0])
    assert torch.allclose(predictor._features["image_embed"], features.image, atol=1e-5)
    assert [tuple(level.shape[1:]) for level in features.levels] == [(32, 64, 64), (64, 32, 32)]
    for theirs, ours in zip(predictor._features["high_res_feats"], features.levels, strict=True):
        assert torch.allclose(theirs, ours, atol=1e-5)


def test_memory_parts_are_reachable(pair: tuple[SAM2ImagePredictor, Sam2Foundation]) -> None:
    _, foundation = pair
    for part in ("memory_attention", "memory_encoder", "obj_ptr_proj"):
        assert not any(weight.requires_grad for weight in getattr(foundation.model, part).parameters())


class NumbersOnCpu(TorchFunctionMode):
    """Keeps ``linspace`` off the meta device: the official constructor reads its numbers."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        extra = {"device": "cpu"} if func is torch.linspace else {}
        return func(*args, **{**(kwargs or {}), **extra})


@pytest.mark.parametrize("name", sorted(name for name in FOUNDATIONS if name.startswith("sam2")))
def test_names_and_shapes_are_the_official_ones(name: str) -> None:
    letter = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}[name.partition("_hiera_")[2]]
    version = name.partition("_")[0]
    with torch.device("meta"), NumbersOnCpu():
        ours = build(name).state_dict()
        theirs = build_sam2(f"configs/{version}/{version}_hiera_{letter}.yaml", device="meta").state_dict()
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in theirs.items()
    }
