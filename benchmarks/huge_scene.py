"""One huge scene over four workers: peak memory of every process, and seconds.

::

    python benchmarks/huge_scene.py --side 4096 8192                 # what is flat shows between two sizes
    python benchmarks/huge_scene.py --side 32768 --memory 1G --method coarse
    python benchmarks/huge_scene.py --side 32768 --pixel 0.3 --batch-size 1   # as satellites deliver it
    python benchmarks/huge_scene.py --side 5120 --workers 2 --memory none   # beside --workers 0, one process
    python benchmarks/huge_scene.py --side 8192 --picture scene.tif      # the ground of a picture of yours

The scene is a tiled GeoTIFF (JPEG) without nodata: pictures of 512 x 512 pixels, generated or cut from
``--picture``, turned and mirrored by chance. Workers are processes of this machine that are killed beyond
``--memory`` of their own. Memory is looked at five times a second: each process's resident set, and
``private`` without the pages of libraries, of which one copy serves all processes.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window

from domainsam.testing.synthetic import make_settlement_scene
from domainsam_urban.model.settlement import read_shipped_resolution

SIDE = 512
"""Pixels of a picture's side."""
KINDS = 4
"""Pictures that are generated."""
PAUSE_S = 0.2
CALL = "import sys; from domainsam_cli import main; sys.exit(main(sys.argv[1:]))"
LEAST_MB = 100
"""Processes that never hold as much are helpers of Python's and no workers."""


def list_pictures(path: Path | None) -> list[NDArray[np.uint8]]:
    """Pictures ``(3, 512, 512)`` that the scene is laid out of."""
    if path is None:
        made = [make_settlement_scene(SIDE, SIDE, seed=seed).image for seed in range(KINDS)]
        return [np.ascontiguousarray(image.transpose(2, 0, 1)) for image in made]
    with rasterio.open(path) as dataset:
        places = [
            Window(col, row, SIDE, SIDE)
            for row in range(0, dataset.height - SIDE + 1, SIDE)
            for col in range(0, dataset.width - SIDE + 1, SIDE)
        ]
        if not places or dataset.dtypes[0] != "uint8" or dataset.count < 3:
            raise SystemExit(f"{path}: expected three bands of 8 bits and at least {SIDE} x {SIDE} pixels")
        return [dataset.read((1, 2, 3), window=place) for place in places]


def write_scene(path: Path, side: int, pixel: float, pictures: Sequence[NDArray[np.uint8]]) -> None:
    """Lay pictures side by side, turned and mirrored by chance; ``pixel`` in metres."""
    chance = np.random.default_rng(0)
    place = Affine.translation(443_200, 4_412_300) @ Affine.scale(pixel, -pixel)
    profile = {"width": side, "height": side, "count": 3, "dtype": "uint8", "crs": "EPSG:32650"}
    profile |= {"transform": place, "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "JPEG"}
    with rasterio.open(path, "w", "GTiff", photometric="YCBCR", bigtiff="IF_SAFER", **profile) as file:
        for row in range(0, side, SIDE):
            for col in range(0, side, SIDE):
                picture = np.rot90(
                    pictures[int(chance.integers(len(pictures)))], int(chance.integers(4)), (1, 2)
                )
                if chance.integers(2):
                    picture = picture[:, :, ::-1]
                height, width = min(SIDE, side - row), min(SIDE, side - col)
                file.write(picture[:, :height, :width], window=Window(col, row, width, height))


def watch(command: Sequence[str]) -> dict[str, Any]:
    """Seconds of a command, peak megabytes of it and of each process below it, and its exit code."""
    peaks: dict[int, tuple[float, float]] = {}
    begin = time.perf_counter()
    process = subprocess.Popen(command)
    top = psutil.Process(process.pid)
    while process.poll() is None:
        for one in _list_processes(top):
            try:
                now = one.memory_info()
            except psutil.Error:
                continue
            before = peaks.get(one.pid, (0.0, 0.0))
            whole, private = now.rss / 2**20, (now.rss - now.shared) / 2**20
            peaks[one.pid] = max(before[0], whole), max(before[1], private)
        time.sleep(PAUSE_S)
    seconds = time.perf_counter() - begin
    client = peaks.pop(process.pid, (math.nan, math.nan))
    workers = sorted(peak for peak in peaks.values() if peak[0] >= LEAST_MB)
    return {
        "seconds": round(seconds, 1),
        "client_MB": round(client[0]),
        "client_private_MB": round(client[1]),
        "workers_MB": [round(whole) for whole, _ in workers],
        "workers_private_MB": [round(private) for _, private in workers],
        "exit_code": process.returncode,
    }


def _list_processes(top: psutil.Process) -> list[psutil.Process]:
    try:
        return [top, *top.children(recursive=True)]
    except psutil.Error:
        return []


def measure(side: int, given: argparse.Namespace, pictures: Sequence[NDArray[np.uint8]]) -> dict[str, Any]:
    """Map one scene; figures of it."""
    folder = Path(tempfile.mkdtemp(prefix="huge-", dir=given.folder))
    try:
        scene = folder / "huge.tif"
        write_scene(scene, side, given.pixel, pictures)
        command = [sys.executable, "-c", CALL, "urban", "map", str(scene)]
        command += ["-o", str(folder / "out.gpkg"), "--mask", str(folder / "mask.tif"), "-q"]
        command += ["--method", given.method, "--device", "cpu"]
        if given.tile:
            command += ["--tile", str(given.tile)]
        if given.batch_size:
            command += ["--batch-size", str(given.batch_size)]
        if given.workers:
            command += ["--scheduler", f"local:{given.workers}"]
            if given.memory != "none":
                command += ["--memory-per-task", given.memory]
        told = watch(command)
        disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return {
            "side": side,
            "pixel_m": given.pixel,
            "nodata_share": 0.0,
            "method": given.method,
            "workers": given.workers,
            "Mpx_per_s": round(side**2 / 1e6 / told["seconds"], 3),
            "scene_MB": round(scene.stat().st_size / 2**20),
            "left_on_disk_MB": round(disk / 2**20),
            **told,
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory and seconds of one huge scene over workers.")
    parser.add_argument("--side", type=int, nargs="+", default=[4096, 8192])
    resolution = read_shipped_resolution() or 1.0
    parser.add_argument("--pixel", type=float, default=resolution, help="metres [default: the model's]")
    parser.add_argument("--workers", type=int, default=4, help="0 is the plain command")
    parser.add_argument("--memory", default="1G", help="that a worker may hold; none for no limit")
    parser.add_argument("--method", choices=["coarse", "full"], default="coarse")
    parser.add_argument("--tile", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument(
        "--picture", type=Path, help="cut pictures out of this one instead of generating some"
    )
    parser.add_argument("--folder", type=Path, help="where the scene, its staging and outputs lie meanwhile")
    given = parser.parse_args()
    pictures = list_pictures(given.picture)
    for side in given.side:
        print(json.dumps(measure(side, given, pictures)), flush=True)


if __name__ == "__main__":
    main()
