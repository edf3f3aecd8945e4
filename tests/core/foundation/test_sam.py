"""SAM gives the official answers, for official files, whatever the size and type of computation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.modeling.transformer import Attention

from domainsam.foundation import load_foundation
from domainsam.foundation.attention import FusedAttention, attend_blocked, attend_joined, make_relative_table
from domainsam.foundation.base import digest_tensors
from domainsam.foundation.loading import read_tensors
from domainsam.foundation.picture import fit_longest
from domainsam.foundation.sam import SIZES, SamFoundation, SamNetwork, SamSize, build, find_image_size
from tests.core.official import CASES, official_prompts, official_sam, our_prompts, picture

NARROW = SamSize(width=48, depth=3, heads=3, global_blocks=(1,), image_size=224, window=5)
LIMIT = 1e-4


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> tuple[SamPredictor, SamFoundation]:
    official = official_sam(NARROW)
    path = tmp_path_factory.mktemp("sam") / "narrow.pth"
    torch.save(official.state_dict(), path)
    network = build(read_tensors(path), NARROW, str(path))
    return SamPredictor(official), SamFoundation(network, "sam_narrow", NARROW.image_size)


def differences(
    predictor: SamPredictor, foundation: SamFoundation, image: NDArray[np.uint8], parts: tuple[str, ...]
) -> dict[str, float]:
    """Largest absolute differences to the official low-resolution logits, estimated IoU and full masks."""
    side = foundation.image_size
    images, fit = fit_longest(image, side)
    features = foundation.encode(images)
    scale = (fit.resized[1] / fit.original[1], fit.resized[0] / fit.original[0])
    prompts = fit.prompts(our_prompts(parts, side // 4, scale))
    found: dict[str, float] = {}
    for multimask in (False, True):
        full, iou, low = predictor.predict(
            **official_prompts(parts, side // 4), multimask_output=multimask, return_logits=True
        )
        masks = foundation.decode(features, prompts, multimask)
        assert low.std() > 0.1, "the official logits do not vary: nothing would be compared"
        for name, theirs, ours in (
            ("low", low, masks.logits[0]),
            ("iou", iou, masks.iou[0]),
            ("full", full, fit.masks(masks.logits)[0]),
        ):
            found[name] = max(found.get(name, 0.0), float(np.abs(theirs - ours.numpy()).max()))
    return found


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", [(150, 310), (180, 130)])
def test_narrow_sam_equals_the_official_predictor(
    narrow: tuple[SamPredictor, SamFoundation], case: str, shape: tuple[int, int]
) -> None:
    predictor, foundation = narrow
    image = picture(*shape)
    predictor.set_image(image)
    assert max(differences(predictor, foundation, image, CASES[case]).values()) <= LIMIT


def parity_at_full_size(folder: Path, image: NDArray[np.uint8]) -> None:
    official = official_sam(SIZES["sam_vit_b"])
    path = folder / "sam_vit_b_01ec64.pth"
    torch.save(official.state_dict(), path)
    foundation = load_foundation(path)
    assert isinstance(foundation, SamFoundation)
    assert foundation.name == "sam_vit_b"
    predictor = SamPredictor(official)
    predictor.set_image(image)
    for parts in CASES.values():
        assert max(differences(predictor, foundation, image, parts).values()) <= LIMIT


@pytest.mark.slow
def test_vit_b_equals_the_official_predictor_on_a_generated_picture(tmp_path: Path) -> None:
    parity_at_full_size(tmp_path, picture(700, 1024))


@pytest.mark.slow
def test_vit_b_equals_the_official_predictor_on_a_real_picture(tmp_path: Path, shared_data: Path) -> None:
    parity_at_full_size(tmp_path, real_picture(shared_data))


def real_picture(folder: Path) -> NDArray[np.uint8]:
    from PIL import Image

    path = sorted((folder / "satellite" / "urban_villages" / "val").glob("*_image.tif"))[0]
    return np.array(Image.open(path).convert("RGB"))


def test_narrow_sam_equals_the_official_predictor_on_a_real_picture(
    narrow: tuple[SamPredictor, SamFoundation], shared_data: Path
) -> None:
    predictor, foundation = narrow
    image = np.ascontiguousarray(real_picture(shared_data)[:600, :800])
    predictor.set_image(image)
    for parts in CASES.values():
        assert max(differences(predictor, foundation, image, parts).values()) <= LIMIT


@pytest.mark.parametrize("name", SIZES)
def test_names_and_shapes_are_the_official_ones(name: str) -> None:
    with torch.device("meta"):
        ours = SamNetwork(SIZES[name]).state_dict()
        theirs = sam_model_registry[name.removeprefix("sam_")]().state_dict()
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in theirs.items()
    }


def test_prompts_beyond_a_chunk_change_nothing(narrow: tuple[SamPredictor, SamFoundation]) -> None:
    _, foundation = narrow
    images, _ = fit_longest(picture(224, 224), 224)
    features = foundation.encode(images)
    one = our_prompts(("box",), 56, (1.0, 1.0))
    assert one.boxes is not None
    shifts = torch.arange(20.0)[:, None]
    many = one[torch.zeros(20, dtype=torch.int64)].replace(boxes=one.boxes + shifts)
    masks = foundation.decode(features, many)
    last = foundation.decode(features, many[19:])
    assert torch.allclose(masks.logits[19:], last.logits, atol=1e-4)


@pytest.mark.parametrize(("dtype", "agreement"), [(torch.bfloat16, 0.97), (torch.float16, 0.99)])
def test_reduced_precision_gives_nearly_the_same_masks(
    narrow: tuple[SamPredictor, SamFoundation], dtype: torch.dtype, agreement: float
) -> None:
    _, full = narrow
    network = build(full.model.state_dict(), NARROW, "copy")
    reduced = SamFoundation(network, "sam_narrow", NARROW.image_size, dtype)
    assert reduced.sha256 == full.sha256
    images, _ = fit_longest(picture(224, 224), 224)
    prompts = our_prompts(("box", "points"), 56, (1.0, 1.0))
    expected = full.decode(full.encode(images), prompts, True)
    found = reduced.decode(reduced.encode(images), prompts, True)
    assert found.logits.dtype == torch.float32
    one, other = expected.logits > 0, found.logits > 0
    assert 0.02 < float(one.float().mean()) < 0.98
    assert float((one & other).sum() / (one | other).sum()) >= agreement


def naive(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    tables: tuple[torch.Tensor, torch.Tensor],
    size: tuple[int, int],
) -> torch.Tensor:
    """Attention with the decomposed bias, written out pair by pair."""
    height, width = size
    rows = torch.arange(height).repeat_interleave(width)
    columns = torch.arange(width).repeat(height)
    bias_h = tables[0][rows[:, None] - rows[None, :] + height - 1]
    bias_w = tables[1][columns[:, None] - columns[None, :] + width - 1]
    logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    logits = logits + torch.einsum("bnqd,qkd->bnqk", query, bias_h + bias_w)
    return logits.softmax(-1) @ value


@pytest.mark.parametrize("size", [(6, 6), (5, 9), (48, 40)])
@pytest.mark.parametrize("function", [attend_joined, attend_blocked])
def test_attention_equals_the_sum_written_out(
    function: Callable[..., torch.Tensor], size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, size[0] * size[1], 16).unbind(0)
    tables = (torch.randn(2 * size[0] - 1, 16), torch.randn(2 * size[1] - 1, 16))
    found = function(query, key, value, make_relative_table(*tables, size), size)
    assert torch.allclose(found, naive(query, key, value, tables, size), atol=1e-4)


def test_decoder_attention_equals_the_official_one() -> None:
    torch.manual_seed(0)
    official = Attention(32, 4, downsample_rate=2)
    query, key = torch.randn(2, 5, 32), torch.randn(2, 11, 32)
    assert torch.allclose(FusedAttention(official)(query, key, key), official(query, key, key), atol=1e-6)


def test_digest_does_not_depend_on_the_file(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    tensors = {"b": torch.randn(3, 4).half(), "a": torch.arange(5.0).half()}
    digest = digest_tensors(tensors)
    save_file(tensors, tmp_path / "one.safetensors")
    torch.save({"model": dict(reversed(tensors.items()))}, tmp_path / "two.pt")
    assert digest_tensors(read_tensors(tmp_path / "one.safetensors")) == digest
    assert digest_tensors(read_tensors(tmp_path / "two.pt")) == digest
    assert digest_tensors({**tensors, "a": tensors["a"] + 1}) != digest
    assert digest_tensors({**tensors, "b": tensors["b"].reshape(4, 3)}) != digest


def test_plain_encoding_is_that_of_sam_lst(narrow: tuple[SamPredictor, SamFoundation]) -> None:
    """Its ``load_from`` resizes position codes bilinearly, its pixel statistics are 0 and 1."""
    from segment_anything.modeling import ImageEncoderViT

    _, foundation = narrow
    tensors = dict(foundation.model.image_encoder.state_dict())
    code = tensors["pos_embed"].permute(0, 3, 1, 2)
    code = torch.nn.functional.interpolate(code, (6, 6), mode="bilinear", align_corners=False)
    tensors["pos_embed"] = code.permute(0, 2, 3, 1)
    for name in ("blocks.1.attn.rel_pos_h", "blocks.1.attn.rel_pos_w"):
        table = tensors[name][None, None]
        size = (11, table.shape[3])
        table = torch.nn.functional.interpolate(table, size, mode="bilinear", align_corners=False)
        tensors[name] = table[0, 0]
    official = ImageEncoderViT(
        img_size=96,
        patch_size=16,
        embed_dim=NARROW.width,
        depth=NARROW.depth,
        num_heads=NARROW.heads,
        out_chans=256,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=NARROW.window,
        global_attn_indexes=NARROW.global_blocks,
    )
    official.load_state_dict(tensors)
    images = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs, ours = official(images), foundation.encode_plain(images).image
        usual = foundation.encode(images).image
    assert (theirs - ours).abs().max() < LIMIT * theirs.abs().max()
    assert (theirs - usual).abs().max() > 0.01 * theirs.abs().max()


def test_a_file_for_smaller_images_is_taken(narrow: tuple[SamPredictor, SamFoundation]) -> None:
    tensors = dict(narrow[1].model.state_dict())
    assert find_image_size(tensors, 1024) == 224
    assert find_image_size({}, 1024) == 1024
