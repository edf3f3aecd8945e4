"""A generated photograph and a generated film to try the pack on: nothing has to be fetched."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

SIZE = (240, 320)
RADIUS = 30
RED, BLUE = (196, 52, 40), (44, 84, 188)
PLACES = ((80, 90), (160, 230))


def draw_ground(seed: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """A meadow of two scales of noise, ``(H, W, 3)`` uint8."""
    rng = np.random.default_rng(seed)
    coarse = ndimage.gaussian_filter(rng.normal(size=size), 12) * 160
    fine = rng.normal(size=size) * 7
    tone = np.array([104, 132, 84], float)
    return np.clip(tone + (coarse + fine)[..., None], 0, 255).astype(np.uint8)


def place_ball(
    picture: NDArray[np.uint8], row: float, col: float, colour: tuple[int, int, int], radius: int = RADIUS
) -> NDArray[np.bool_]:
    """Draw a shaded ball into a picture; returns where it is, ``(H, W)`` bool."""
    rows, cols = np.mgrid[: picture.shape[0], : picture.shape[1]]
    away = np.hypot(rows - row, cols - col)
    mask = np.asarray(away <= radius)
    light = 1.15 - 0.5 * np.hypot(rows - row + radius / 3, cols - col + radius / 3) / radius
    shaded = np.clip(np.array(colour) * light[..., None], 0, 255)
    picture[mask] = shaded[mask].astype(np.uint8)
    return mask


def draw_photograph(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A meadow with a red ball and a blue one; returns it and the red ball's mask."""
    picture = draw_ground(seed)
    rng = np.random.default_rng(seed + 1)
    shifts = rng.integers(-20, 20, (2, 2))
    mask = place_ball(picture, PLACES[0][0] + shifts[0, 0], PLACES[0][1] + shifts[0, 1], RED)
    place_ball(picture, PLACES[1][0] + shifts[1, 0], PLACES[1][1] + shifts[1, 1], BLUE)
    return picture, mask


def draw_film(seed: int, frames: int) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.bool_]]]:
    """A red ball that rolls over a meadow; returns pictures and its masks."""
    ground = draw_ground(seed)
    pictures, masks = [], []
    for frame in range(frames):
        picture = ground.copy()
        masks.append(place_ball(picture, 110 + 3 * frame, 60 + 12 * frame, RED))
        pictures.append(picture)
    return pictures, masks


def encode_picture(picture: NDArray[np.uint8] | NDArray[np.bool_]) -> bytes:
    """A picture or a mask as PNG."""
    values = picture.astype(np.uint8) * 255 if picture.dtype == np.bool_ else picture
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


def write_sample(folder: Path, seed: int, frames: int, overwrite: bool) -> None:
    """Write an example with its mask, two photographs, and a film as a folder of pictures.

    Raises
    ------
    OutputError
        If a file exists and may not be replaced, or cannot be written.
    """
    from domainsam.staging import Staging

    example, mask = draw_photograph(seed)
    files = {folder / "example.png": example, folder / "example_mask.png": mask}
    for number in (1, 2):
        files[folder / "photos" / f"photo{number}.png"] = draw_photograph(seed + 10 * number)[0]
    pictures, masks = draw_film(seed, frames)
    files |= {folder / "film" / f"{number:05d}.png": picture for number, picture in enumerate(pictures)}
    files[folder / "film_mask.png"] = masks[0]
    with Staging(files, overwrite=overwrite) as staging:
        for path, picture in files.items():
            staging.write_bytes(path, encode_picture(picture))
