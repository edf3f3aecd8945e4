"""Map a scene from Python and read the polygons back.

Run: python examples/urban_map.py [FOLDER] [SCENE]
Without a scene of yours it draws one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import geopandas

from domainsam_urban.generated import write_sample
from domainsam_urban.map import map_scenes
from domainsam_urban.settings import MapOptions, OutputOptions, ShapeOptions


def main(folder: Path, scene: Path | None) -> None:
    if scene is None:
        scene = folder / "sample.tif"
        write_sample(scene, folder / "sample_truth.tif", side=512, seed=1, overwrite=True)
    outputs = OutputOptions(vectors=(folder / "settlements.parquet",), stac=False, overwrite=True)
    options = MapOptions(outputs, shape=ShapeOptions(min_area=1000.0, simplify=2.0), quiet=True)
    result = map_scenes([str(scene)], options).results[0]
    print(result.sentence())
    settlements = geopandas.read_parquet(result.paths["polygons"])
    print(settlements[["id", "confidence", "area_ha", "perimeter_m"]].to_string(index=False))


if __name__ == "__main__":
    main(
        Path(sys.argv[1] if len(sys.argv) > 1 else "domainsam-example"),
        Path(sys.argv[2]) if len(sys.argv) > 2 else None,
    )
