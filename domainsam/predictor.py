"""One picture and clicks: the interface that users of ``segment_anything.SamPredictor`` know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from domainsam.errors import InputError
from domainsam.foundation import DEFAULT, find_foundations, load_foundation
from domainsam.foundation.picture import FITS, Fit, fit_longest
from domainsam.machine import choose_device
from domainsam.prompts import POINT_NEGATIVE, POINT_POSITIVE, PromptSet
from domainsam.protocols import Features, Foundation

HALF = 0.5
"""SAM's users count pixel centres as whole numbers; its code adds this after resizing, as is done here."""


class Predictor:
    """Masks of objects in one picture at a time, from clicks, a box or a rough mask.

    Parameters
    ----------
    foundation
        A name from ``domainsam foundations list``, the path of a
        weight file, or a loaded foundation (then ``device`` is its own).
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
    runtime
        ``"torch"``, ``"onnx"`` or ``"openvino"``, as ``--runtime``.

    Raises
    ------
    WeightsError
        If the name is unknown or its weight file is not on this machine.
    CheckpointError
        If the file is damaged or fits no known foundation.
    ConfigError
        If the device is unknown or absent.
    """

    def __init__(
        self,
        foundation: str | Path | Foundation = DEFAULT,
        device: str = "auto",
        runtime: str = "torch",
    ) -> None:
        if isinstance(foundation, str | Path):
            foundation = load_foundation(foundation, choose_device(device), runtime=runtime)
        self.foundation: Foundation = foundation
        row = find_foundations().get(foundation.name)
        self._fit = fit_longest if row is None else FITS[row.fit]
        self._set: tuple[Features, Fit] | None = None

    def set_image(self, image: NDArray[Any]) -> None:
        """Encode a picture; :meth:`predict` then answers about it.

        Parameters
        ----------
        image
            ``(H, W, 3)`` RGB: uint8, or floats in 0 to 1 (they become bytes, as SAM was trained on).

        Raises
        ------
        InputError
            If it is something else.
        """
        self._set = None
        picture = _as_bytes(np.asarray(image))
        images, fit = self._fit(picture, self.foundation.image_size)
        with torch.inference_mode():
            self._set = self.foundation.encode(images), fit

    def predict(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: NDArray[np.float32] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.float32]]:
        """Masks of the object that all prompts together mark.

        Parameters
        ----------
        point_coords
            ``(N, 2)`` x, y in pixels of the picture; a pixel's centre lies at whole numbers.
        point_labels
            ``(N,)``: 1 on the object, 0 beside it.
        box
            ``(4,)`` left, top, right, bottom in the same pixels.
        mask_input
            ``(1, S, S)`` logits of an earlier answer; ``S`` is a quarter of the foundation's image size.
        multimask_output
            Give three readings of the prompt (better for a single click) instead of one.
        return_logits
            Give masks as logits, above 0 inside, instead of bool.

        Returns
        -------
        masks, scores, low_res_logits
            ``(K, H, W)`` bool (or float32 logits), ``(K,)`` float32 estimated
            IoU, ``(K, S, S)`` float32; ``K`` is 3 or 1.

        Raises
        ------
        InputError
            If no picture is set, nothing is marked, or a shape is another.
        """
        if self._set is None:
            raise InputError("no picture is set; call set_image(picture) before predict(...)")
        features, fit = self._set
        prompts = self._shifted(fit.prompts(self._prompts(point_coords, point_labels, box, mask_input)))
        with torch.inference_mode():
            answer = self.foundation.decode(features, prompts, multimask_output)
            full = fit.masks(answer.logits.float())[0]
        masks = full if return_logits else full > 0
        return (
            masks.cpu().numpy(),
            answer.iou[0].float().cpu().numpy(),
            answer.logits[0].float().cpu().numpy(),
        )

    def _prompts(
        self, coords: ArrayLike | None, labels: ArrayLike | None, box: ArrayLike | None, mask: Any
    ) -> PromptSet:
        """One prompt in pixels of the picture, centres at whole numbers."""
        if coords is None and labels is None and box is None and mask is None:
            raise InputError("nothing is marked; give point_coords with point_labels, a box or mask_input")
        side = self.foundation.image_size // 4
        return PromptSet.from_one(
            _as_points(coords, labels),
            None if box is None else _as_tensor("box", np.ravel(box), (4,)),
            None if mask is None else _as_tensor("mask_input", mask, (1, side, side))[None],
        )

    @staticmethod
    def _shifted(prompts: PromptSet) -> PromptSet:
        """Prompts of the foundation's input in its corner frame."""
        points, boxes = prompts.points, prompts.boxes
        if points is not None:
            points = points + points.new_tensor([HALF, HALF, 0.0])
        return prompts.replace(points=points, boxes=None if boxes is None else boxes + HALF)


def _as_bytes(image: NDArray[Any]) -> NDArray[np.uint8]:
    if not np.issubdtype(image.dtype, np.floating):
        return image  # What is no picture of bytes is refused where it is fitted.
    if not image.size or not np.isfinite(image).all() or image.min() < 0 or image.max() > 1:
        raise InputError("a picture of floats must hold finite values from 0 to 1; scale it, or give uint8")
    return np.asarray(np.rint(image * 255), dtype=np.uint8)


def _as_points(coords: ArrayLike | None, labels: ArrayLike | None) -> Tensor | None:
    """``(1, N, 3)`` x, y, label."""
    if coords is None and labels is None:
        return None
    if coords is None or labels is None:
        raise InputError("point_coords and point_labels go together; give a 1 (on the object) or 0 a point")
    places = np.asarray(coords)
    points = _as_tensor("point_coords", places, (len(places) if places.ndim else 0, 2))
    marks = _as_tensor("point_labels", labels, (len(points),))
    if not torch.isin(marks, torch.tensor([POINT_NEGATIVE, POINT_POSITIVE], dtype=marks.dtype)).all():
        raise InputError(f"point_labels are {marks.tolist()}; expected 1 (on the object) or 0 (beside it)")
    return torch.cat([points, marks[:, None]], dim=1)[None]


def _as_tensor(name: str, values: ArrayLike, shape: tuple[int, ...]) -> Tensor:
    given = np.asarray(values)
    if given.shape != shape or not np.issubdtype(given.dtype, np.number) or not np.isfinite(given).all():
        raise InputError(
            f"{name} has shape {given.shape} and type {given.dtype}; expected finite numbers of shape {shape}"
        )
    return torch.from_numpy(given.astype(np.float32))
