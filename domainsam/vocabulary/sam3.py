"""SAM 3 (Carion et al. 2025) as transformers has it: objects that a word means, found and outlined at once.

The weights are the user's: Meta gives them out under its own licence. A folder with ``config.json``,
``model.safetensors`` and the processor's files is read; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from domainsam.errors import CheckpointError, WeightsError, one_line
from domainsam.foundation.sam3 import SOURCE, read_model
from domainsam.protocols import SceneObject, Understood, View, Window, Word
from domainsam.vocabulary.looks import place_masks, plan_looks, read_look
from domainsam.weights import find_folder

SIDE = 1024
"""Of the windows that are looked at; the model's own processor makes 1008 of it."""
LEAST = 0.3
"""Least score of an object that is reported at all (transformers' own default); callers cut higher."""


class Sam3Finder:
    """SAM 3 as a :class:`~domainsam.protocols.Namer` and :class:`~domainsam.protocols.WordFinder`.

    Parameters
    ----------
    model, processor
        ``Sam3Model`` and ``Sam3Processor``.
    side
        Of the windows that are looked at, a multiple of 32.
    """

    name = "sam3"

    def __init__(self, model: Any, processor: Any, side: int = SIDE) -> None:
        self.model, self.processor, self.side = model.eval(), processor, side
        self._texts: dict[str, tuple[Any, Tensor]] = {}

    def understand(self, words: Sequence[Word]) -> tuple[Understood, ...]:
        """Any word, as it is."""
        return tuple(Understood(word.name) for word in words)

    def find_words(self, view: View, words: Sequence[Word]) -> Iterator[SceneObject]:
        """Objects of all words, window by window; one cut by an edge is left to the window that holds it."""
        for frame in range(view.frames):
            for window in lay(view.shape, self.side, frame):
                yield from self._find_in(view, window, words)

    def _find_in(self, view: View, window: Window, words: Sequence[Word]) -> Iterator[SceneObject]:
        block = view.block(window)
        if not block.valid.any():
            return
        seen = self._see(block.image)
        for word in words:
            scores, masks = self._ask(seen, word.name, (window.height, window.width))
            for score, mask in zip(scores, masks, strict=True):
                one = _as_object(mask & block.valid, window, view.shape, float(score), word)
                if one is not None:
                    yield one

    def name_objects(
        self, view: View, objects: Sequence[SceneObject], words: Sequence[Word]
    ) -> NDArray[np.float32]:
        """Of each object and word the best score of what the word finds, times how well it covers it."""
        table = np.full((len(objects), len(words)), np.nan, np.float32)
        for look in plan_looks(view.shape, objects, self.side):
            image, valid = read_look(view, look)
            if not valid.any():
                continue
            seen = self._see(image)
            own = place_masks(look, objects).numpy() > 0.5
            for column, word in enumerate(words):
                scores, masks = self._ask(seen, word.name, (look.side, look.side))
                for mask, number in zip(own, look.objects, strict=True):
                    fits = [score * _iou(mask, found) for score, found in zip(scores, masks, strict=True)]
                    table[number, column] = max(fits, default=0.0)
        total = np.nansum(table, axis=1, keepdims=True)
        return np.asarray(table / np.maximum(total, 1.0), np.float32)

    def _see(self, image: NDArray[np.float32]) -> Any:
        """Features of a picture ``(3, h, w)`` float32 in 0 to 1."""
        pixels = np.rint(image.transpose(1, 2, 0) * 255).astype(np.uint8)
        made = self.processor(images=pixels, return_tensors="pt")
        pictures = made["pixel_values"].to(self.model.device, self.model.dtype)
        with torch.inference_mode():
            return self.model.get_vision_features(pixel_values=pictures)

    def _text(self, word: str) -> tuple[Any, Tensor]:
        if word not in self._texts:
            made = self.processor(text=word, return_tensors="pt").to(self.model.device)
            with torch.inference_mode():
                text = self.model.get_text_features(
                    input_ids=made["input_ids"], attention_mask=made["attention_mask"], return_dict=True
                )
            self._texts[word] = text, made["attention_mask"]
        return self._texts[word]

    def _ask(
        self, seen: Any, word: str, size: tuple[int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Scores ``(n,)`` and masks ``(n, h, w)`` of the objects that a word means in what is seen.

        A score is the query's times that of the word's presence, as the model's own code has it.
        """
        text, mask = self._text(word)
        with torch.inference_mode():
            out = self.model(vision_embeds=seen, text_embeds=text, attention_mask=mask)
        scores = out.pred_logits[0].float().sigmoid()
        if out.presence_logits is not None:
            scores = scores * out.presence_logits[0].float().sigmoid()
        keep = scores >= LEAST
        logits = out.pred_masks[0][keep].float()
        if not len(logits):
            return np.zeros(0, np.float32), np.zeros((0, *size), bool)
        fine = F.interpolate(logits[:, None], size, mode="bilinear", align_corners=False)[:, 0]
        return scores[keep].cpu().numpy(), np.asarray((fine > 0).cpu().numpy())


def lay(shape: tuple[int, int], side: int, frame: int = 0) -> Iterator[Window]:
    """Windows of ``side`` pixels that cover a frame, neighbours sharing a quarter of it or more."""
    step = side - side // 4
    for row in _starts(shape[0], side, step):
        for col in _starts(shape[1], side, step):
            yield Window(row, col, side, side, frame)


def _starts(length: int, side: int, step: int) -> list[int]:
    if length <= side:
        return [0]
    return [*range(0, length - side, step), length - side]


def _as_object(
    mask: NDArray[np.bool_], window: Window, shape: tuple[int, int], score: float, word: Word
) -> SceneObject | None:
    """The object of a mask ``(h, w)``; None where it is empty, or another window shows it whole."""
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return None
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1
    cut = (
        (top == 0 and window.row > 0)
        or (left == 0 and window.col > 0)
        or (bottom == window.height and window.row + window.height < shape[0])
        or (right == window.width and window.col + window.width < shape[1])
    )
    # What is larger than windows share is whole in none, and better cut than lost.
    if cut and max(bottom - top, right - left) <= window.height // 4:
        return None
    bounds = Window(window.row + top, window.col + left, bottom - top, right - left, window.frame)
    part = mask[top:bottom, left:right].copy()
    score = min(max(score, 0.0), 1.0)
    return SceneObject(bounds, word.name, score, box=bounds.box, mask=part, text=word.name)


def _iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def load(name: str, path: Path | None, device: torch.device, dtype: torch.dtype) -> Sam3Finder:
    """Loader for :data:`domainsam.vocabularies.VOCABULARIES`.

    Raises
    ------
    WeightsError
        If no folder is named, or it is not one.
    CheckpointError
        If it holds no SAM 3 that can be used.
    """
    if path is None:
        path = find_folder(name, SOURCE)
    if not path.is_dir():
        raise WeightsError(f"{path}: is no folder; name that of SAM 3's weights, {name}:FOLDER; {SOURCE}")
    from transformers import Sam3Processor

    model = read_model("Sam3Model", path, dtype)
    try:
        processor = Sam3Processor.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: holds no SAM 3 that can be used: {one_line(error)[:200]}") from error
    return Sam3Finder(model.to(device), processor)
