"""Open-Vocabulary SAM as a namer: what the masks of any foundation hold, among any English words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from domainsam.errors import CheckpointError, InputError
from domainsam.foundation.base import freeze
from domainsam.foundation.loading import read_tensors
from domainsam.foundations import SAM_PIXELS
from domainsam.licences import tell_once
from domainsam.prompts import PromptSet
from domainsam.protocols import SceneObject, Understood, View, Word
from domainsam.tensorfile import is_safetensors, load_strict
from domainsam.vocabularies import CLIP_RN50X16, SAM2CLIP, SAM_PROMPTS, VOCABULARIES
from domainsam.vocabulary.clip import WordTower, read_clip
from domainsam.vocabulary.loading import find_file, read_header
from domainsam.vocabulary.looks import Look, has_own_masks, place_boxes, place_masks, plan_looks, read_look
from domainsam.vocabulary.ovsam_network import (
    OpenVocabularyNetwork,
    OpenVocabularySize,
    compare_words,
    find_boxes,
    mix_logits,
)
from domainsam.vocabulary.words import fold, read_words

MASKS_STRIDE = 4
"""Of the decoder's masks, and of those that are judged in CLIP's coarsest level."""
AT_ONCE = 32
"""Boxes that are decoded together."""
LEAST_SIDE = 1.0
"""Pixels of the picture that a box has at least: nothing can be read inside a line."""
BASE_FILE = "base.txt"
"""In the folder of the weights: the words that the head was trained on, where they are not COCO's."""
COCO_BASE = (
    "person bicycle car motorcycle train truck boat bench bird horse sheep bear zebra giraffe backpack "
    "handbag suitcase frisbee skis kite surfboard bottle fork spoon bowl banana apple sandwich orange "
    "broccoli carrot pizza donut chair bed toilet tv laptop mouse remote microwave oven toaster refrigerator "
    "book clock vase toothbrush"
)
"""COCO's 48 base classes of the split 48/17 (Bansal et al. 2018), on which the COCO file was trained."""


class OpenVocabularySam:
    """Names objects: boxes of their masks are read by the trained head and by CLIP, and both are mixed.

    Parameters
    ----------
    network
        With its weights in place, on the device to compute on.
    name
        As :mod:`domainsam.vocabularies` lists it.
    tower
        Gives words' vectors.
    base
        Words that the head was trained on; CLIP has less say about them (published: 0.1 against 0.9).
    dtype
        Of the large matrix products.
    """

    outlines_boxes = True
    """Whether it makes masks of boxes itself."""

    def __init__(
        self,
        network: OpenVocabularyNetwork,
        name: str,
        tower: WordTower,
        base: Sequence[Word] = (),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.network, self.name, self.tower, self.dtype = network, name, tower, dtype
        freeze(network)
        self.side = network.size.image_size
        self._base = {fold(phrase) for word in base for phrase in word.phrases}
        self._mean = torch.tensor(SAM_PIXELS.mean, device=self.device).view(3, 1, 1)
        self._std = torch.tensor(SAM_PIXELS.std, device=self.device).view(3, 1, 1)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.network.parameters()).device

    def understand(self, words: Sequence[Word]) -> tuple[Understood, ...]:
        """Every word is read; those in other scripts than CLIP was trained on are told of."""
        strange = [
            word.name for word in words if not any(sign.isascii() and sign.isalpha() for sign in word.name)
        ]
        if strange:
            tell_once(
                f"{self.name} was trained on English texts and hardly knows {', '.join(strange[:3])}"
                f"{' and others' if len(strange) > 3 else ''}: give English words"
            )
        return tuple(Understood(word.name) for word in words)

    def name_objects(
        self, view: View, objects: Sequence[SceneObject], words: Sequence[Word]
    ) -> NDArray[np.float32]:
        """Probability ``(N, K)`` of each word; NaN for an object that its picture does not show.

        The rest to 1 is the published background class.

        Raises
        ------
        InputError
            If there are no words.
        """
        if not words:
            raise InputError("there are no words to name objects by; give at least one")
        scores = np.full((len(objects), len(words)), np.nan, np.float32)
        if not objects:
            return scores
        vectors = self.tower.embed(words).to(self.device)
        trained = torch.tensor(
            [any(fold(phrase) in self._base for phrase in word.phrases) for word in words], device=self.device
        )
        for look in plan_looks(view.shape, objects, self.side):
            answered, rows = self._look(view, look, objects, vectors, trained)
            for number, good, row in zip(look.objects, answered.tolist(), rows.cpu().numpy(), strict=True):
                if good:
                    scores[number] = row
        return scores

    @torch.inference_mode()
    def _look(
        self, view: View, look: Look, objects: Sequence[SceneObject], vectors: Tensor, trained: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Whether each object of a look could be seen ``(n,)``, and its scores ``(n, K)``."""
        picture, valid = read_look(view, look)
        seen = torch.from_numpy(valid).to(self.device)
        image = torch.from_numpy(np.ascontiguousarray(picture)).to(self.device)
        # What is not there is 0 after the statistics are taken out: their mean, as published.
        image = ((image - self._mean) / self._std * seen)[None]
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            levels = self.network.see(image)
            pyramid = [level.float() for level in self.network.fpn_neck(levels)]
        levels = [level.float() for level in levels]
        masks = place_masks(look, objects, MASKS_STRIDE).to(self.device)
        boxes = torch.from_numpy(place_boxes(look, objects)).to(self.device)
        inside = _share_of(boxes, seen)
        own = has_own_masks(look, objects).to(self.device)
        logits = 2 * masks - 1
        if not own.all():
            logits[~own] = self._decode(levels, boxes[~own])
            # As published: the box that is read is that of the decoded mask, also where a box was asked with.
            boxes[~own] = find_boxes(logits[~own] > 0) * MASKS_STRIDE
        boxes = _widen(boxes, self.side)
        coarse = levels[-1].shape[-2:]
        small = F.interpolate(logits[:, None], size=coarse, mode="bilinear", align_corners=False)
        vanished = ~(small > 0).flatten(1).any(dim=1)
        index = torch.zeros(len(boxes), dtype=torch.int64, device=self.device)
        head = compare_words(self.network.mask_decoder.describe(pyramid, boxes, index), vectors)
        clip = compare_words(self.network.pool(levels[-1], boxes, index), vectors)
        return inside, mix_logits(head, clip, trained, vanished)[:, :-1]

    def _decode(self, levels: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Mask logits ``(n, side/4, side/4)`` of boxes, by the network's own decoder."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            features = self.network.neck(levels).float()
        parts = []
        for part in torch.split(boxes, AT_ONCE):
            count = len(part)
            prompts = PromptSet(
                image_index=torch.zeros(count, dtype=torch.int64, device=part.device),
                labels=torch.ones(count, dtype=torch.int64, device=part.device),
                scores=torch.ones(count, device=part.device),
                boxes=part,
            )
            logits = self.network.decode(features, prompts)
            empty = ~(logits > 0).flatten(1).any(dim=1)
            # A mask that vanishes leaves the box that was asked with.
            logits[empty] = _fill_boxes(part[empty] / MASKS_STRIDE, logits.shape[-2:])
            parts.append(logits)
        return torch.cat(parts)


def _share_of(boxes: Tensor, seen: Tensor) -> Tensor:
    """Whether boxes ``(n, 4)`` hold any pixel of ``seen`` ``(h, w)`` bool."""
    found = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    height, width = seen.shape
    for number, (left, top, right, bottom) in enumerate(boxes.tolist()):
        rows = slice(max(0, int(top)), min(height, max(int(top) + 1, -int(-bottom // 1))))
        cols = slice(max(0, int(left)), min(width, max(int(left) + 1, -int(-right // 1))))
        found[number] = bool(seen[rows, cols].any())
    return found


def _widen(boxes: Tensor, side: int) -> Tensor:
    """Boxes of at least :data:`LEAST_SIDE` in both directions, inside the picture."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = ((boxes[:, 2:] - boxes[:, :2]).clamp(min=LEAST_SIDE)) / 2
    return torch.cat([centre - half, centre + half], dim=1).clamp(0, side)


def _fill_boxes(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Logits ``(n, h, w)``: 1 inside boxes, -1 outside."""
    rows = torch.arange(size[0], device=boxes.device)[None, :, None] + 0.5
    cols = torch.arange(size[1], device=boxes.device)[None, None, :] + 0.5
    left, top, right, bottom = (boxes[:, place, None, None] for place in range(4))
    inside = (cols > left - 0.5) & (cols < right + 0.5) & (rows > top - 0.5) & (rows < bottom + 0.5)
    return torch.where(inside, 1.0, -1.0)


def load(name: str, path: Path | None, device: torch.device, dtype: torch.dtype) -> OpenVocabularySam:
    """Loader for :data:`domainsam.vocabularies.VOCABULARIES`.

    ``path`` is a folder with the files of the row (those that it lacks are looked for where weight files
    are), or a file that ``domainsam train-words --method ovsam`` wrote, in the place of the two of the paper.

    Raises
    ------
    WeightsError
        If a file is nowhere to be found; the text says what to download.
    CheckpointError
        If one is damaged or another network's.
    """
    own = path if path is not None and path.is_file() else None
    folder = path.parent if path is not None and own is not None else path
    network, base = read_network(name, folder, own)
    if not base:
        tell_once(f"{name}: no list of the words that it was trained on: all are taken as new to it")
    return OpenVocabularySam(network.to(device), name, WordTower(network.clip), base, dtype)


def read_network(
    name: str, folder: Path | None, own: Path | None = None, size: OpenVocabularySize | None = None
) -> tuple[OpenVocabularyNetwork, tuple[Word, ...]]:
    """The network with the weights of its files, and the words that its head was trained on.

    Raises
    ------
    WeightsError, CheckpointError
        As :func:`load`.
    """
    row = VOCABULARIES[name]
    # All that is absent is told before anything large is read.
    files = {"clip": find_file(name, CLIP_RN50X16, folder)}
    if own is None:
        files["sam"] = find_file(name, SAM_PROMPTS, folder)
        files["sam2clip"] = find_file(name, SAM2CLIP, folder)
        files["clip2sam"] = find_file(name, row.files[1], folder)
    size = size or OpenVocabularySize()
    clip = read_clip(files["clip"], size.clip)
    with torch.device("meta"):
        network = OpenVocabularyNetwork(size, clip)
    if own is not None:
        return network, read_taught(network, own)
    _place(network.prompt_encoder, files["sam"], {"prompt_encoder.": ""})
    _place(network.neck, files["sam2clip"], {"neck_student.": ""})
    read_official_head(network, files["clip2sam"])
    return network, _find_base(name, folder)


PARTS = ("neck", "fpn_neck", "mask_decoder", "prompt_encoder")
"""Of a network, in a file that a training wrote; CLIP stays in its own."""


def read_taught(network: OpenVocabularyNetwork, path: Path) -> tuple[Word, ...]:
    """Put a file of ``domainsam train-words --method ovsam`` into a network; returns the words it learnt.

    Raises
    ------
    CheckpointError
        If it is damaged or of another size.
    """
    tensors = read_tensors(path)
    for part in PARTS:
        inner = {key.removeprefix(f"{part}."): tensors[key] for key in tensors if key.startswith(f"{part}.")}
        load_strict(getattr(network, part), inner, str(path), assign=True)
    told = read_header(path) if is_safetensors(path) else {}
    return tuple(Word(str(word)) for word in told.get("base", ()))


def collect_taught(network: OpenVocabularyNetwork) -> dict[str, Tensor]:
    """The tensors that such a file holds."""
    return {
        f"{part}.{name}": value
        for part in PARTS
        for name, value in getattr(network, part).state_dict().items()
    }


def read_official_head(network: OpenVocabularyNetwork, path: Path) -> None:
    """Put ``clip2sam_..._rn50x16.pth`` into a network, every tensor accounted for.

    Raises
    ------
    CheckpointError
        If a tensor is missing, left over or of another shape.
    """
    tensors = read_tensors(path, inert=True)
    parts: dict[str, dict[str, Tensor]] = {"fpn_neck": {}, "mask_decoder": {}}
    for key, value in tensors.items():
        part, _, rest = key.partition(".")
        if part not in parts:
            raise CheckpointError(
                f"{path} holds {key}, which is no part of CLIP2SAM; expected fpn_neck... and mask_decoder..."
            )
        parts[part][rest] = value
    for part, inner in parts.items():
        load_strict(getattr(network, part), inner, str(path), assign=True)


def _place(module: torch.nn.Module, path: Path, prefixes: Mapping[str, str]) -> None:
    """Put those tensors of a file that begin with a prefix into a module."""
    tensors = read_tensors(path, inert=True)
    inner = {
        put + key.removeprefix(taken): value
        for key, value in tensors.items()
        for taken, put in prefixes.items()
        if key.startswith(taken)
    }
    if not inner:
        raise CheckpointError(
            f"{path} holds nothing under {' or '.join(prefixes)}; expected the official file"
        )
    load_strict(module, inner, str(path), assign=True)


def _find_base(name: str, folder: Path | None) -> tuple[Word, ...]:
    if folder is not None and (folder / BASE_FILE).is_file():
        return read_words(folder / BASE_FILE)
    return tuple(map(Word, COCO_BASE.split())) if name == "ovsam_coco" else ()
