"""Miniature trees in the layouts of published data sets, and the files that they are made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from domainsam.io.rasters import silence_rasterio

SIDE = 40


def write_png(path: Path, values: NDArray[Any]) -> Path:
    """``(H, W)`` or ``(C, H, W)`` of bytes or 16-bit numbers."""
    bands = values[None] if values.ndim == 2 else values
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = {"count": bands.shape[0], "height": bands.shape[1], "width": bands.shape[2]}
    with silence_rasterio(), rasterio.open(path, "w", driver="PNG", dtype=bands.dtype, **shape) as made:
        made.write(bands)
    return path


def noise(*shape: int, seed: int = 0, dtype: str = "uint8", high: int = 256) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, high, shape).astype(dtype)


def deliver_tree(root: Path, frames: tuple[str, ...] = ("000001", "000002")) -> Path:
    """Two places of ``val``, one with a failing sensor; labels count from 1."""
    places = (("fog", "MAP_1_point3"), ("night", "MAP_10_point9_motionblur"))
    for weather, place in places:
        for index, frame in enumerate(frames):
            seed = index + 10 * len(weather)
            below = Path(weather, "val", place)
            pictures = {
                ("img", "rgb"): noise(4, SIDE, SIDE, seed=seed),
                ("hha", "depth"): noise(3, SIDE, SIDE, seed=seed + 1),
                ("depth", "depth"): noise(1, SIDE, SIDE, seed=seed + 2, dtype="uint16", high=60000),
                ("event", "event"): noise(4, SIDE // 4, SIDE // 3, seed=seed + 3),
                ("lidar", "lidar"): noise(1, SIDE, SIDE, seed=seed + 4),
            }
            for (folder, word), values in pictures.items():
                write_png(root / folder / below / f"{frame}_{word}_front.png", values)
            truth = np.full((4, SIDE, SIDE), 255, np.uint8)
            truth[0] = np.arange(SIDE)[:, None] % 26
            truth[0, 0, 0] = 255
            write_png(root / "semantic" / below / f"{frame}_semantic_front.png", truth)
    return root


def mcubes_tree(root: Path) -> Path:
    """Three samples, each in a list of its own; 60 columns are left after the cut."""
    width = 192 + 60
    for index, split in enumerate(("train", "val", "test")):
        name = f"outscene{index:04d}_{split}"
        write_png(root / "polL_color" / f"{name}.png", noise(3, SIDE, width, dtype="uint16", high=65536))
        angle = np.linspace(0, np.pi, SIDE * width).reshape(SIDE, width)
        arrays = {
            "polL_aolp_sin": np.sin(2 * angle),
            "polL_aolp_cos": np.cos(2 * angle),
            "polL_dolp": np.abs(np.sin(angle)),
        }
        for folder, values in arrays.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            np.save(root / folder / f"{name}.npy", values.astype(np.float32))
        write_png(root / "NIR_warped" / f"{name}.png", noise(SIDE, width, seed=index))
        mask = np.full((SIDE, width), 255, np.uint8)
        mask[:, : 192 + 10] = 0
        write_png(root / "NIR_warped_mask" / f"{name}.png", mask)
        truth = np.tile(np.arange(width, dtype=np.uint8) % 20, (SIDE, 1))
        truth[0] = 255
        write_png(root / "GT" / f"{name}.png", truth)
        lists = root / "list_folder"
        lists.mkdir(exist_ok=True)
        (lists / f"{split}.txt").write_text(f"{name} unused second word\n\n")
    return root


def muses_tree(root: Path, size: tuple[int, int] = (54, 96)) -> Path:
    """One scene of ``val`` and one of ``test`` without labels; raw sensors, nothing projected."""
    meta = {}
    for split in ("val", "test"):
        name = f"REC0001_frame_{len(split):06d}"
        below = f"{split}/fog/night"
        meta[name] = {
            "split": split,
            "weather": "fog",
            "time_of_day": "night",
            "path_to_frame_camera": f"frame_camera/{below}/{name}_frame_camera.png",
            "path_to_lidar": f"lidar/{below}/{name}_lidar.bin",
            "path_to_radar": f"radar/{below}/{name}_radar.png",
            "path_to_event_camera": f"event_camera/{below}/{name}_event_camera.h5",
        }
        write_png(root / meta[name]["path_to_frame_camera"], noise(3, *size))
        cloud = root / meta[name]["path_to_lidar"]
        cloud.parent.mkdir(parents=True)
        cloud.write_bytes(lidar_points().tobytes())
        write_png(root / meta[name]["path_to_radar"], radar_picture())
        if split == "val":
            truth = np.arange(size[1], dtype=np.uint8)[None].repeat(size[0], 0) % 19
            truth[0] = 255
            write_png(root / "gt_semantic" / below / f"{name}_gt_labelTrainIds.png", truth)
    (root / "meta.json").write_text(json.dumps(meta))
    (root / "calib.json").write_text(json.dumps(muses_calibration()))
    return root


def muses_calibration() -> dict[str, Any]:
    """A camera that looks along the x axis of lidar and radar, and an event camera of half its focus."""
    forward = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)
    camera = [[1000.0, 0, 960], [0, 1000.0, 540], [0, 0, 1]]
    return {
        "intrinsics": {"rgb": {"K": camera}, "event": {"K": [[500.0, 0, 320], [0, 500.0, 240], [0, 0, 1]]}},
        "extrinsics": {
            "lidar2rgb": forward.tolist(),
            "radar2rgb": forward.tolist(),
            "event2rgb": np.eye(4).tolist(),
        },
    }


def lidar_points() -> NDArray[np.float64]:
    """Straight ahead at 10 m and, hidden behind it, at 50 m; 10 m to the rear; 0.5 m ahead."""
    places = [(50.0, 0, 0, 30), (10.0, 0, 0, 200), (-10.0, 0, 0, 90), (0.5, 0, 0, 60), (20.0, -4.0, 2.0, 120)]
    return np.array([(*place, 0, 0) for place in places], np.float64)


def radar_picture() -> NDArray[np.uint8]:
    """An echo straight ahead at about 20 m; the column next to it is marked as not valid."""
    picture = np.zeros((11 + 600, 400), np.uint8)
    picture[10] = 255
    ahead = 199
    bin_20m = round(20 / 0.0438) - 1
    picture[10, ahead + 1] = 0
    picture[11 + bin_20m, ahead] = 222
    picture[11 + bin_20m, ahead + 1] = 111
    return picture
