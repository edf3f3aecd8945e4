"""Our side of ``urban_throughput.py``: one scene through what ``domainsam urban map`` runs.

Loading Python's modules and the model is not timed; the clock runs from
opening the scene to the last output in its place. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time

import torch

from domainsam.infer.engine import map_scene as run_engine
from domainsam.infer.store import RawRaster
from domainsam.io.cog import CogLayout, write_cog
from domainsam.machine import keep_freed_memory
from domainsam_urban.finders import make_engine_options
from domainsam_urban.map import map_scenes
from domainsam_urban.model.settlement import SettlementModel, load_model
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.settings import MapOptions, OutputOptions, RunOptions


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scene", required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--foundation", required=True)
    parser.add_argument("--out", type=Path, required=True, help="probability GeoTIFF")
    parser.add_argument("--tile", type=int, required=True)
    parser.add_argument("--overlap", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--method", choices=["coarse", "full"], default="coarse")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="fp32")
    parser.add_argument("--polygons", action="store_true", help="polygons and mask as well")
    return parser.parse_args()


def map_options(given: argparse.Namespace) -> MapOptions:
    folder = given.out.parent
    return MapOptions(
        model=given.model,
        foundation=given.foundation if given.method == "full" else None,
        run=RunOptions(
            device="cpu",
            precision=given.precision,
            tile=given.tile,
            overlap=given.overlap,
            batch_size=given.batch_size,
            method=given.method,
        ),
        outputs=OutputOptions(
            vectors=(folder / f"{given.out.stem}.gpkg",) if given.polygons else (),
            probability=given.out,
            mask=folder / f"{given.out.stem}_mask.tif" if given.polygons else None,
            overwrite=True,
        ),
        quiet=True,
    )


def map_raster(scene: str, options: MapOptions, model: SettlementModel) -> dict[str, float]:
    """The probability raster alone, as the pipeline makes it, without the polygons that it always adds."""
    out = options.outputs.probability
    assert out is not None
    with RasterSource(scene, resolution=model.resolution) as source:
        # Small objects stay in, for the peer does not filter and the masks are to be compared.
        engine = replace(make_engine_options(options, model, source.profile_info.work_pixel), min_pixels=1)
        answer = run_engine(
            source,
            model.prompter,
            model.foundation,
            out.with_suffix(".staged"),
            engine,
            device=model.device,
            identity=source.fingerprint,
        )
        start = perf_counter()
        with RawRaster.open(answer.probability, answer.shape) as staged:
            write_cog(staged, out, CogLayout("probability", source.transform, source.crs))
    return {**answer.seconds, "cog": perf_counter() - start}


def main() -> None:
    given = parse()
    torch.set_num_threads(given.threads)
    # As `domainsam urban map` does before it loads the model.
    keep_freed_memory()
    options = map_options(given)
    model = load_model(options)
    start, cpu = perf_counter(), process_time()
    if given.polygons:
        batch = map_scenes([given.scene], options, model)
        result = batch.results[0]
        facts = {"polygons": result.polygons, "crops": result.crops}
        stages = {key: value for key, value in result.seconds.items() if key != "total"}
    else:
        facts = {}
        stages = map_raster(given.scene, options, model)
    took = {"seconds": perf_counter() - start, "cpu": process_time() - cpu}
    print(json.dumps({**took, "stages": stages, **facts}))


if __name__ == "__main__":
    main()
