"""A scene, volume or stack of sensors that is open for prompts."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import ConfigError
from domainsam.foundation import DEFAULT, load_decoder
from domainsam.grid import Grid
from domainsam.infer.engine import prompt_scene
from domainsam.infer.networks import Networks
from domainsam.infer.options import EngineOptions
from domainsam.infer.view import SceneView
from domainsam.machine import Precision, choose_precision
from domainsam.opened.found import Found
from domainsam.opened.marks import Frame, Marks, gather_marks, require_one_way
from domainsam.opened.searches import choose_search, refuse_with_search, require_model, run_by_pack
from domainsam.packs import DomainPack
from domainsam.prompter.clicks import Clicks
from domainsam.protocols import Features, Foundation, PromptSource, SceneObject, Source, Window


class Opened:
    """A scene, volume or stack of sensors that is open for prompts; a context manager.

    What is found is staged in a folder for temporary files that goes when this
    is closed, and with it what :class:`Found` has not read yet.

    Parameters
    ----------
    pack
        Whose file it is.
    source
        The opened file.
    """

    def __init__(self, pack: DomainPack, source: Source) -> None:
        self.pack, self.source = pack, source
        self._folder = Path(mkdtemp(prefix="domainsam-"))
        # Also where nobody closes it: at the latest when the program ends.
        self._remove = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._numbers = count(1)
        self._foundations: dict[tuple[str, str], tuple[Foundation, Precision]] = {}
        self._views: dict[int, SceneView] = {}

    @property
    def grid(self) -> Grid:
        """Where its pixels or voxels lie: axes row, column, or slice, row, column in RAS millimetres."""
        return self.source.grid

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a frame."""
        return self.grid.frame_shape

    @property
    def frames(self) -> int:
        """Number of frames: of slices of a CT, 1 of a scene."""
        return self.grid.frames

    def image(self, window: Window) -> NDArray[np.float32]:
        """RGB picture ``(3, h, w)`` float32 in 0 to 1; 0 outside and where there is no data."""
        return self.source.read(window).image

    def features(
        self, window: Window, foundation: str | Path | Foundation = DEFAULT, device: str = "auto"
    ) -> Features:
        """What a foundation's encoder makes of ``window``, whose sides are multiples of 32; kept for a while.

        Raises
        ------
        WeightsError, CheckpointError
            If the foundation cannot be loaded.
        """
        generalist, precision = self._load(foundation, device)
        if id(generalist) not in self._views:
            networks = Networks(generalist, generalist.device, precision)
            self._views[id(generalist)] = SceneView(self.source, networks, generalist)
        return self._views[id(generalist)].features(window)

    def find(
        self,
        points: Marks | None = None,
        boxes: Marks | None = None,
        marks: str | Path | Sequence[SceneObject] | None = None,
        *,
        source: PromptSource | None = None,
        labels: str | Sequence[str] | None = None,
        frame: Frame = None,
        foundation: str | Path | Foundation = DEFAULT,
        device: str = "auto",
        threshold: float | None = None,
        like: Any = None,
        track: Any = None,
        everything: bool = False,
        words: str | Sequence[str] | None = None,
        ask: str | None = None,
        **how: Any,
    ) -> Found:
        """Decode what prompts mark, or find what an example shows, what words say, or everything.

        Parameters
        ----------
        points
            ``(x, y)`` or, in a volume, ``(x, y, z)``: an object each. A list of
            such in the place of one are clicks on one object. Or a file of marks.
        boxes
            ``(left, top, right, bottom)`` or, in a volume, ``(x1, y1, z1, x2, y2, z2)``,
            an object each, or a file.
        marks
            A file of marks of any kind, or objects in pixels of the scene.
        source
            A prompt source of any kind, in the place of marks.
        labels
            The label of each object, points first, or one for all; for coordinates.
        frame
            Frame of the coordinates: ``"world"`` (the CRS; the default where the
            scene has one) or ``"pixel"``; of a volume ``"voxel"``, ``"RAS"``, ``"LPS"`` or
            ``"pixel"``. A number is a slice, and coordinates are then pixels of its picture.
        foundation
            Name, weight file, or a foundation that is loaded already.
        device
            As ``--device``.
        threshold
            Probability from which a pixel belongs to a marked object; 0.5 unless given.
        like, track
            In the place of marks, what the pack's commands take by example: ``like`` is
            what is looked for, ``track`` what is followed from frame to frame. A scene
            takes a file of outlines (``like="example.gpkg"``), a CT ``like=`` the scan and
            mask of another and ``track=`` an organ on some of its slices.
        everything
            In the place of marks: all that the foundation sees (``urban``).
        words
            What is looked for by words, synonyms behind commas (``words=["roof, rooftop"]``); with
            ``vocabulary_model=``, a name, a path or a model of words, and ``vocabulary=``, a file of words.
        ask
            In the place of marks, what a language model is asked for: ``ask="swimming pools",
            mllm="models/Qwen3-VL-4B"``.
        **how
            Further options of such a search, as the pack's command has them: ``unlike``,
            ``finetune`` and ``least_score`` for ``urban``, with ``everything`` also
            ``per_side`` and ``least_iou``; ``features`` for ``ct``; with ``ask`` the options
            of :func:`domainsam.prompter.language.keywords.ask_options`, of which ``mllm`` is needed.

        Raises
        ------
        ConfigError
            If nothing is marked, or in two ways that exclude each other, or an option belongs to the other
            way.
        InputError
            If coordinates cannot be placed or lie outside, or nothing was found.
        WeightsError, CheckpointError
            If the foundation cannot be loaded.
        """
        marked = any(part is not None for part in (points, boxes, marks, source))
        search = choose_search(
            self.pack, how, marked=marked, like=like, track=track, everything=everything, words=words, ask=ask
        )
        if search is None:
            if how:
                raise ConfigError(
                    f"{next(iter(how))!r} belongs to a search: give words=, ask=, like=, track= or "
                    "everything=True too"
                )
            require_one_way(points, boxes, marks, source, labels)
            if source is None:
                source = Clicks(gather_marks(self.grid, self._voxels, points, boxes, marks, labels, frame))
            return self._decode(source, foundation, device, threshold)
        refuse_with_search(labels=labels, frame=frame)
        require_model(search)

        def load() -> Foundation:
            return self._load(foundation, device)[0]

        if search.make_source is not None:
            source = search.make_source(self.pack.name, search.how, load, device)
            return self._decode(source, load(), device, threshold)
        refuse_with_search(threshold=threshold)
        return Found(self, *run_by_pack(self.pack, search, self.source, self._name_folder(), load, device))

    def _decode(
        self,
        prompts: PromptSource,
        foundation: str | Path | Foundation,
        device: str,
        threshold: float | None,
    ) -> Found:
        """What prompts mark, decoded by a foundation."""
        generalist, precision = self._load(foundation, device)
        # Frames need not be blended, and not every source may be read by several threads.
        options = EngineOptions(
            overlap=0, workers=1, threshold=0.5 if threshold is None else threshold, dtype=precision
        )
        answer = prompt_scene(self.source, prompts, generalist, self._name_folder(), options)
        return Found(self, answer, generalist)

    def _name_folder(self) -> Path:
        """A folder for what is staged next, not there yet."""
        return self._folder / str(next(self._numbers))

    def _load(self, foundation: str | Path | Foundation, device: str) -> tuple[Foundation, Precision]:
        if not isinstance(foundation, str | Path):
            return foundation, choose_precision("auto", foundation.device.type)
        key = (str(foundation), device)
        if key not in self._foundations:
            self._foundations[key] = load_decoder(foundation, device)
        return self._foundations[key]

    @property
    def _voxels(self) -> Grid | None:
        """Of a volume, the grid of the file's own axes."""
        return getattr(self.source, "voxels", None)

    def close(self) -> None:
        """Close the file, and remove what is staged."""
        close: Callable[[], None] | None = getattr(self.source, "close", None)
        if close is not None:
            close()
        self._remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
