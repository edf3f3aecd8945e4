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
from domainsam.protocols import Box, SceneObject, Understood, View, Window, Word
from domainsam.tensorfile import load_strict, read_safetensors, write_safetensors
from domainsam.vocabulary.known import KnownWords, Sense, Taken, read_senses, share_classes, write_senses
from domainsam.vocabulary.loading import ENTRY, HEADER, read_header
from domainsam.vocabulary.sentences import load_sentences
from domainsam.vocabulary.word_network import (
    SHAPE,
    WordNetwork,
    fit_square,
    pack_tensors,
    plan_squares,
    unpack_tensors,
)

WEIGHTS = Path(__file__).parent / "weights" / "words.safetensors"
NAME = "embedded"
SIDE = 512
"""Pixels of the longest side of the pictures that maps were learnt on."""
AT_ONCE = 16
"""Objects that the trunk looks at together."""
MOST_SIDE = 1024
"""Pixels of a square beyond which several of the frame are averaged into one."""
STRIP = 32
"""Rows of such a square that are read at a time."""
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


def look_at(view: View, one: SceneObject) -> tuple[Tensor, Tensor, Tensor] | None:
    """An object's two squares ``(5, 128, 128)``, narrow and wide, and its colour and shape ``(8,)``.

    Channels are red, green, blue in 0 to 1, validity and the mask. None if no pixel of the mask is valid.
    """
    squares = plan_squares(_box_of(one))
    top, left, side = squares.wide
    channels, step = _read_square(view, one, top, left, side)
    mask = np.asarray(channels[4] > 0)
    if not mask.any():
        return None
    # The narrow square lies inside the wide one: same centre, smaller side. Rounding may push it out by one.
    inner, start = squares.narrow[2] // step, (squares.narrow[0] - top, squares.narrow[1] - left)
    rows, cols = (slice(max(0, at // step), min(side, at // step + inner)) for at in start)
    shape = torch.from_numpy(describe_shape(channels[:3, mask], mask))
    whole = torch.from_numpy(channels)
    return fit_square(whole[:, rows, cols]), fit_square(whole), shape


def _read_square(
    view: View, one: SceneObject, top: int, left: int, side: int
) -> tuple[NDArray[np.float32], int]:
    """The five channels of a square, and how many pixels of the frame along a side make one of them.

    Large squares are read strip by strip and averaged, so that memory does not grow with objects.
    """
    step = max(1, side // MOST_SIDE)
    cells = -(-side // step)
    strips = []
    for start in range(0, cells, cells if step == 1 else STRIP):
        rows = min(cells - start, cells if step == 1 else STRIP) * step
        window = Window(top + start * step, left, rows, cells * step, one.bounds.frame)
        block = view.block(window)
        mask = _place_mask(one, window) & block.valid
        full = np.concatenate([block.image, block.valid[None], mask[None]], dtype=np.float32)
        cut = full.reshape(5, rows // step, step, cells, step)
        strips.append(full if step == 1 else cut.mean(axis=(2, 4)))
    return np.concatenate(strips, axis=1), step


def _box_of(one: SceneObject) -> Box:
    return one.bounds.box if one.box is None or one.mask is not None else one.box


def _place_mask(one: SceneObject, window: Window) -> NDArray[np.bool_]:
    """An object's mask in a window of its frame; its bounds where it has none."""
    placed = np.zeros((window.height, window.width), bool)
    own = np.ones((one.bounds.height, one.bounds.width), bool) if one.mask is None else one.mask
    row, col = one.bounds.row - window.row, one.bounds.col - window.col
    rows = slice(max(0, row), max(0, min(window.height, row + own.shape[0])))
    cols = slice(max(0, col), max(0, min(window.width, col + own.shape[1])))
    if rows.start < rows.stop and cols.start < cols.stop:
        placed[rows, cols] = own[rows.start - row : rows.stop - row, cols.start - col : cols.stop - col]
    return placed


def describe_shape(colours: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Mean and spread of colours ``(3, n)``, logarithm of the aspect and share of its box: ``(8,)``."""
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    height, width = np.ptp(rows) + 1, np.ptp(cols) + 1
    form = (np.log(width / height), mask.sum() / (width * height))
    found = np.concatenate([colours.mean(axis=1), colours.std(axis=1), form]).astype(np.float32)
    assert found.shape == (SHAPE,)
    return found


def prepare_crops(network: WordNetwork, narrow: Tensor, wide: Tensor) -> Tensor:
    """What the trunk sees ``(B, 2, 4, 128, 128)`` of squares ``(B, 5, 128, 128)`` of :func:`look_at`."""
    both = torch.stack([narrow, wide], dim=1)
    image, valid, mask = both[:, :, :3], both[:, :, 3:4], both[:, :, 4:]
    # Where a square overhangs, scaled colours fade to 0; the trunk's 0 is the mean colour of its pictures.
    mean, std = network.mean, network.std
    return torch.cat([(image - mean * valid) / std, mask], dim=2)


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
