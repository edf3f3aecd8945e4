"""Naming and maps by a merged SAM-CLIP: places of a picture against the vectors of words."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from domainsam.errors import ConfigError, DomainSamError, InputError
from domainsam.foundation.sam import SamFoundation, SamNetwork
from domainsam.protocols import SceneObject, Understood, View, Window, Word
from domainsam.tensorfile import load_strict
from domainsam.vocabularies import WordFile
from domainsam.vocabulary.loading import find_file
from domainsam.vocabulary.looks import Look, place_masks, plan_looks, read_look
from domainsam.vocabulary.sam_clip import NAME, SEMANTIC_SIDE, Loaded, SamClipNetwork, read_sam_clip
from domainsam.vocabulary.teachers import load_teacher
from domainsam.vocabulary.words import fold

FILE = WordFile("samclip.safetensors", "", 0)
SCALE = 100.0
"""Factor of cosines before the softmax: CLIP's learnt temperature at its limit (Radford et al. 2021)."""

log = logging.getLogger(__name__)


class SamClipWords:
    """A :class:`~domainsam.protocols.Namer` and :class:`~domainsam.protocols.WordMapper`.

    Parameters
    ----------
    loaded
        The merged network and the words that it holds.
    read_texts
        Gives vectors ``(N, D)`` of texts; called only for words that the file does not hold.
    templates
        Sentences with ``{}`` that a word is put into; a word's vector is the mean over them.
    device
        Where it computes.
    """

    name = NAME
    side = SEMANTIC_SIDE

    def __init__(
        self,
        loaded: Loaded,
        read_texts: Callable[[Sequence[str]], Tensor],
        templates: Sequence[str] = ("{}",),
        device: torch.device | str = "cpu",
    ) -> None:
        self.network: SamClipNetwork = loaded.network.eval().requires_grad_(False).to(device)
        self.device = torch.device(device)
        self._words = {fold(word): F.normalize(vector, dim=0) for word, vector in loaded.words.items()}
        self._read, self._templates = read_texts, tuple(templates)

    @cached_property
    def foundation(self) -> SamFoundation:
        """HeadSAM as a foundation: the trunk, SAM's prompt encoder and its decoder."""
        with torch.device("meta"):
            plain = SamNetwork(self.network.size)
        load_strict(plain, self.network.sam_state(), "the merged network", assign=True)
        return SamFoundation(plain, NAME, self.network.size.image_size)

    def understand(self, words: Sequence[Word]) -> tuple[Understood, ...]:
        """Any word is read by the teacher's text tower.

        Raises
        ------
        DomainSamError
            If a word is not in the file and the text tower is not to be had.
        """
        self._vectors(words)
        return tuple(Understood(word.name) for word in words)

    def name_objects(
        self, view: View, objects: Sequence[SceneObject], words: Sequence[Word]
    ) -> NDArray[np.float32]:
        """Scores ``(N, K)``: the softmax over words of their cosines to the mean vector inside an object."""
        vectors = self._vectors(words)
        scores = np.full((len(objects), len(words)), np.nan, np.float32)
        for look in plan_looks(view.shape, objects, self.side):
            self._name_look(view, look, objects, vectors, scores)
        return scores

    def _name_look(
        self,
        view: View,
        look: Look,
        objects: Sequence[SceneObject],
        vectors: Tensor,
        scores: NDArray[np.float32],
    ) -> None:
        """Fill the rows of a look's objects that show any data."""
        image, valid = read_look(view, look)
        with torch.inference_mode():
            picture = torch.from_numpy(np.ascontiguousarray(image))[None].to(self.device)
            places = self.network.clip_head.places(self.network.tokens(picture))[0]
            # At the picture's resolution a thin or small object still has its share of a patch.
            masks = place_masks(look, objects) * torch.from_numpy(valid)
            shares = F.adaptive_avg_pool2d(masks[:, None], (places.shape[0], places.shape[1]))[:, 0].to(
                self.device
            )
            total = shares.sum(dim=(1, 2))
            mean = torch.einsum("nhw,hwd->nd", shares, places) / total.clamp(min=1e-12)[:, None]
            found = (SCALE * F.normalize(mean, dim=1) @ vectors.T).softmax(dim=1).cpu().numpy()
        for row, number, seen in zip(found, look.objects, (total > 0).tolist(), strict=True):
            if seen:
                scores[number] = row

    def map_words(self, view: View, window: Window, words: Sequence[Word]) -> NDArray[np.float32]:
        """Scores ``(K, h/4, w/4)`` of a window's places, seen with 448 pixels along its longer side."""
        vectors = self._vectors(words)
        block = view.block(window)
        scale = self.side / max(window.height, window.width)
        sides = [max(32, round(side * scale / 32) * 32) for side in (window.height, window.width)]
        image, valid = (torch.from_numpy(np.ascontiguousarray(part)) for part in (block.image, block.valid))
        size = (window.height // 4, window.width // 4)
        with torch.inference_mode():
            picture = F.interpolate(image[None], sides, mode="bilinear", antialias=True, align_corners=False)
            places = self.network.clip_head.places(self.network.tokens(picture.to(self.device)))
            logits = (SCALE * places @ vectors.T).permute(0, 3, 1, 2)
            wide = F.interpolate(logits, size, mode="bilinear", align_corners=False).softmax(dim=1)
            seen = F.adaptive_avg_pool2d(valid[None, None].float(), size)[0] > 0
            return np.asarray((wide[0].cpu() * seen).numpy(), np.float32)

    def _vectors(self, words: Sequence[Word]) -> Tensor:
        """Vectors ``(K, D)`` of words: means over their phrases and the templates, of length one."""
        missing = [phrase for word in words for phrase in word.phrases if fold(phrase) not in self._words]
        if missing:
            texts = [template.format(phrase) for phrase in missing for template in self._templates]
            read = self._read(texts).view(len(missing), len(self._templates), -1)
            means = F.normalize(read.float().cpu().mean(dim=1), dim=1)
            self._words.update({fold(phrase): mean for phrase, mean in zip(missing, means, strict=True)})
        found = [
            torch.stack([self._words[fold(phrase)] for phrase in word.phrases]).mean(dim=0) for word in words
        ]
        return F.normalize(torch.stack(found), dim=1).to(self.device)


def find_templates() -> tuple[str, ...]:
    """The 80 sentences of CLIP's zero-shot classifier, from open_clip; without it the word alone."""
    try:
        from open_clip import OPENAI_IMAGENET_TEMPLATES
    except ImportError:
        return ("{}",)
    # They are functions of a word; what they make of "{}" is the sentence.
    return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)


def load(name: str, path: Path | None, device: torch.device, dtype: torch.dtype) -> SamClipWords:
    """Loader for :data:`domainsam.vocabularies.VOCABULARIES`; it computes in float32 whatever ``dtype``."""
    folder = path if path is not None and path.is_dir() else None
    file = find_file(name, FILE, folder) if path is None or folder else path
    loaded = read_sam_clip(file)

    def read(texts: Sequence[str]) -> Tensor:
        try:
            teacher = load_teacher(_near(loaded.teacher.name, file), device)
        except DomainSamError as error:
            raise ConfigError(
                f"{file}: its words are those of {loaded.teacher.name}, which cannot be loaded ({error}); "
                "put it beside the file, or train with --vocabulary, which stores the vectors of words"
            ) from error
        vectors = teacher.encode_texts(texts)
        if vectors.shape[1] != loaded.teacher.vector:
            raise InputError(
                f"{loaded.teacher.name} gives vectors of {vectors.shape[1]} components, {file} was taught "
                f"{loaded.teacher.vector}: it is another model"
            )
        return vectors

    return SamClipWords(loaded, read, find_templates(), device)


def _near(teacher: str, file: Path) -> str:
    """The teacher's name, with what lies beside the file in the place of where it lay in training."""
    architecture, colon, rest = teacher.partition(":")
    if colon:
        beside = file.parent / Path(rest).name
        return f"{architecture}:{beside}" if beside.is_file() else teacher
    beside = file.parent / Path(teacher).name
    return str(beside) if beside.is_dir() else teacher
