"""Write into the file of a trained model what its training data were like, for comparison with inputs.

``domainsam urban train`` and ``domainsam ct train`` do it themselves; this is for files that other
recipes made. A signature beside the file is no longer right afterwards: sign it anew.

    python recipes/know.py urban model.safetensors scenes/ more/
    python recipes/know.py ct model.safetensors case1.nii.gz case2.nii.gz
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from domainsam.checkpoint import note_known, read_header
from domainsam.familiar import learn_known


def main() -> None:
    """Look at the data and write the table ``[knows]``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pack", choices=["urban", "ct"])
    parser.add_argument("model", type=Path)
    parser.add_argument("data", nargs="+", help="scenes or folders of them; volumes")
    given = parser.parse_args()
    known = (
        know_scenes(given.model, given.data) if given.pack == "urban" else know_scans(given.model, given.data)
    )
    note_known(given.model, known)
    print(f"{given.model} knows {known['samples']} samples")


def know_scenes(model: Path, data: list[str]) -> dict[str, Any]:
    """Of scenes, at the resolution that the model has learnt."""
    from domainsam.io.pairing import find_scenes
    from domainsam_urban.model.settlement import get_scene_settings
    from domainsam_urban.read.scene import RasterSource
    from domainsam_urban.train.settlement import describe_scenes

    settings = get_scene_settings(read_header(model))
    pixel = None if settings is None else settings.resolution
    sources = [RasterSource(scene.path, resolution=pixel, allow_no_crs=True) for scene in find_scenes(data)]
    try:
        return describe_scenes(sources)
    finally:
        for source in sources:
            source.close()


def know_scans(model: Path, data: list[str]) -> dict[str, Any]:
    """Of volumes, within the window that the model tells apart."""
    from domainsam_ct.measure.gate import BANDS
    from domainsam_ct.read.open import open_volume, sample_values

    window = read_header(model).config.get("model", {}).get("window", (-125.0, 275.0))
    samples, pixels, spacings = [], [], []
    for path in data:
        with open_volume(path) as volume:
            samples.append(sample_values(volume)[None])
            pixels.append(float(np.sqrt(np.prod(volume.spacing[:2]))))
            spacings.append(volume.spacing[2])
    return learn_known(
        samples,
        BANDS,
        window=(float(window[0]), float(window[1])),
        resolutions=pixels,
        spacings=spacings,
        sensor="CT",
        unit="HU",
    ).table()


if __name__ == "__main__":
    main()
