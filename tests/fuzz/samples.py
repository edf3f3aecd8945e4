"""Small valid files of every format that is read, with the reader of each."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.fuzz import readers

Maker = Callable[[Path], Path]


@dataclass(frozen=True)
class Sample:
    """A format: how a valid file of it is made, what reads it, and which of its files are damaged.

    ``make`` returns what the reader is given, a file or a folder; ``damaged`` picks by pattern the files
    below the sample's folder that mutations may change.
    """

    name: str
    make: Maker
    read: readers.Reader
    damaged: str = "*"


def _noise(shape: tuple[int, ...], dtype: str = "int16", seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    smooth = np.add.outer(np.arange(shape[0]) * 20, np.arange(int(np.prod(shape[1:])))).reshape(shape)
    low = -1000 if np.dtype(dtype).kind == "i" and np.dtype(dtype).itemsize > 1 else 1
    return (low + smooth % 200 + rng.integers(0, 40, shape)).astype(dtype)


def _nifti(name: str, labels: bool = False) -> Maker:
    def make(folder: Path) -> Path:
        from tests.ct.made import oblique, write_nifti

        values = (_noise((6, 7, 5), "uint8") % 4).astype(np.uint8) if labels else _noise((12, 9, 7))
        return write_nifti(folder / name, values, oblique())

    return make


def _itk(name: str, compressed: bool, labels: bool = False) -> Maker:
    def make(folder: Path) -> Path:
        import SimpleITK

        values = (_noise((5, 7, 6), "uint8") % 4).astype(np.uint8) if labels else _noise((7, 9, 12))
        image = SimpleITK.GetImageFromArray(values)
        image.SetSpacing((2.0, 2.0, 5.0))
        SimpleITK.WriteImage(image, str(folder / name), useCompression=compressed)
        return folder / name

    return make


def _series(folder: Path, shape: tuple[int, int, int] = (16, 14, 8)) -> Path:
    from tests.ct.made import oblique, write_dicom

    write_dicom(folder / "scan", _noise(shape), oblique())
    return folder / "scan"


def _series_compressed(folder: Path) -> Path:
    import pydicom
    from pydicom.uid import JPEG2000Lossless

    for path in sorted(_series(folder, (64, 64, 3)).iterdir()):
        dataset = pydicom.dcmread(path)
        dataset.compress(JPEG2000Lossless)
        dataset.save_as(path)
    return folder / "scan"


def _series_zipped(folder: Path) -> Path:
    scan = _series(folder)
    archive = shutil.make_archive(str(folder / "scan"), "zip", scan)
    shutil.rmtree(scan)
    return Path(archive)


def _segmentation(folder: Path) -> Path:
    from domainsam_ct.labels import find_organ
    from domainsam_ct.read.open import open_volume
    from domainsam_ct.write.dicom_seg import write_dicom_seg

    scan = _series(folder)
    with open_volume(scan) as volume:
        mask = np.zeros(volume.shape, np.uint8)
        mask[3:9, 4:10, 2:5] = 1
        write_dicom_seg(folder / "organs.dcm", mask, volume, {1: find_organ("liver")})
    shutil.rmtree(scan)
    return folder / "organs.dcm"


def _raster(name: str, **profile: Any) -> Maker:
    def make(folder: Path) -> Path:
        import rasterio
        from affine import Affine

        values = _noise((3, 96, 96), "uint8") + 20
        place = {"transform": Affine(1, 0, 450000, 0, -1, 4430000), "crs": "EPSG:32650"}
        shape = {"count": 3, "height": 96, "width": 96, "dtype": "uint8"}
        with rasterio.open(folder / name, "w", **{**place, **shape, **profile}) as made:
            made.write(values)
        return folder / name

    return make


def _virtual(folder: Path) -> Path:
    import rasterio
    from rasterio.shutil import copy

    inner = _raster("inner.tif", driver="GTiff")(folder)
    with rasterio.open(inner) as source:
        copy(source, folder / "scene.vrt", driver="VRT")
    return folder / "scene.vrt"


def _shapes(name: str, **options: Any) -> Maker:
    def make(folder: Path) -> Path:
        import geopandas
        import shapely

        boxes = [shapely.box(450000 + 20 * n, 4429900, 450010 + 20 * n, 4429940) for n in range(6)]
        columns = {"label": [f"village {n}" for n in range(6)], "number": range(6)}
        table = geopandas.GeoDataFrame(columns, geometry=boxes, crs="EPSG:32650")
        if name.endswith((".geojson", ".kml")):
            table = table.to_crs(4326)
        if name.endswith(".parquet"):
            table.to_parquet(folder / name)
        else:
            table.to_file(folder / name, **options)
        return folder / name

    return make


def _catalogue(folder: Path) -> Path:
    items = {}
    for year in (2016, 2020):
        assets = {"visual": {"href": f"city_{year}.tif", "type": "image/tiff", "roles": ["data"]}}
        item = {"type": "Feature", "stac_version": "1.0.0", "id": f"city-{year}", "assets": assets}
        items[year] = {**item, "properties": {"datetime": f"{year}-06-01T00:00:00Z"}, "geometry": None}
        (folder / f"{year}.json").write_text(json.dumps(items[year], indent=1))
    links = [{"rel": "item", "href": f"./{year}.json"} for year in items]
    text = json.dumps({"type": "Catalog", "id": "years", "stac_version": "1.0.0", "links": links}, indent=1)
    (folder / "catalog.json").write_text(text)
    return folder / "catalog.json"


def _table(name: str, rows: list[list[object]]) -> Maker:
    def make(folder: Path) -> Path:
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows(rows)
        return folder / name

    return make


def _text(name: str, text: str) -> Maker:
    def make(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder / name

    return make


def _arrays(name: str) -> Maker:
    def make(folder: Path) -> Path:
        if name.endswith("npz"):
            np.savez_compressed(folder / name, depth=_noise((40, 50), "uint16"))
        else:
            np.save(folder / name, _noise((40, 50), "uint16"))
        return folder / name

    return make


def _events(folder: Path) -> Path:
    import h5py

    rng = np.random.default_rng(0)
    with h5py.File(folder / "events.h5", "w") as file:
        for name, most, kind in (("x", 1920, "u2"), ("y", 1080, "u2"), ("t", 30_000, "u4"), ("p", 2, "u1")):
            file[f"events/{name}"] = rng.integers(0, most, 300).astype(kind)
    return folder / "events.h5"


def _cloud(folder: Path) -> Path:
    points = np.random.default_rng(0).uniform(2, 30, (200, 6))
    (folder / "lidar.bin").write_bytes(points.astype("<f8").tobytes())
    return folder / "lidar.bin"


def _muses(folder: Path) -> Path:
    scenes = {
        f"s{n}": {"split": "val", "path_to_frame_camera": f"frame_camera/s{n}.png", "weather": "rain"}
        for n in range(3)
    }
    (folder / "meta.json").write_text(json.dumps(scenes, indent=1))
    return folder


def _model(folder: Path) -> Path:
    import torch

    from domainsam.checkpoint import CheckpointHeader, save

    header = CheckpointHeader("fuzz", "embedded", "0" * 64, ("background", "liver"), {"model": {"width": 4}})
    save(folder / "model.safetensors", {"a": torch.ones(8, 8), "b": torch.zeros(8)}, header)
    return folder / "model.safetensors"


def _weights(folder: Path) -> Path:
    import torch

    torch.save({"model": {"a": torch.ones(8, 8), "b": torch.zeros(8)}}, folder / "weights.pth")
    return folder / "weights.pth"


def _photo(name: str) -> Maker:
    def make(folder: Path) -> Path:
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by a quarter
        values = _noise((24, 36), "uint8")
        picture = Image.fromarray(values % 3 if name.endswith("png") else values)
        picture.save(folder / name, exif=exif)
        return folder / name

    return make


def _film(folder: Path) -> Path:
    import av

    path = folder / "a.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(6):
            picture = av.VideoFrame.from_ndarray(_noise((48, 64, 3), "uint8", number), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def _journal(folder: Path) -> Path:
    from domainsam.infer.journal import Journal

    with Journal(folder / "journal", {"input": "a"}) as journal:
        for number in range(5):
            journal.append({"unit": ["coarse", str(number)], "value": {"area": number}})
    return folder / "journal"


SAMPLE_ROWS: list[list[object]] = [
    ["lon", "lat", "2016", "2020", "weight"],
    *(list[object]((116.0 + n / 1000, 40.0, n % 2, 1, 1)) for n in range(8)),
]
YEAR_ROWS: list[list[object]] = [["path", "datetime"], ["a.tif", "2016"], ["b.tif", "2020"]]
SAMPLES = (
    Sample("nii", _nifti("ct.nii"), readers.read_volume),
    Sample("nii.gz", _nifti("ct.nii.gz"), readers.read_volume),
    Sample("nii.gz mask", _nifti("mask.nii.gz", labels=True), readers.read_labels),
    Sample("nrrd", _itk("ct.nrrd", False), readers.read_volume),
    Sample("nrrd gzip", _itk("ct.nrrd", True), readers.read_volume),
    Sample("nrrd mask", _itk("mask.nrrd", True, labels=True), readers.read_labels),
    Sample("nhdr", _itk("ct.nhdr", False), readers.read_volume),
    Sample("mha", _itk("ct.mha", False), readers.read_volume),
    Sample("mha zlib", _itk("ct.mha", True), readers.read_volume),
    Sample("mhd", _itk("ct.mhd", True), readers.read_volume),
    Sample("dicom", _series, readers.read_volume),
    Sample("dicom j2k", _series_compressed, readers.read_volume),
    Sample("dicom zip", _series_zipped, readers.read_volume),
    Sample("dicom seg", _segmentation, readers.read_labels),
    Sample("geotiff", _raster("scene.tif", driver="GTiff"), readers.read_scene),
    Sample(
        "geotiff deflate",
        _raster("scene.tif", driver="GTiff", compress="deflate", tiled=True, blockxsize=32, blockysize=32),
        readers.read_scene,
    ),
    Sample("geotiff stack", _raster("scene.tif", driver="GTiff", compress="lzw"), readers.read_stack),
    Sample("png", _raster("scene.png", driver="PNG"), readers.read_scene, "*.png"),
    Sample("jpeg", _raster("scene.jpg", driver="JPEG"), readers.read_scene, "*.jpg"),
    Sample("jp2", _raster("scene.jp2", driver="JP2OpenJPEG"), readers.read_scene, "*.jp2"),
    Sample("vrt", _virtual, readers.read_scene, "*.vrt"),
    Sample("gpkg", _shapes("a.gpkg"), readers.read_shapes),
    Sample("geojson", _shapes("a.geojson", driver="GeoJSON"), readers.read_shapes),
    Sample("fgb", _shapes("a.fgb", driver="FlatGeobuf"), readers.read_shapes),
    Sample("shp", _shapes("a.shp"), readers.read_shapes),
    Sample("kml", _shapes("a.kml", driver="KML"), readers.read_shapes),
    Sample("parquet", _shapes("a.parquet"), readers.read_shapes),
    Sample("marks gpkg", _shapes("a.gpkg"), readers.read_marked),
    Sample(
        "marks csv",
        _table("a.csv", [["x", "y", "label"], [10, 20, "a"], [30.5, 40, "b"]]),
        readers.read_marked,
    ),
    Sample(
        "marks json",
        _text("a.json", json.dumps({"frame": "pixel", "objects": [{"label": "a", "points": [[1, 2]]}]})),
        readers.read_marked,
    ),
    Sample("stac", _catalogue, readers.read_catalogue),
    Sample("years csv", _table("a.csv", YEAR_ROWS), readers.read_listing),
    Sample("sample csv", _table("a.csv", SAMPLE_ROWS), readers.read_sample),
    Sample("picture png", _raster("a.png", driver="PNG"), readers.read_picture, "*.png"),
    Sample("photo jpeg", _photo("a.jpg"), readers.read_photo),
    Sample("photo png", _photo("a.png"), readers.read_photo),
    *((Sample("film", _film, readers.read_film),) if find_spec("av") else ()),
    Sample("npy", _arrays("a.npy"), readers.read_picture),
    Sample("npz", _arrays("a.npz"), readers.read_picture),
    Sample("events h5", _events, readers.read_events),
    Sample("lidar", _cloud, readers.read_cloud),
    Sample("muses json", _muses, readers.read_muses),
    Sample("model", _model, readers.read_model),
    Sample("pth", _weights, readers.read_torch),
    Sample("recipe toml", _text("a.toml", "[split]\nshare = 0.2\nfolds = 0\n"), readers.read_recipe),
    Sample("label map toml", _text("a.toml", "[labels]\nliver = 1\nspleen = 2\n"), readers.read_label_map),
    Sample("journal", _journal, readers.read_journal),
)
