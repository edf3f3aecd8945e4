"""A scene model without a network: every pixel's answer depends on it and its neighbours alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from domainsam_scene.model.predict import NODATA, SCALE, ScenePrediction
from domainsam_scene.model.scene import SceneModel
from domainsam_scene.settings import Reading

LABELS = ("background", "dark", "middle", "bright")


@dataclass(frozen=True)
class TinyModel:
    """Classes by brightness, averaged over the sensors that are there.

    ``reach`` is the radius in pixels of the surroundings that a pixel's answer takes in.
    """

    modalities: tuple[str, ...] = ("rgb", "depth", "event", "lidar")
    labels: tuple[str, ...] = LABELS
    image_size: int = 64
    reach: int = 0
    name: str = "tiny"
    foundation_name: str = "none"
    reading: Reading = field(default_factory=Reading)

    def predict_sensors(
        self,
        images: Mapping[str, NDArray[np.float32]],
        valid: Mapping[str, NDArray[np.bool_]] | None = None,
    ) -> ScenePrediction:
        shape = next(iter(images.values())).shape[1:]
        masks = {name: np.ones(shape, bool) if valid is None else valid[name] for name in images}
        seen = np.sum(list(masks.values()), axis=0)
        total = np.sum([images[name].mean(axis=0) * masks[name] for name in images], axis=0)
        grey = total / np.maximum(seen, 1)
        if self.reach:
            grey = ndimage.uniform_filter(grey, 2 * self.reach + 1, mode="nearest")
        centres = (np.arange(len(self.labels)) + 0.5) / len(self.labels)
        logits = -40 * (grey[None] - centres[:, None, None]) ** 2
        share = np.exp(logits - logits.max(axis=0))
        share /= share.sum(axis=0)
        labels = share.argmax(axis=0).astype(np.uint8)
        labels[seen == 0] = NODATA
        confidence = np.rint(share.max(axis=0) * SCALE).astype(np.uint8)
        confidence[seen == 0] = NODATA
        parts = {
            name: np.rint(SCALE * mask / np.maximum(seen, 1)).astype(np.uint8) for name, mask in masks.items()
        }
        return ScenePrediction(labels, share.astype(np.float16), confidence, parts)


def tiny_scene_model(**options: Any) -> SceneModel:
    """A :class:`TinyModel` where a model with a network is expected."""
    return cast("SceneModel", TinyModel(**options))
