"""Figures of the settlement model on ground that its folds have not seen, and the file that is shipped.

    python -m recipes.urban.folds W --models SHORT LONG -o folds.json --ship urban_villages.safetensors

``W`` is what ``recipes.urban.cities`` leaves. ``SHORT`` and ``LONG`` are folders of trainings, any number
of them: each with ``final.safetensors``, ``fold1.safetensors`` to ``fold5.safetensors``, and ``only_mumbai``
and ``only_beijing`` where they are. Models of one name have mean weights (:mod:`recipes.urban.blend`).
Every scene of a fold, a patch of Mumbai or a cell of Beijing, is mapped alone by the model that has not
seen it. Temperature (Guo et al. 2017) and threshold for a fold are chosen on the *other* folds; those that
are shipped, on all of them. What is shipped are the mean weights of all these models on both cities.
Intervals are percentiles of 2000 draws of scenes. ``--full`` also maps with the foundation.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.warp import Resampling, reproject

import domainsam
from domainsam.metrics.bootstrap import bootstrap
from domainsam.metrics.calibration import BINS
from recipes.urban.blend import blend

FOLDS = range(1, 6)
CITIES = ("beijing", "mumbai")
NAMES = ("final", *(f"fold{number}" for number in FOLDS), "only_mumbai", "only_beijing")
"""Of the models in a folder of trainings."""
RESOLUTION = 1.2
"""Metres; what the models look at, so that nothing is interpolated before it is scored."""
LEVELS = 255
"""Values of a byte of probability, 0 to 254."""
TEMPERATURES = np.geomspace(0.5, 3, 61)
THRESHOLDS = np.round(np.arange(0.2, 0.81, 0.02), 2)

Counts = NDArray[np.float64]
"""``(scenes, 255, 2)``: pixels of each byte of probability, by truth (0, 1)."""


def count_scenes(
    scenes: Iterable[Path], labels: Path, model: Path, method: str = "coarse"
) -> dict[str, Counts]:
    """Map scenes and compare them with their masks, by name: ``(255, 2)`` pixels each."""
    counts = {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        domainsam.run(
            "urban",
            sorted(scenes),
            probability=out / "{stem}.tif",
            model=model,
            method=method,
            resolution=RESOLUTION,
            stac=False,
            workers=1,
            quiet=True,
        )
        for path in sorted(out.glob("*.tif")):
            mask = labels / f"{path.stem.removesuffix('_image')}_mask.tif"
            counts[path.stem] = compare(path, mask)
    return counts


def compare(answer: Path, mask: Path) -> Counts:
    """Pixels of each byte of probability by truth, ``(255, 2)``; the mask is laid on the answer's grid."""
    with rasterio.open(answer) as found, rasterio.open(mask) as truth:
        values = found.read(1)
        known = np.full(values.shape, 255, np.uint8)
        reproject(
            rasterio.band(truth, 1),
            known,
            dst_transform=found.transform,
            dst_crs=found.crs,
            dst_nodata=255,
            resampling=Resampling.nearest,
        )
    used = (values < LEVELS) & (known <= 1)
    places = values[used].astype(np.int64) * 2 + known[used]
    return np.bincount(places, minlength=2 * LEVELS).reshape(LEVELS, 2).astype(np.float64)


def soften(temperature: float) -> NDArray[np.float64]:
    """Probability of each byte after its log-odds are divided by a temperature, ``(255,)``."""
    chance = np.clip(np.arange(LEVELS) / (LEVELS - 1), 1 / (2 * LEVELS), 1 - 1 / (2 * LEVELS))
    return np.asarray(1 / (1 + (1 / chance - 1) ** (1 / temperature)), np.float64)


def balance(groups: Sequence[Counts]) -> Counts:
    """Counts ``(255, 2)`` of several cities, each of the same weight."""
    return np.asarray(sum(group.sum(0) / group.sum() for group in groups), np.float64)


def fit_temperature(groups: Sequence[Counts]) -> float:
    """The temperature of the least cross entropy, cities of the same weight."""
    total = balance(groups)
    losses = [
        -(total[:, 1] * np.log(soften(t)) + total[:, 0] * np.log(1 - soften(t))).sum() for t in TEMPERATURES
    ]
    return float(TEMPERATURES[int(np.argmin(losses))])


def reduce(counts: Counts, threshold: float, temperature: float = 1.0) -> NDArray[np.float64]:
    """What adds up over scenes and folds, ``(scenes, 4 + 15)``.

    Settled pixels found, pixels found, settled pixels, pixels; and in 15 bins
    of probability, true pixels less those expected.
    """
    chance = soften(temperature)
    yes = chance >= threshold
    bins = np.minimum((chance * BINS).astype(int), BINS - 1)
    gap = counts[..., 1] - chance * counts.sum(-1)
    columns = [
        counts[:, yes, 1].sum(1),
        counts[:, yes].sum((1, 2)),
        counts[..., 1].sum(1),
        counts.sum((1, 2)),
    ]
    return np.stack(columns + [gap[:, bins == number].sum(1) for number in range(BINS)], axis=1)


def score_iou(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of settlement, of summed statistics ``(..., 19)``; NaN where none is true or found."""
    hit, found, true = sums[..., 0], sums[..., 1], sums[..., 2]
    either = found + true - hit
    return np.asarray(hit / np.where(either > 0, either, np.nan))


def score_ece(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expected calibration error of summed statistics ``(..., 19)``."""
    return np.asarray(np.abs(sums[..., 4:]).sum(-1) / sums[..., 3])


def choose_threshold(groups: Sequence[Counts], temperature: float) -> float:
    """The threshold nearest to 0.5 whose mean IoU over the cities is within a standard error of the best.

    The rule of one standard error (Breiman et al. 1984, section 3.4.3): a few scenes cannot tell thresholds
    apart that differ by less, and 0.5 is what a probability means by itself.
    """
    means = np.array(
        [
            np.mean([score_iou(reduce(group, level, temperature).sum(0)) for group in groups])
            for level in THRESHOLDS
        ]
    )
    best = int(np.argmax(means))
    scores = [bootstrap(reduce(group, THRESHOLDS[best], temperature), score_iou) for group in groups]
    # Of a mean of cities, from their intervals of 95 %.
    error = np.sqrt(sum(((score.high - score.low) / (2 * 1.96)) ** 2 for score in scores)) / len(scores)
    # A single scene has no error.
    good = THRESHOLDS[means >= means[best] - np.nan_to_num(error)]
    return float(good[np.argmin(np.abs(good - 0.5))])


def show(statistics: NDArray[np.float64]) -> dict[str, Any]:
    """IoU and calibration error with intervals, precision, recall, of scenes' statistics."""
    hit, found, true, pixels = statistics.sum(0)[:4]
    scores = {"iou": bootstrap(statistics, score_iou), "ece": bootstrap(statistics, score_ece)}
    return {
        **{
            name: [round(x, 3) for x in (score.value, score.low, score.high)]
            for name, score in scores.items()
        },
        "precision": round(hit / max(found, 1), 3),
        "recall": round(hit / max(true, 1), 3),
        "settled": round(true / pixels, 3),
        "scenes": len(statistics),
    }


def split_cities(counts: dict[str, Counts]) -> dict[str, Counts]:
    """Scenes by city, ``(scenes, 255, 2)``; validation tiles of Beijing have names without the city."""
    return {
        city: np.stack(found)
        for city in CITIES
        if (found := [value for name, value in counts.items() if name.startswith(city)])
    }


def list_scenes(folder: Path) -> list[Path]:
    """Scenes of a folder without their masks."""
    return sorted(path for path in folder.glob("*.tif") if not path.stem.endswith("_mask"))


def judge_folds(work: Path, models: Path, method: str = "coarse") -> dict[int, dict[str, Counts]]:
    """Counts of every fold's scenes by city, for the folds whose models are there."""
    folds = {}
    for number in FOLDS:
        model, folder = models / f"fold{number}.safetensors", work / f"fold{number}"
        if model.is_file():
            folds[number] = split_cities(count_scenes(list_scenes(folder), folder, model, method))
            print(f"fold {number}, {method}: mapped", flush=True)
    return folds


def cross_validate(folds: dict[int, dict[str, Counts]]) -> dict[str, Any]:
    """Figures of held-out folds, with temperature and threshold of the others, and those of all."""
    rows: list[dict[str, Any]] = []
    pooled: dict[str, list[NDArray[np.float64]]] = {city: [] for city in CITIES}
    for number, own in folds.items():
        others = [
            np.concatenate([fold[city] for other, fold in folds.items() if other != number])
            for city in CITIES
        ]
        temperature = fit_temperature(others)
        threshold = choose_threshold(others, temperature)
        row: dict[str, Any] = {"fold": number, "temperature": round(temperature, 3), "threshold": threshold}
        for city in CITIES:
            pooled[city].append(reduce(own[city], threshold, temperature))
            row[city] = show(pooled[city][-1])
        rows.append(row)
    report: dict[str, Any] = {"folds": rows}
    everything = {city: np.concatenate([fold[city] for fold in folds.values()]) for city in CITIES}
    for city in CITIES:
        report[city] = show(np.concatenate(pooled[city]))
        report[f"{city}, 0.5 and temperature 1"] = show(reduce(everything[city], 0.5))
    temperature = fit_temperature(list(everything.values()))
    report["temperature"] = round(temperature, 3)
    report["threshold"] = choose_threshold(list(everything.values()), temperature)
    return report


def compare_methods(
    coarse: dict[int, dict[str, Counts]], full: dict[int, dict[str, Counts]], level: float, temperature: float
) -> dict[str, Any]:
    """IoU of both methods on the same held-out scenes, and the lead of the foundation with its interval."""
    report: dict[str, Any] = {}
    for city in CITIES:
        first, second = (
            np.concatenate([method[number][city] for number in full]) for method in (coarse, full)
        )
        for name, threshold, t in (("0.5", 0.5, 1.0), ("chosen", level, temperature)):
            one, other = reduce(first, threshold, t), reduce(second, threshold, t)
            both = np.stack([other, one], axis=1)
            lead = bootstrap(both, lambda sums: score_iou(sums[:, 0]) - score_iou(sums[:, 1]))
            report[f"{city}, {name}"] = {
                "coarse": show(one)["iou"],
                "full": show(other)["iou"],
                "lead of full": [round(x, 3) for x in (lead.value, lead.low, lead.high)],
            }
    return report


def judge_single(work: Path, models: Path, level: float, temperature: float) -> dict[str, Any]:
    """The validation tiles by the final model, and each city by the model that never saw it."""
    report: dict[str, Any] = {}
    cells = [
        path for n in FOLDS for path in list_scenes(work / f"fold{n}") if path.stem.startswith("beijing")
    ]
    jobs = {
        "final on val": ("final", list_scenes(work / "val"), work / "val"),
        "only_mumbai on beijing": ("only_mumbai", cells, None),
        "only_mumbai on val": ("only_mumbai", list_scenes(work / "val"), work / "val"),
        "only_beijing on mumbai": ("only_beijing", list_scenes(work / "mumbai"), work / "labels"),
    }
    for name, (model, scenes, labels) in jobs.items():
        if not (models / f"{model}.safetensors").is_file():
            continue
        found: list[Counts] = []
        for folder in {path.parent for path in scenes}:
            some = [path for path in scenes if path.parent == folder]
            found += count_scenes(some, labels or folder, models / f"{model}.safetensors").values()
        counts = np.stack(found)
        report[f"{name}, 0.5"] = show(reduce(counts, 0.5))
        report[f"{name}, chosen"] = show(reduce(counts, level, temperature))
        print(f"{name}: mapped", flush=True)
    return report


def judge(given: argparse.Namespace, models: Path) -> dict[str, Any]:
    """All figures of the models in a folder; the file to ship, if asked for."""
    folds = judge_folds(given.work, models)
    report = cross_validate(folds)
    level, temperature = report["threshold"], report["temperature"]
    report["single"] = judge_single(given.work, models, level, temperature)
    if given.full:
        full = judge_folds(given.work, models, "full")
        report["methods"] = compare_methods(folds, full, level, temperature)
    if given.ship:
        from recipes.urban.ship import ship

        ship(given.work, models, given.ship, report)
    return report


def main() -> None:
    """Judge what is there, print it, and write the file to ship if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--models", type=Path, required=True, nargs="+", metavar="RUNS")
    parser.add_argument("--full", action="store_true", help="map the folds with the foundation as well")
    parser.add_argument("--ship", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        for name in NAMES:
            blend([runs / f"{name}.safetensors" for runs in given.models], models / f"{name}.safetensors")
        report = judge(given, models)
    given.out.write_text(json.dumps(report, indent=1), encoding="utf-8")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
