"""Predict labels, probability, confidence and contributions from images of several sensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from domainsam.errors import InputError
from domainsam.machine import require_finite
from domainsam_scene.model.build import AnyNetwork
from domainsam_scene.model.output import SceneOutput

NODATA = 255
"""Label and confidence of pixels that no sensor saw."""
MULTIPLE = 32
"""Sides of what the network sees are multiples of this."""
SCALE = 254
"""Confidence and contribution are stored as so many times the share, so that 255 stays free."""


@dataclass(frozen=True)
class ScenePrediction:
    """The answer for one scene of ``H`` by ``W`` pixels.

    ``labels`` ``(H, W)`` uint8, 255 where no sensor has data; ``probability``
    ``(K, H, W)`` float16, summing to 1 over classes; ``confidence`` ``(H, W)``
    uint8, 254 times the probability of the chosen class, 255 where there is
    no data; ``contribution`` by sensor ``(H, W)`` uint8, 254 times its share
    in the chosen class, the shares of all sensors summing to 1.
    """

    labels: NDArray[np.uint8]
    probability: NDArray[np.float16]
    confidence: NDArray[np.uint8]
    contribution: Mapping[str, NDArray[np.uint8]]


@torch.inference_mode()
def predict(
    network: AnyNetwork,
    images: Mapping[str, NDArray[np.float32]],
    valid: Mapping[str, NDArray[np.bool_]] | None,
    device: torch.device,
    dtype: torch.dtype,
) -> ScenePrediction:
    """Run the network on one scene.

    Parameters
    ----------
    network
        In evaluation mode, on ``device``.
    images
        ``(C, H, W)`` in 0 to 1 with ``C`` 1 or 3, by sensor, all of one size; any non-empty
        subset of the sensors that the network was trained on, in any order.
    valid
        ``(H, W)`` by sensor, false where it has no data; a sensor left out has data everywhere,
        one without any data at all counts as absent.
    device, dtype
        Where and in which type of number the network computes.

    Raises
    ------
    InputError
        If no sensor is given, one is unknown, or sizes differ.
    """
    masks = check_validity(network.config.modalities, images, valid)
    seen = {name: mask for name, mask in masks.items() if mask.any()}
    shape = next(iter(masks.values())).shape
    if not seen:
        return _nothing(len(network.config.labels), shape, tuple(images))
    batch = {
        name: prepare_image(images[name], seen[name], network.config.image_size).to(device) for name in seen
    }
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        output = network(batch)
    return finish_prediction(output, seen, tuple(images), shape, network.config.image_size)


def check_validity(
    known: tuple[str, ...],
    images: Mapping[str, NDArray[np.float32]],
    valid: Mapping[str, NDArray[np.bool_]] | None,
) -> dict[str, NDArray[np.bool_]]:
    """Where each sensor has data.

    Raises
    ------
    InputError
        As :func:`predict`.
    """
    if not images:
        raise InputError(f"no sensor was given; the model knows: {', '.join(known)}")
    strangers = [name for name in images if name not in known]
    if strangers:
        raise InputError(
            f"the model was not trained on {', '.join(strangers)}; it knows: {', '.join(known)}: "
            "leave it out, or train a model that has it"
        )
    shapes = {name: image.shape for name, image in images.items()}
    sizes = {shape[1:] for shape in shapes.values()}
    fits = all(len(shape) == 3 and shape[0] in (1, 3) and 0 not in shape for shape in shapes.values())
    if len(sizes) != 1 or not fits:
        told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InputError(f"images are {told}; expected (1 or 3, H, W), one size for all")
    full = np.ones(next(iter(sizes)), np.bool_)
    masks = {name: (valid or {}).get(name, full) for name in images}
    wrong = [name for name, mask in masks.items() if mask.shape != full.shape]
    if wrong:
        raise InputError(f"validity of {', '.join(wrong)} has another size than the images, {full.shape}")
    return masks


def fit_size(shape: tuple[int, int], longest: int) -> tuple[int, int]:
    """Size of a scene with its longest side scaled to ``longest``."""
    scale = longest / max(shape)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def prepare_image(image: NDArray[np.float32], valid: NDArray[np.bool_], longest: int) -> Tensor:
    """One sensor's image as networks take it, ``(1, 3, h, w)``: scaled, padded with its last pixels."""
    pixels = torch.from_numpy(np.where(valid, image, np.float32(0))).float()
    pixels = pixels.expand(3, -1, -1)[None]
    size = fit_size(valid.shape, longest)
    if size != valid.shape:
        pixels = F.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)
    down, right = -size[0] % MULTIPLE, -size[1] % MULTIPLE
    return F.pad(pixels, (0, right, 0, down), mode="replicate")


def finish_prediction(
    output: SceneOutput,
    seen: Mapping[str, NDArray[np.bool_]],
    asked: tuple[str, ...],
    shape: tuple[int, int],
    longest: int,
) -> ScenePrediction:
    """Resample the network's output to the scene's own size."""
    height, width = fit_size(shape, longest)
    logits = require_finite(output.logits.float(), "the scene model")[..., :height, :width]
    probability = F.interpolate(logits, shape, mode="bilinear", align_corners=False).softmax(1)[0]
    confidence, labels = probability.max(0)
    anywhere = np.logical_or.reduce(list(seen.values()))
    shares = compute_contribution(output, labels, seen, (height, width))
    zero = np.zeros(shape, np.uint8)
    return ScenePrediction(
        labels=np.where(anywhere, labels.byte().cpu().numpy(), np.uint8(NODATA)),
        probability=probability.half().cpu().numpy(),
        confidence=np.where(anywhere, (confidence * SCALE).round().byte().cpu().numpy(), np.uint8(NODATA)),
        contribution={name: shares.get(name, zero) for name in asked},
    )


def compute_contribution(
    output: SceneOutput, labels: Tensor, seen: Mapping[str, NDArray[np.bool_]], inner: tuple[int, int]
) -> dict[str, NDArray[np.uint8]]:
    """Each sensor's share in the chosen class.

    The probability that the sensor alone gives to the class, times how much
    the sensor counts, over the sum of that for all sensors; 0 where the
    sensor has no data.
    """
    own = output.per_modality[:, 0].float()
    full = F.interpolate(own, output.logits.shape[-2:], mode="bilinear", align_corners=False)
    full = F.interpolate(
        full[..., : inner[0], : inner[1]], labels.shape, mode="bilinear", align_corners=False
    )
    chosen = full.softmax(1).gather(1, labels.expand(len(own), 1, -1, -1))[:, 0]
    there = torch.from_numpy(np.stack([seen[name] for name in output.modalities])).to(chosen.device)
    part = chosen * output.weights[:, :1, None].float() * there
    share = part / part.sum(0, keepdim=True).clamp(min=1e-9)
    values = (share * SCALE).round().byte().cpu().numpy()
    return dict(zip(output.modalities, values, strict=True))


def _nothing(classes: int, shape: tuple[int, int], names: tuple[str, ...]) -> ScenePrediction:
    """The answer where no sensor has data."""
    empty = np.full(shape, NODATA, np.uint8)
    probability = np.full((classes, *shape), 1 / classes, np.float16)
    return ScenePrediction(
        empty, probability, empty.copy(), {name: np.zeros(shape, np.uint8) for name in names}
    )
