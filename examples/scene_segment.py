"""Segment scenes seen by several sensors from Python, also when one of them fails.

Run: python examples/scene_segment.py [FOLDER] [SCENES]
SCENES is a folder with one folder a sensor (rgb/a.png, depth/a.png ...).
Without scenes of yours it draws some.
"""

from __future__ import annotations

import sys
from pathlib import Path

from domainsam_scene.generated.files import write_samples
from domainsam_scene.model.scene import load_model
from domainsam_scene.read.layouts import find_layout
from domainsam_scene.read.layouts.base import read_sample
from domainsam_scene.segment import segment_layout
from domainsam_scene.settings import OutputOptions, SegmentOptions


def main(folder: Path, scenes: Path | None) -> None:
    if scenes is None:
        scenes = folder / "scenes"
        write_samples(scenes, count=2, size=256, seed=1, overwrite=True)
    model = load_model()
    outputs = OutputOptions(folder / "maps", preview=folder / "previews", overwrite=True)
    batch = segment_layout("plain", scenes, None, SegmentOptions(outputs), model)
    for result in batch.results:
        print(result.sentence())

    layout = find_layout("plain")
    sample = read_sample(layout, layout.samples(scenes, None)[0], model.modalities)
    whole = model.predict_sensors(sample.images, sample.valid)
    for name in sample.images:
        rest = {sensor: image for sensor, image in sample.images.items() if sensor != name}
        without = model.predict_sensors(rest, {sensor: sample.valid[sensor] for sensor in rest})
        changed = (without.labels != whole.labels).mean()
        print(f"without {name}: {100 * changed:.0f} % of the pixels change")


if __name__ == "__main__":
    main(
        Path(sys.argv[1] if len(sys.argv) > 1 else "domainsam-example"),
        Path(sys.argv[2]) if len(sys.argv) > 2 else None,
    )
