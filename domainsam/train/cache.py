"""Cache of the frozen foundation's features on disk for training.

What is kept is found again by what was encoded: the key is a digest of the
image's own pixels and of the foundation's weights. Nothing can be stale, the
eight turns of a tile are eight entries, and several runs may share a folder.

It pays only where images come again. Random crops with random colours never
do, so a recipe that caches learns from :class:`FixedTiles`: the same tiles in
their eight turns, without changes of scale or colour.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from domainsam.errors import InputError, OutputError
from domainsam.protocols import Features, Foundation, Window
from domainsam.train.augment import DIHEDRAL, Sample, resize, turn_dihedral
from domainsam.train.crops import LEAST_KNOWN, Batch, SampleSource
from domainsam.train.losses import IGNORE

log = logging.getLogger(__name__)


class FeatureCache:
    """A foundation's ``encode`` that remembers.

    An entry is a folder with one ``.npy`` a feature map, float16. It is
    written under another name, synced and renamed, so it is whole or absent.
    Features are the float16 ones whether they come from disk or not, so that
    a run does not depend on what was there before it.

    Parameters
    ----------
    folder
        Made if absent.
    foundation
        Encodes what is not there yet.
    max_bytes
        No further entry is kept once those in the folder take so much. None
        is ever removed: an epoch that asks for all tiles in turn would find
        each of them gone again.
    """

    def __init__(self, folder: Path, foundation: Foundation, max_bytes: int) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"feature cache '{folder}' cannot be made: {error.strerror}") from error
        self.folder, self.foundation, self.max_bytes = folder, foundation, max_bytes
        self.size = sum(file.stat().st_size for file in folder.rglob("*.npy"))
        self.hits = self.misses = 0

    def encode(self, images: Tensor) -> Features:
        """As the foundation's ``encode``, to float16's accuracy; on the foundation's device."""
        size = (int(images.shape[-2]), int(images.shape[-1]))
        entries = [self._entry(self._key(image)) for image in images]
        missing = [index for index, entry in enumerate(entries) if not self._is_there(entry)]
        self.hits += len(entries) - len(missing)
        self.misses += len(missing)
        fresh: dict[int, list[Tensor]] = {}
        for index in missing:
            # One at a time: the last bits of a batch's features depend on the batch's size.
            encoded = self.foundation.encode(images[index : index + 1])
            fresh[index] = [part[0].half().cpu() for part in (encoded.image, *encoded.levels)]
            self._keep(entries[index], fresh[index])
        columns = [
            fresh[index] if index in fresh else self._read(entry) for index, entry in enumerate(entries)
        ]
        device = self.foundation.device
        # Widened one by one: a CPU that computes in bfloat16 refuses to stack float16.
        parts = [
            torch.stack([entry.to(device).float() for entry in part]) for part in zip(*columns, strict=True)
        ]
        return Features(parts[0], tuple(parts[1:]), size)

    def _entry(self, key: str) -> Path:
        """Where an entry lies."""
        return self.folder / key

    def _is_there(self, entry: Path) -> bool:
        """Whether an entry can be read."""
        return entry.is_dir()

    def _key(self, image: Tensor) -> str:
        digest = hashlib.sha256(self.foundation.sha256.encode())
        digest.update(str(tuple(image.shape)).encode())
        digest.update(image.detach().cpu().float().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _read(self, entry: Path) -> list[Tensor]:
        files = sorted(entry.glob("*.npy"))
        # The copy is of one entry only; the mapped file itself is read-only.
        return [torch.from_numpy(np.array(np.load(file, mmap_mode="r"))) for file in files]

    def _keep(self, entry: Path, maps: Sequence[Tensor]) -> None:
        needed = sum(part.numel() * 2 for part in maps)
        if self.size + needed > self.max_bytes or entry.exists():
            return
        room = Path(tempfile.mkdtemp(dir=self.folder, prefix=".new-"))
        try:
            for number, part in enumerate(maps):
                with (room / f"{number}.npy").open("wb") as file:
                    np.save(file, part.numpy())
                    file.flush()
                    os.fsync(file.fileno())
            entry.parent.mkdir(exist_ok=True)
            room.rename(entry)
        except OSError as error:
            shutil.rmtree(room, ignore_errors=True)
            if entry.is_dir():
                return
            raise OutputError(f"feature cache '{self.folder}' cannot be written: {error.strerror}") from error
        self.size += needed


TEACHER = "teacher.json"
"""Says in the folder of a :class:`TeacherCache` whose features they are."""


class TeacherCache(FeatureCache):
    """The features of one teacher for distillation: 256 shards, read by mapping files into memory.

    The folder says whose features it holds, and is refused for any other
    teacher: nobody should pay for two by mistake. Every entry is checked when it
    is first read; one that was cut short is told and encoded anew, so that a
    cache that an interrupted copy left behind serves as far as it goes.

    Parameters
    ----------
    folder, foundation, max_bytes
        As for :class:`FeatureCache`.
    precision
        In which the teacher computes.

    Raises
    ------
    InputError
        If the folder holds the features of another teacher, or does not say whose.
    OutputError
        If it cannot be made or written.
    """

    def __init__(self, folder: Path, foundation: Foundation, max_bytes: int, precision: str) -> None:
        super().__init__(folder, foundation, max_bytes)
        self._told = False
        self._good: set[Path] = set()
        probe = foundation.encode(torch.zeros(1, 3, 64, 64))
        self._maps = 1 + len(probe.levels)
        owner = {"teacher": foundation.name, "sha256": foundation.sha256, "precision": precision}
        marker = folder / TEACHER
        if marker.exists():
            _check_owner(marker, owner)
            return
        # Another process of the same run may have written the label meanwhile.
        if any(not entry.name.startswith(".") and entry != marker for entry in folder.iterdir()):
            raise InputError(
                f"folder '{folder}' holds files but no {TEACHER}: expected a feature cache or an empty folder"
            )
        temporary = folder / f".{TEACHER}.{os.getpid()}"
        try:
            temporary.write_text(json.dumps(owner, indent=1) + "\n", encoding="utf-8")
            temporary.replace(marker)
        except OSError as error:
            raise OutputError(f"feature cache '{folder}' cannot be written: {error.strerror}") from error

    def _entry(self, key: str) -> Path:
        return self.folder / key[:2] / key

    def _is_there(self, entry: Path) -> bool:
        if entry in self._good:
            return True
        if not entry.is_dir():
            return False
        try:
            files = sorted(entry.glob("*.npy"))
            maps = [np.load(file, mmap_mode="r") for file in files]
            whole = len(maps) == self._maps
        except (ValueError, OSError, EOFError):
            whole = False
        if whole:
            self._good.add(entry)
            return True
        if not self._told:
            log.warning(
                "feature cache '%s' was cut short (%s cannot be read): such entries are encoded anew",
                self.folder,
                entry.name[:12],
            )
            self._told = True
        shutil.rmtree(entry, ignore_errors=True)
        return False


def _check_owner(marker: Path, owner: dict[str, str]) -> None:
    """Refuse a cache of another teacher.

    Raises
    ------
    InputError
        If it is one, or its label cannot be read.
    """
    try:
        told = json.loads(marker.read_text(encoding="utf-8"))
        words = [str(told[key]) for key in ("teacher", "precision", "sha256")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"feature cache '{marker.parent}' has a damaged {marker.name}: delete the folder, or name another"
        ) from error
    if told != owner:
        raise InputError(
            f"feature cache '{marker.parent}' is of teacher {words[0]} in {words[1]} "
            f"(sha256 {words[2][:12]}), not of {owner['teacher']} in {owner['precision']} "
            f"(sha256 {owner['sha256'][:12]}): name another folder, or delete this one"
        )


class FixedTiles:
    """Tiles on a fixed grid in their eight turns, every one once an epoch, in an order by chance.

    Parameters
    ----------
    scenes
        Where tiles come from; they are brought to the model's resolution.
    side
        Side of a tile in pixels, a multiple of 32.
    batch_size
        Tiles in a batch; the last batch of an epoch is filled up from the next.
    seed
        Decides the order.

    Raises
    ------
    InputError
        If no tile has enough known ground.
    """

    def __init__(
        self, scenes: Sequence[SampleSource], side: int, batch_size: int, seed: Sequence[int]
    ) -> None:
        self.side, self.batch_size, self._seed = side, batch_size, list(seed)
        self.tiles = [
            (scene, window)
            for scene in scenes
            for window in tile_windows(scene.shape, max(8, round(side * scene.ratio)))
            if np.mean(scene.sample(window).labels != IGNORE) >= LEAST_KNOWN
        ]
        if not self.tiles:
            raise InputError("no tile has enough labelled ground to train on: check the labels and the split")

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        count = len(self.tiles) * DIHEDRAL
        samples: list[Sample] = []
        for place in range(step * self.batch_size, (step + 1) * self.batch_size):
            order = np.random.default_rng([*self._seed, place // count]).permutation(count)
            index, element = divmod(int(order[place % count]), DIHEDRAL)
            scene, window = self.tiles[index]
            samples.append(turn_dihedral(resize(scene.sample(window), self.side, self.side), element))
        return Batch.of(samples)


def tile_windows(shape: tuple[int, int], side: int) -> list[Window]:
    """Windows that cover a scene; the last of a row or column is moved back inside."""
    rows, cols = shape
    height, width = min(side, rows), min(side, cols)
    tops = sorted({min(top, rows - height) for top in range(0, rows, height)})
    lefts = sorted({min(left, cols - width) for left in range(0, cols, width)})
    return [Window(top, left, height, width) for top in tops for left in lefts]
