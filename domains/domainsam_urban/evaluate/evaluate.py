"""Score scenes against labels, for one or several variants of a model, with intervals."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from domainsam.errors import DomainSamError, InputError, explain
from domainsam.io.pairing import Scene, find_answer, find_labels, is_vector
from domainsam.io.rasters import open_raster
from domainsam.metrics.tables import without_repeats
from domainsam.progress import Progress, report_nothing
from domainsam_urban.evaluate.scores import Answer, Counts, score_scene
from domainsam_urban.evaluate.summary import Evaluation, EvaluationOptions, SceneScores, summarise
from domainsam_urban.read.layers import (
    ALL,
    Choice,
    Layer,
    PolygonAnswer,
    PolygonLayer,
    open_raster_layer,
    read_polygons,
)
from domainsam_urban.read.place import Place, require_same_ground
from domainsam_urban.settings import MapOptions, OutputOptions

log = logging.getLogger(__name__)

Predict = Callable[[Path, Path], Mapping[str, Path]]
"""From a scene and an empty folder to rasters (or polygons) by variant, the main one first."""


def look_up_answers(answers: Path) -> Predict:
    """A :data:`Predict` that looks predictions up instead of making them."""
    return lambda scene, workdir: {"prediction": find_answer(Scene(scene, scene.stem), answers)}


def evaluate_scenes(
    scenes: Iterable[Scene],
    labels: Path,
    predict: Predict,
    workdir: Path,
    options: EvaluationOptions | None = None,
    progress: Progress = report_nothing,
) -> Evaluation:
    """Predict every scene, compare it with its labels, and pool the counts.

    Parameters
    ----------
    scenes
        What to evaluate on.
    labels
        A file of polygons for all scenes, a mask raster, or a folder with one
        file a scene (see :func:`domainsam.io.pairing.find_labels`).
    predict
        Makes, or finds, the predictions of a scene.
    workdir
        Existing folder for predictions; they stay there for the report's pictures.
    progress
        Called now and then while a scene is compared.

    Raises
    ------
    InputError
        If not one scene could be scored; the message is that of the first.
    """
    options = options or EvaluationOptions()
    scenes = tuple(scenes)
    # Labels of a whole city may leave some of its scenes empty; those of a single scene have to lie on it.
    alone = len(scenes) == 1 or labels.is_dir()
    done: list[SceneScores] = []
    skipped: list[tuple[str, str]] = []
    for number, scene in enumerate(scenes):
        room = workdir / f"{number:04d}"
        room.mkdir()
        try:
            done.append(_evaluate_scene(scene, labels, predict, room, options, alone, progress))
        # Whatever one scene does, the others are scored.
        except Exception as error:
            if not isinstance(error, DomainSamError):
                log.debug("%s", scene.name, exc_info=error)
            skipped.append((scene.name, explain(error)[0]))
    if not done:
        first = f"{skipped[0][0]}: {skipped[0][1]}" if skipped else "no scene was given"
        raise InputError(f"none of {len(skipped)} scene(s) could be evaluated; the first: {first}")
    if not alone and is_vector(labels):
        _require_some(done, labels, options)
    return summarise(done, skipped, options)


def _require_some(done: list[SceneScores], labels: Path, options: EvaluationOptions) -> None:
    """Refuse polygons of which not one lies on any of several scenes."""
    settled = any(counts.confusion[:, 1].any() for scene in done for counts in scene.counts.values())
    if not settled and len(read_polygons(labels, options.labels)[0]):
        raise InputError(
            f"polygons '{labels.name}' do not overlap any of {len(done)} scenes; check that both cover the "
            "same ground"
        )


def _evaluate_scene(
    scene: Scene,
    labels: Path,
    predict: Predict,
    room: Path,
    options: EvaluationOptions,
    alone: bool,
    progress: Progress,
) -> SceneScores:
    scoring = options.scoring
    label_path = find_labels(scene, labels)
    answers = dict(predict(scene.path, room))
    place = choose_place(scene.path, next(iter(answers.values())))
    counts: dict[str, Counts] = {}
    notes: list[str] = []
    total, done = place.shape[0] * place.shape[1] * len(answers), 0

    def advance(pixels: int) -> None:
        nonlocal done
        done += pixels
        progress(scene.name, done, total)

    with open_labels(label_path, place, options.labels, alone) as truth:
        notes.extend(truth.notes)
        for variant, path in answers.items():
            with open_answer(path, place) as answer:
                counts[variant] = score_scene(truth, answer, place, scoring, advance)
                notes.extend(answer.notes)
    if not counts[next(iter(answers))].confusion.any():
        raise InputError(
            f"labels '{label_path}' and the prediction share no pixel that both know: check nodata"
        )
    return SceneScores(
        scene,
        label_path,
        answers,
        place,
        scoring.tolerance_px(place),
        counts,
        without_repeats(notes),
        options.labels,
    )


def choose_place(scene: Path, answer: Path) -> Place:
    """The grid to compare on: that of the prediction, or of the scene where the prediction is of polygons.

    Raises
    ------
    InputError
        If a raster prediction lies elsewhere than the scene, or has another
        size where there is no CRS to place it by.
    """
    with open_raster(scene) as dataset:
        place = Place.of(dataset)
    if is_vector(answer):
        return place
    with open_raster(answer) as dataset:
        own = Place.of(dataset)
    require_same_ground(answer.name, own, place)
    return own


@contextmanager
def open_labels(path: Path, place: Place, choice: Choice = ALL, must_touch: bool = True) -> Iterator[Layer]:
    """Labels, of polygons or a mask raster, on a grid; ``must_touch`` as in :class:`PolygonLayer`."""
    if is_vector(path):
        polygons, notes = read_polygons(path, choice)
        yield PolygonLayer(polygons, place, path.name, must_touch, notes)
    else:
        with open_raster_layer(path, place, "mask") as layer:
            yield layer


@contextmanager
def open_answer(path: Path, place: Place) -> Iterator[Answer]:
    """A prediction, of polygons or a raster, on a grid."""
    if is_vector(path):
        polygons, notes = read_polygons(path)
        yield PolygonAnswer(PolygonLayer(polygons, place, path.name, must_touch=False, notes=notes))
    else:
        with open_raster_layer(path, place) as layer:
            yield layer


@dataclass(frozen=True)
class Variant:
    """A way to run one model: which method, and which prompt parts are off."""

    name: str
    method: str = "full"
    disabled: frozenset[str] = frozenset()


STAGES = (Variant("full"), Variant("coarse", method="coarse"))
"""With the foundation, and the specialist's own answer without it (the ablation's "no SAM")."""
ABLATION = (
    *STAGES,
    Variant("no box", disabled=frozenset({"box"})),
    Variant("no mask", disabled=frozenset({"mask"})),
    Variant("no SAM embedding", disabled=frozenset({"sam_embedding"})),
    Variant("no SegFormer embedding", disabled=frozenset({"segformer_embedding"})),
)
"""UV-SAM's ablation: its prompt parts off one by one, and the SegFormer alone."""


def order_stages(method: str) -> tuple[Variant, ...]:
    """Both stages, the one that the model maps with first: it is the one that others are compared with."""
    return tuple(sorted(STAGES, key=lambda variant: variant.method != method))


def make_answers(options: MapOptions, variants: tuple[Variant, ...] = STAGES) -> Predict:
    """A function that maps a scene with every variant and keeps the probabilities.

    Variants differ in pass two alone, so pass one runs once a scene.

    ``options`` says how to read the scene and run the networks; its outputs,
    method and disabled parts are set here.

    Raises
    ------
    DomainSamError
        If the model cannot be used; at once, so that it is no fault of a scene.
    """
    from domainsam_urban.map import map_scenes
    from domainsam_urban.model.settlement import load_model

    model = load_model(options)
    # Scored where the model looks: on the scene's own grid interpolation would be scored with it.
    options = replace(
        options, read=replace(options.read, resolution=options.read.resolution or model.resolution)
    )

    def predict(scene: Path, workdir: Path) -> Mapping[str, Path]:
        answers: dict[str, Path] = {}
        first_pass = workdir / "first_pass.u8"
        for variant in variants:
            path = workdir / f"{variant.name.replace(' ', '_')}.tif"
            run = replace(options.run, method=variant.method, disabled=variant.disabled)
            outputs = OutputOptions(vectors=(), probability=path, stac=False)
            batch = map_scenes((str(scene),), replace(options, run=run, outputs=outputs), model, first_pass)
            if batch.failures:
                raise InputError(batch.failures[0][1])
            answers[variant.name] = path
        first_pass.unlink(missing_ok=True)
        return answers

    return predict
