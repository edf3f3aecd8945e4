"""The settlement model that is shipped: mean weights, and what its header says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from domainsam.checkpoint import load, save
from domainsam.licences import PROVENANCE, RESEARCH_USE
from recipes.urban.blend import average
from recipes.urban.folds import CITIES, FOLDS, count_scenes, list_scenes, reduce, show

DATA = "UV-SAM's public sample of Beijing, which states no licence, and the Mumbai settlement set"


def ship(work: Path, models: Path, out: Path, report: dict[str, Any]) -> None:
    """Write the shipped file: float16, with temperature, threshold, method and scores in its header.

    ``coarse_iou`` is on the validation tiles at 0.5, measured with the very file.
    """
    checkpoint = load(models / "final.safetensors", "urban")
    config: Any = json.loads(json.dumps(checkpoint.header.config))
    config["method"] = "coarse"
    config[PROVENANCE] = {"use": RESEARCH_USE, "data": DATA}
    # Tiles of half the size answer otherwise (benchmarks/stability.py).
    config["scene"]["least_tile"] = config["scene"]["tile"]
    config["prompter"]["temperature"] = report["temperature"]
    # Nothing else of the shape: a least area in the file would take the place of the default.
    config["shape"] = {"threshold": report["threshold"]}
    config["training"]["trunk_weights"] = Path(config["training"].get("trunk_weights", "")).name
    header = replace(
        checkpoint.header,
        config=config,
        metrics={
            **{f"{city}_folds_iou": float(report[city]["iou"][0]) for city in CITIES},
            **{f"{city}_folds_ece": float(report[city]["ece"][0]) for city in CITIES},
        },
    )
    files = [models / "final.safetensors", *(models / f"fold{number}.safetensors" for number in FOLDS)]
    tensors = average([load(path, "urban") for path in files if path.is_file()])
    save(out, tensors, header, half=True)
    counts = np.stack(list(count_scenes(list_scenes(work / "val"), work / "val", out).values()))
    report["shipped on val"] = {
        f"{level:g}": show(reduce(counts, level)) for level in (0.5, report["threshold"])
    }
    score = float(report["shipped on val"]["0.5"]["iou"][0])
    save(out, tensors, replace(header, metrics={**header.metrics, "coarse_iou": score}), half=True)
