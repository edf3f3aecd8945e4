"""The embedded model of words: a closed list of words and their synonyms, shipped with the package.

It names objects of any foundation by their pixels, and says of every place of a picture what it shows. A
score is the share of a word's classes among *all* that it knows, so that "none of these words" is an
answer.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from domainsam.errors import CheckpointError, WeightsError
from domainsam.protocols import SceneObject, Understood, View, Window, Word
from domainsam.tensorfile import load_strict, read_safetensors, write_safetensors
from domainsam.vocabulary.known import KnownWords, Sense, Taken, read_senses, share_classes, write_senses
from domainsam.vocabulary.loading import ENTRY, HEADER, read_header
from domainsam.vocabulary.sentences import load_sentences
from domainsam.vocabulary.word_looks import look_at, prepare_crops
from domainsam.vocabulary.word_network import (
    WordNetwork,
    pack_tensors,
    unpack_tensors,
)

WEIGHTS = Path(__file__).parent / "weights" / "words.safetensors"
NAME = "embedded"
SIDE = 512
"""Pixels of the longest side of the pictures that maps were learnt on."""
AT_ONCE = 16
"""Objects that the trunk looks at together."""
VECTORS = "vectors"
REQUIRED = ("senses", "region_temperature", "place_temperature")

log = logging.getLogger(__name__)


class EmbeddedWords:
    """A :class:`~domainsam.protocols.Namer` and :class:`~domainsam.protocols.WordMapper` of a closed list.

    Parameters
    ----------
    network
        With its weights in place; it is frozen here.
    known
        The list.
    temperatures
        Factors of cosines before the softmax over all classes: of regions, of places.
    device
        Where it computes.
    """

    name = NAME
    side = SIDE

    def __init__(
        self,
        network: WordNetwork,
        known: KnownWords,
        temperatures: tuple[float, float],
        device: torch.device | str = "cpu",
    ) -> None:
        self.network = network.eval().requires_grad_(False).to(device)
        self.known, self.temperatures = known, temperatures
        self.device = torch.device(device)
        self._prototypes = torch.from_numpy(known.prototypes()).to(device)
        self._told: set[tuple[str, ...]] = set()

    def understand(self, words: Sequence[Word]) -> tuple[Understood, ...]:
        """The known phrase that each word is taken as, and the cosine of the two.

        Raises
        ------
        InputError
            If a word is far from all that are known; the nearest are told.
        DependencyError
            If a word is not on the list and the extra ``words`` is not installed.
        """
        return tuple(one.told for one in self._take(words))

    def name_objects(
        self, view: View, objects: Sequence[SceneObject], words: Sequence[Word]
    ) -> NDArray[np.float32]:
        """Scores ``(N, K)`` of words for objects; a row of NaN where an object shows no data."""
        shares = self._shares(words)
        scores = np.full((len(objects), len(words)), np.nan, np.float32)
        for start in range(0, len(objects), AT_ONCE):
            part = objects[start : start + AT_ONCE]
            looks = [look_at(view, one) for one in part]
            shown = [number for number, look in enumerate(looks) if look is not None]
            if not shown:
                continue
            probability = self._tell_regions([look for look in looks if look is not None])
            scores[[start + number for number in shown]] = probability @ shares.T
        return scores

    def map_words(self, view: View, window: Window, words: Sequence[Word]) -> NDArray[np.float32]:
        """Scores ``(K, h/4, w/4)`` of words for the places of a window; 0 where there is no data."""
        block = view.block(window)
        shares = torch.from_numpy(self._shares(words)).to(self.device)
        image, valid = (
            torch.from_numpy(np.ascontiguousarray(a)).to(self.device) for a in (block.image, block.valid)
        )
        with torch.inference_mode():
            picture = self.network.normalise(image, valid)[None]
            features = self.network.describe_places(picture)[0].permute(1, 2, 0)
            cosines = self.network.place(features) @ self._prototypes.T
            scores = (cosines * self.temperatures[1]).softmax(dim=-1) @ shares.T
            size = (window.height // 4, window.width // 4)
            wide = F.interpolate(scores.permute(2, 0, 1)[None], size, mode="bilinear", align_corners=False)
            seen = F.adaptive_avg_pool2d(valid[None, None].float(), size)[0] > 0
            return np.asarray((wide[0] * seen).cpu().numpy(), np.float32)

    def _tell_regions(self, looks: Sequence[tuple[Tensor, Tensor, Tensor]]) -> NDArray[np.float32]:
        """Probabilities ``(n, C)`` of all classes for objects as :func:`look_at` shows them."""
        crops, shapes = self._prepare(looks)
        with torch.inference_mode():
            vectors = self.network.region(self.network.describe_regions(crops, shapes))
            cosines = vectors @ self._prototypes.T
            return np.asarray((cosines * self.temperatures[0]).softmax(dim=1).cpu().numpy(), np.float32)

    def _prepare(self, looks: Sequence[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        narrow, wide, shapes = (torch.stack(part).to(self.device) for part in zip(*looks, strict=True))
        return prepare_crops(self.network, narrow, wide), shapes

    def _take(self, words: Sequence[Word]) -> tuple[Taken, ...]:
        taken = self.known.take(words)
        same: dict[str, list[str]] = {}
        for one in taken:
            same.setdefault(one.sense.name, []).append(one.word)
        for name, asked in same.items():
            if len(asked) > 1 and tuple(asked) not in self._told:
                self._told.add(tuple(asked))
                log.warning(
                    "taken as the same known word %r: %s; they share its score", name, ", ".join(asked)
                )
        return taken

    def _shares(self, words: Sequence[Word]) -> NDArray[np.float32]:
        return share_classes(self._take(words), self.known.classes)


def save_words(
    path: str | Path,
    network: WordNetwork,
    senses: Sequence[Sense],
    vectors: NDArray[np.float32],
    about: Mapping[str, Any],
) -> Path:
    """Write a model of words; ``about`` holds the temperatures, version and licence, and goes into the
    header.

    Raises
    ------
    OutputError
        If it cannot be written.
    CheckpointError
        If a temperature is missing.
    """
    told = {**about, "senses": write_senses(senses), ENTRY: NAME}
    _require(told, path)
    import json

    tensors = pack_tensors({**network.state_dict(), VECTORS: torch.from_numpy(vectors)})
    write_safetensors(Path(path), tensors, {HEADER: json.dumps(told, sort_keys=True)})
    return Path(path)


def load_words(path: str | Path, device: torch.device | str = "cpu") -> EmbeddedWords:
    """The model of a file.

    Raises
    ------
    CheckpointError
        If the file is damaged, or no model of words.
    """
    path = Path(path)
    told = read_header(path)
    _require(told, path)
    tensors = unpack_tensors(read_safetensors(path), path)
    vectors = tensors.pop(VECTORS, None)
    senses = read_senses(told["senses"], path)
    if vectors is None or vectors.ndim != 2 or len(vectors) != sum(len(one.phrases) for one in senses):
        raise CheckpointError(f"{path}: vectors and words do not go together: write the file again")
    network = load_strict(WordNetwork(), _count_batches(tensors), str(path))
    known = KnownWords(
        senses, F.normalize(vectors, dim=1).numpy(), lambda texts: load_sentences().encode(texts)
    )
    temperatures = (float(told["region_temperature"]), float(told["place_temperature"]))
    return EmbeddedWords(network, known, temperatures, device)


def _count_batches(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same and the counters of norms, which nothing reads and no file keeps."""
    counters = {
        name.replace("running_mean", "num_batches_tracked"): torch.zeros((), dtype=torch.long)
        for name in tensors
        if name.endswith("running_mean")
    }
    return {**tensors, **counters}


def _require(told: Mapping[str, Any], path: str | Path) -> None:
    missing = [name for name in REQUIRED if name not in told]
    if missing:
        raise CheckpointError(f"{path} is no model of words: its header lacks {', '.join(missing)}")


def load(name: str, path: Path | None, device: torch.device, dtype: torch.dtype) -> EmbeddedWords:
    """Loader for :data:`domainsam.vocabularies.VOCABULARIES`; it computes in float32 whatever ``dtype``."""
    path = path or WEIGHTS
    if not path.is_file():
        raise WeightsError(
            f"this installation lacks the embedded model of words ({path}): reinstall domainsam, "
            "or name another --vocabulary-model"
        )
    return load_words(path, device)
