"""Any pack's scene, opened for prompts: ``domainsam.open``."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import ConfigError, InputError, missing_extra
from domainsam.foundation import DEFAULT, load_decoder
from domainsam.grid import Grid
from domainsam.infer.blend import NODATA
from domainsam.infer.engine import prompt_scene
from domainsam.infer.found import UNNAMED, FoundObject
from domainsam.infer.networks import Networks
from domainsam.infer.objects import EngineResult
from domainsam.infer.options import EngineOptions
from domainsam.infer.store import RawRaster
from domainsam.infer.view import SceneView
from domainsam.io.marks import place_marks, read_marks
from domainsam.keywords import check_keywords, keyword_names
from domainsam.machine import Precision, choose_precision
from domainsam.packs import DomainPack, describe_file, load_pack
from domainsam.prompter.clicks import Clicks
from domainsam.prompter.words import WordOptions, WordSource
from domainsam.protocols import Features, Foundation, PromptSource, SceneObject, Source, Window
from domainsam.vocabulary.words import gather_words

Marks = str | Path | Sequence[Any] | NDArray[Any]
"""A file of marks, or coordinates."""


def open(path: Any, pack: str | None = None, **how: Any) -> Opened:
    """Open a scene, a CT or a picture, to find in it what prompts say.

    Parameters
    ----------
    path
        A file or DICOM folder; for ``scene`` also files by sensor.
    pack
        Name of an installed pack; by default the only one that can describe the file.
    **how
        How it is read, as the pack's command says it: ``bands``, ``nodata`` and
        ``resolution`` for ``urban``, ``window`` and ``series`` for ``ct``,
        ``geotiff``, ``bands`` and ``range`` for ``scene``.

    Returns
    -------
    Opened
        For a ``with`` statement, or to be closed by hand.

    Raises
    ------
    PackError
        If there is no such pack, or it opens nothing.
    ConfigError
        If ``pack`` is left out and several packs read the file, or a keyword is unknown.
    InputError
        If the file cannot be read.

    Examples
    --------
    >>> with domainsam.open("scene.tif") as scene:  # doctest: +SKIP
    ...     scene.find(points=[(443_200, 4_412_300)]).save("one.gpkg")
    """
    chosen = load_pack(pack or guess_pack(path))
    opener = chosen.load("open")
    try:
        return Opened(chosen, opener(path, **how))
    except ModuleNotFoundError as error:
        if missing := missing_extra(error):
            raise missing from error
        raise


def guess_pack(path: Any) -> str:
    """Name of the only pack that can describe a file.

    Raises
    ------
    ConfigError
        If several can.
    InputError
        If none can.
    """
    if not isinstance(path, str | Path):
        raise ConfigError(f"a {type(path).__name__} does not say its pack; name it: pack='scene'")
    able = describe_file(str(path))
    if len(able) > 1:
        raise ConfigError(
            f"{path}: {' and '.join(able)} read such files; name one: pack='{next(iter(able))}'"
        )
    return next(iter(able))


def _refuse_with_search(**given: Any) -> None:
    """Refuse options of marks where a search was asked for: they would have no effect.

    Raises
    ------
    ConfigError
        If one was given.
    """
    for name, value in given.items():
        if value is not None:
            raise ConfigError(
                f"{name!r} belongs to marks and has no part in a search (words=, ask=, like=, track= or "
                "everything=True): leave it out"
            )


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
        frame: str | int | None = None,
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
        by_word = words is not None or how.get("vocabulary") is not None
        by_example = like is not None or track is not None
        ways = sum((by_word, by_example, everything, ask is not None))
        if ways + marked > 1:
            raise ConfigError(
                "say what to find in one way: by marks, or by a search (words=, ask=, like=, track= or "
                "everything=True)"
            )
        if ways:
            _refuse_with_search(labels=labels, frame=frame)
        if by_word:
            return self._find_words(foundation, device, threshold, words or (), how)
        if ask is not None:
            return self._ask(foundation, device, threshold, ask, how)
        if ways:
            _refuse_with_search(threshold=threshold)
            sought = {"like": like, "track": track, "everything": everything or None}
            return self._search("find", foundation, device, {**sought, **how})
        if how:
            raise ConfigError(
                f"{next(iter(how))!r} belongs to a search: give words=, ask=, like=, track= or "
                "everything=True too"
            )
        given = points is not None or boxes is not None
        if sum((given, marks is not None, source is not None)) != 1:
            raise ConfigError("mark objects in one way: points and boxes, or marks, or a source")
        if labels is not None and not given:
            raise ConfigError("labels belong to points and boxes; marks and sources bear their own")
        prompts = source
        if prompts is None:
            prompts = Clicks([*self._read(marks, frame), *self._placed(points, boxes, labels, frame)])
        generalist, precision = self._load(foundation, device)
        folder = self._folder / str(next(self._numbers))
        # Frames need not be blended, and not every source may be read by several threads.
        options = EngineOptions(
            overlap=0, workers=1, threshold=0.5 if threshold is None else threshold, dtype=precision
        )
        answer = prompt_scene(self.source, prompts, generalist, folder, options)
        return Found(self, answer, generalist)

    def _find_words(
        self,
        foundation: str | Path | Foundation,
        device: str,
        threshold: float | None,
        words: str | Sequence[str],
        how: dict[str, Any],
    ) -> Found:
        """What words say: as the pack finds it, else objects of any scene, decoded as marks are."""
        if self.pack.find is not None and "words" in keyword_names(self.pack.load("find")):
            _refuse_with_search(threshold=threshold)
            return self._search("find", foundation, device, {"words": words, **how})
        from domainsam.vocabulary import load_vocabulary_model

        known = ("vocabulary", "vocabulary_model", "against", "least_score", "most", "proposals")
        check_keywords(f"{self.pack.name} find", how, known)
        given = {name: how[name] for name in ("most", "proposals") if how.get(name) is not None}
        if how.get("least_score") is not None:
            given["least"] = how["least_score"]
        model = how.get("vocabulary_model")
        if model is None or isinstance(model, str | Path):
            model = load_vocabulary_model(model, device)
        against = how.get("against") or ()
        generalist, _ = self._load(foundation, device)
        source = WordSource(
            model,
            gather_words(words, how.get("vocabulary"), "words"),
            generalist,
            gather_words(against, what="against") if against else (),
            WordOptions(**given),
        )
        return self.find(source=source, foundation=generalist, device=device, threshold=threshold)

    def _ask(
        self,
        foundation: str | Path | Foundation,
        device: str,
        threshold: float | None,
        phrase: str,
        how: dict[str, Any],
    ) -> Found:
        """What a phrase means to a language model: as the pack finds it, else in tiles of any scene."""
        if how.get("mllm") is None:
            raise ConfigError("ask= needs a language model: name it with mllm=, a folder or an address")
        if self.pack.ask is not None:
            _refuse_with_search(threshold=threshold)
            return self._search("ask", foundation, device, {"ask": phrase, **how})
        from domainsam.prompter.language.keywords import ask_options
        from domainsam.prompter.language.source import LanguageSource
        from domainsam.prompter.language.speakers import load_speaker

        check_keywords(f"{self.pack.name} find", how, keyword_names(ask_options))
        options = ask_options(**how)
        generalist, _ = self._load(foundation, device)
        source = LanguageSource(load_speaker(options, device), phrase, generalist, options)
        return self.find(source=source, foundation=generalist, device=device, threshold=threshold)

    def _search(
        self, part: str, foundation: str | Path | Foundation, device: str, how: dict[str, Any]
    ) -> Found:
        """What the pack finds by example (``find``) or by words (``ask``)."""
        search = self.pack.load(part)
        names = keyword_names(search)
        given = {name: value for name, value in how.items() if value is not None}
        if part == "find":
            # What is asked passes the rest on, and checks it there.
            check_keywords(f"{self.pack.name} find", given, names)
        if "device" in names:
            given["device"] = device
        folder = self._folder / str(next(self._numbers))
        answer, generalist = search(self.source, folder, lambda: self._load(foundation, device)[0], **given)
        return Found(self, answer, generalist)

    def _load(self, foundation: str | Path | Foundation, device: str) -> tuple[Foundation, Precision]:
        if not isinstance(foundation, str | Path):
            return foundation, choose_precision("auto", foundation.device.type)
        key = (str(foundation), device)
        if key not in self._foundations:
            self._foundations[key] = load_decoder(foundation, device)
        return self._foundations[key]

    def _read(
        self, marks: str | Path | Sequence[SceneObject] | None, frame: str | int | None
    ) -> Sequence[SceneObject]:
        if isinstance(marks, str | Path):
            return self._from_file(marks, "marks", frame)
        return marks or ()

    def _from_file(self, path: str | Path, kind: Any, frame: str | int | None) -> Sequence[SceneObject]:
        if isinstance(frame, int):
            raise ConfigError(f"a file says the slices of its marks itself, but frame={frame} was given")
        return read_marks(path, self.grid, kind=kind, frame=frame, voxels=self._voxels)

    def _placed(
        self,
        points: Marks | None,
        boxes: Marks | None,
        labels: str | Sequence[str] | None,
        frame: str | int | None,
    ) -> Sequence[SceneObject]:
        objects: list[SceneObject] = []
        listed: dict[str, Sequence[Any] | NDArray[Any]] = {}
        for name, given in (("points", points), ("boxes", boxes)):
            if isinstance(given, str | Path):
                objects += self._from_file(given, "boxes" if name == "boxes" else "marks", frame)
            elif given is not None:
                listed[name] = given
        if listed:
            objects += place_marks(self.grid, **listed, labels=labels, frame=frame, voxels=self._voxels)
        return objects

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


class Found:
    """What prompts marked in an opened scene, decoded; arrays are made when they are asked for.

    Parameters
    ----------
    opened
        The scene.
    answer
        What the engine staged.
    foundation
        Who decoded it; None where an example was compared by other features.
    """

    def __init__(self, opened: Opened, answer: EngineResult, foundation: Foundation | None) -> None:
        self.opened, self.answer, self.foundation = opened, answer, foundation

    @property
    def objects(self) -> tuple[FoundObject, ...]:
        """Label, score and bounds of every object, in the order of the prompts."""
        return self.answer.objects

    @property
    def told(self) -> Mapping[str, Any]:
        """What a search by example tells of itself: where organs end and why, what a similarity means."""
        return self.answer.told

    @property
    def names(self) -> tuple[str, ...]:
        """Labels of the objects; ``object`` where none bears one."""
        return self.answer.names or (UNNAMED,)

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """Which of :attr:`names` each pixel is, from 1; 0 where nothing is.

        ``(rows, columns)`` uint8; of a volume ``(slices, rows, columns)``.

        Raises
        ------
        InputError
            If the scene is closed.
        """
        answer, path = self.answer, self._staged()
        labels = np.zeros((answer.frames, *answer.shape), np.uint8)
        with RawRaster.open(path, answer.shape, answer.frames) as stored:
            for window in stored.bands(1 << 22):
                values = stored.read(window)
                if answer.labels is None:
                    values = np.where(values == NODATA, values, values >= answer.level).astype(np.uint8)
                labels[window.frame][window.slices] = np.where(values == NODATA, np.uint8(0), values)
        return labels.reshape(self.opened.grid.shape)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Where any object is: bool, on the grid of the scene."""
        return self.labels > 0

    @property
    def masks(self) -> dict[str, NDArray[np.bool_]]:
        """Where the objects of each label are: bool, on the grid of the scene."""
        return {name: self.labels == number for number, name in enumerate(self.names, start=1)}

    def _staged(self) -> Path:
        """The file that holds the labels, or where objects bear none the probability."""
        path = self.answer.labels or self.answer.probability
        if not path.exists():
            raise InputError("the scene is closed, so what was found is gone: read or save it before")
        return path

    def save(self, out: str | Path, **options: Any) -> Any:
        """Write it as the pack's command would, every file or none.

        Parameters
        ----------
        out
            As the command's ``-o``: polygons for ``urban``, a mask on the scan's
            own grid for ``ct``, a map for ``scene``.
        **options
            The command's options about its outputs, ``preview="p.png"`` or ``overwrite=True``.

        Returns
        -------
        The pack's result, as of :func:`domainsam.run`.

        Raises
        ------
        ConfigError
            If an option is unknown or impossible.
        InputError
            If the scene is closed.
        OutputError
            If a file exists already or cannot be written.
        """
        self._staged()
        save = self.opened.pack.load("save")
        return save(self.opened.source, self.answer, Path(out), self.foundation, **options)
