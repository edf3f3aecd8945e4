"""Kill commands at random moments, go on, and compare with unbroken runs.

::

    python -m tests.kills --count 100 --seed 1

The commands run on small generated inputs with models that need no training.
Each is run once unbroken; then again and again it is killed after a random
time, gone on with (``--resume`` where the command has it, else the same command
anew) and compared: every output with the unbroken run's bytes (GeoPackages by
their content), and nothing hidden may be left. Ends with 1 where anything
differs or is left over.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Command:
    """A command line, and how its inputs are made in the folder that it runs in."""

    line: str
    prepare: Callable[[Path], object]
    resumes: bool = True

    @property
    def words(self) -> tuple[str, ...]:
        """The command's words."""
        return tuple(self.line.split())

    def again(self) -> tuple[str, ...]:
        """The words with which a killed run is gone on with."""
        return (*self.words, "--resume" if self.resumes else "-f")


def _scene(folder: Path) -> None:
    from tests.urban.tiny import write_scene

    write_scene(folder / "scene.tif")


def _masks(folder: Path) -> None:
    from tests.urban.trend.scenes import write_masks

    write_masks(folder)


def _scan(folder: Path) -> None:
    from tests.ct.made import write_nifti
    from tests.ct.standin import abdomen, affine, write_case

    write_case(folder / "ct.nii.gz")
    write_nifti(folder / "mask.nii.gz", abdomen()[1], affine())


def _stack(folder: Path) -> None:
    import rasterio
    from affine import Affine

    shape = {"count": 1, "height": 200, "width": 160, "dtype": "uint8", "driver": "GTiff"}
    place = {"crs": "EPSG:32650", "transform": Affine(1, 0, 450000, 0, -1, 4430000)}
    for name, seed in (("rgb", 0), ("depth", 1)):
        values = np.random.default_rng(seed).integers(0, 255, (1, 200, 160), dtype=np.uint8)
        with rasterio.open(folder / f"{name}.tif", "w", **shape, **place) as made:
            made.write(values)


def _outlined(folder: Path) -> None:
    """Three years of a scene with a disc that is outlined in the first."""
    import geopandas
    from shapely.geometry import Point

    from tests.urban.tiny import PLACE, UTM, write_scene

    rows, cols = np.mgrid[:96, :128]
    for year, radius in ((2016, 14), (2018, 16), (2020, 18)):
        picture = np.random.default_rng(year).normal(110, 6, (96, 128, 3))
        for col in (40, 92):
            picture[(rows - 48) ** 2 + (cols - col) ** 2 < radius**2] = (200, 60, 40)
        write_scene(folder / f"{year}.tif", picture.astype(np.uint8))
    disc = Point(*(PLACE @ (40.5, 48.5))).buffer(14 * 0.9)
    geopandas.GeoDataFrame({"label": ["disc"]}, geometry=[disc], crs=UTM).to_crs("EPSG:4326").to_file(
        folder / "disc.geojson"
    )


def _organ(folder: Path) -> None:
    from domainsam_ct.generated import draw_abdomen, write_sample

    shape, spacing = (48, 36, 8), (7.0, 7.0, 12.0)
    hu, labels = draw_abdomen(shape, spacing, seed=1)
    one = np.zeros_like(labels)
    one[:, :, 5] = labels[:, :, 5] == 5
    write_sample(folder / "ct.nii.gz", hu, spacing)
    write_sample(folder / "slice.nii.gz", one, spacing)
    write_sample(folder / "liver.nii.gz", (labels == 5).astype(np.uint8), spacing)
    write_sample(folder / "other.nii.gz", draw_abdomen(shape, spacing, seed=2)[0], spacing)


FILM = 12
"""Pictures of the film."""


def _pictures(folder: Path) -> None:
    from domainsam_photo.generated import RED, draw_film, draw_ground, encode_picture, place_ball

    (folder / "photos").mkdir()
    (folder / "film").mkdir()
    for number in range(3):
        picture = draw_ground(number, (96, 128))
        mask = place_ball(picture, 40 + 8 * number, 50, RED, 20)
        (folder / "photos" / f"p{number}.png").write_bytes(encode_picture(picture))
        if number == 0:
            (folder / "mask.png").write_bytes(encode_picture(mask))
    (folder / "points.json").write_text('{"objects": [{"points": [[50, 40]], "label": "ball"}]}')
    pictures, masks = draw_film(3, FILM)
    for number, picture in enumerate(pictures):
        (folder / "film" / f"{number:03d}.png").write_bytes(encode_picture(picture))
    (folder / "film_mask.png").write_bytes(encode_picture(masks[0]))


FAKE = "--foundation fake --device cpu -q --reproducible"
COMMANDS = (
    Command(
        "urban map scene.tif -o out/s.gpkg --mask out/m.tif --probability out/p.tif --tile 64 --overlap 16 "
        "--device cpu -q --reproducible",
        _scene,
    ),
    Command("urban trend --masks 2016=m2016.tif 2018=m2018.tif 2020=m2020.tif -o out --layers -q", _masks),
    Command("urban change --masks 2016=m2016.tif 2020=m2020.tif -o out/c.gpkg -q", _masks),
    Command("ct segment ct.nii.gz -o out --statistics -q --reproducible", _scan),
    Command("ct statistics mask.nii.gz -o out.json -o out.csv -q", _scan, resumes=False),
    Command(
        "scene segment --geotiff rgb=rgb.tif depth=depth.tif -o out/map.tif --tile 64 "
        "--device cpu -q --reproducible",
        _stack,
    ),
    Command(f"urban find 2016.tif --like disc.geojson -o out/f.gpkg --mask out/m.tif {FAKE}", _outlined),
    Command(
        f"urban follow 2016=2016.tif 2018=2018.tif 2020=2020.tif --from disc.geojson -o out --layers {FAKE}",
        _outlined,
    ),
    Command(
        "urban segment-everything 2016.tif -o out/t.gpkg --mask out/m.tif --summary out/s.json --per-side 4 "
        f"--least-iou 0 --least-stability 0 {FAKE}",
        _outlined,
    ),
    Command(
        f"ct propagate ct.nii.gz --mask slice.nii.gz -o out/l.nii.gz --features foundation {FAKE}", _organ
    ),
    Command(
        f"ct find other.nii.gz --like ct.nii.gz:liver.nii.gz -o out/l.nii.gz --features foundation {FAKE}",
        _organ,
    ),
    Command(f"photo find photos --like photos/p0.png:mask.png --most 1 --always -o out {FAKE}", _pictures),
    Command(f"photo segment photos/p0.png --points points.json -o out {FAKE}", _pictures, resumes=False),
    Command(f"photo track film --mask film_mask.png -o out --video out/o.mp4 {FAKE}", _pictures),
)


def prepare_models() -> None:
    """Put small models in the place of those inside the packages, and import what commands need."""
    import torch

    from domainsam_ct import segment as ct
    from domainsam_photo import halfway
    from domainsam_scene import segment as scene
    from domainsam_scene import segment_stack
    from domainsam_urban import finders as urban
    from tests.ct.standin import DensityModel
    from tests.scene.tiny import tiny_scene_model
    from tests.urban.tiny import tiny_model

    # Processes are forked from this one: no threads of torch's may be there.
    torch.set_num_threads(1)
    settlements, organs = tiny_model(), DensityModel()
    sensors = tiny_scene_model(modalities=("rgb", "depth"))
    vars(urban)["load_model"] = lambda options: settlements
    vars(ct)["load_chosen_model"] = lambda options: organs
    vars(ct)["read_model_labels"] = lambda path: organs.labels
    # Else the state of so short a film would never be kept.
    vars(halfway)["SECONDS"] = 0.0
    for module in (scene, segment_stack):
        vars(module)["load_chosen_model"] = lambda options: sensors


def run(command: tuple[str, ...], folder: Path, seconds: float | None = None) -> int:
    """Run a command in a folder, in a process that is killed after some seconds; its wait status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    os.chdir(folder)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    sys.argv = ["domainsam", *command]
    if seconds is not None:
        # Nothing handles this signal: the process is gone, as by kill -9.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    from domainsam_cli import main

    code = 1
    try:
        code = main(list(command))
    finally:
        os._exit(code)


def contents(folder: Path) -> dict[str, Any]:
    """Every file below a folder: its bytes, or of a GeoPackage what its tables hold."""
    return {
        str(path.relative_to(folder)): _content(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }


def _content(path: Path) -> Any:
    if path.suffix != ".gpkg":
        return path.read_bytes()
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: list(database.execute(f'SELECT * FROM "{name}"')) for name in sorted(names)}


def kill_and_compare(command: Command, whole: dict[str, Any], seconds: float, folder: Path) -> list[str]:
    """What went wrong when a command was killed after some seconds and gone on with; nothing, usually."""
    command.prepare(folder)
    run(command.words, folder, seconds)
    status = run(command.again(), folder)
    faults = [] if status == 0 else [f"going on ended with {os.waitstatus_to_exitcode(status)}"]
    found = contents(folder)
    faults += [f"{name} is missing" for name in whole if name not in found]
    faults += [f"{name} differs" for name in whole if name in found and found[name] != whole[name]]
    faults += [f"{name} is left over" for name in found if name not in whole]
    hidden = [path.name for path in folder.rglob(".*") if path.is_dir()]
    return faults + [f"folder {name} is left over" for name in hidden]


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description="Kill commands at random.")
    parser.add_argument("--count", type=int, default=100, help="kills in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="only commands that begin so")
    given = parser.parse_args()
    commands = tuple(one for one in COMMANDS if one.line.startswith(given.only))
    faults = kill(given.count, given.seed, commands)
    sys.stdout.writelines(f"{fault}\n" for fault in faults)
    sys.stdout.write(f"{given.count} kills over {len(commands)} commands: {len(faults)} faults\n")
    return bool(faults)


def kill(count: int, seed: int, commands: Sequence[Command] = COMMANDS) -> list[str]:
    """Kill commands ``count`` times in turn; what went wrong, a line each."""
    prepare_models()
    rng, faults = random.Random(seed), []
    with tempfile.TemporaryDirectory(prefix="domainsam-kills-") as scratch:
        wholes = []
        for number, command in enumerate(commands):
            folder = Path(scratch) / f"whole{number}"
            folder.mkdir()
            command.prepare(folder)
            begin = time.monotonic()
            if run(command.words, folder):
                return [f"{command.line}: fails unbroken"]
            wholes.append((contents(folder), time.monotonic() - begin))
        for number in range(count):
            command = commands[number % len(commands)]
            whole, lasted = wholes[number % len(commands)]
            folder = Path(scratch) / f"kill{number}"
            folder.mkdir()
            seconds = rng.random() * lasted
            found = kill_and_compare(command, whole, seconds, folder)
            faults += [
                f"{' '.join(command.words[:2])} killed after {seconds:.2f} s: {fault}" for fault in found
            ]
    return faults


if __name__ == "__main__":
    sys.exit(main())
