"""Whatever a reader is given, it answers with what it read or with one line; and it comes to an end."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pydicom
import pytest
from affine import Affine

from domainsam.config import read_config
from domainsam.documents import check_document, expect, parse_toml, read_json, shorten, take
from domainsam.errors import ConfigError, DomainSamError, InputError, MissingInputError
from domainsam.infer.journal import Journal, Steps
from domainsam.io.arrays import read_h5, read_npz
from domainsam.io.rasters import check_transform
from domainsam.reading import reading, reads
from domainsam_ct.labels import load_label_map
from domainsam_ct.read.open import open_volume
from domainsam_ct.train.recipe import TrainConfig
from domainsam_urban.read.layers import read_polygons
from domainsam_urban.read.listings import read_stac
from domainsam_urban.read.scene import RasterSource
from tests.ct.made import canonical_volume, oblique, write_dicom
from tests.urban.mask_files import write_raster

ITEM: dict[str, Any] = {
    "type": "Feature",
    "id": "a",
    "properties": {"datetime": "2016-01-01T00:00:00Z"},
    "assets": {"visual": {"href": "a.tif", "type": "image/tiff"}},
}
WRONG: tuple[Any, ...] = (7, -1.5, True, "x", [], [1], {}, {"a": 1})


def test_any_failure_becomes_one_line() -> None:
    kinds = (
        ValueError("a\nb"),
        KeyError("x"),
        RuntimeError(),
        RecursionError(),
        MemoryError(),
        OSError(5, "x"),
    )
    for error in kinds:
        with pytest.raises(InputError, match=r"^scan: ") as caught, reading("scan", "a CT"):
            raise error
        assert "\n" not in str(caught.value)
    with pytest.raises(MissingInputError, match="no such file"), reading("scan", "a CT"):
        raise FileNotFoundError
    with pytest.raises(ConfigError), reading("scan", "a CT", ConfigError):
        raise TypeError


def test_our_own_errors_and_those_of_the_system_pass() -> None:
    with pytest.raises(InputError, match=r"^mine$"), reading("scan", "a CT"):
        raise InputError("mine")
    with pytest.raises(OSError, match="No space"), reading("scan", "a CT"):
        raise OSError(28, "No space")
    with pytest.raises(ModuleNotFoundError), reading("scan", "a CT"):
        raise ModuleNotFoundError("h5py")


def test_readers_keep_their_names_and_parameters() -> None:
    @reads("a number")
    def read(path: str, times: int = 1) -> int:
        """Read a number."""
        return int(path) * times

    assert read.__name__ == "read"
    assert read("3", times=2) == 6
    with pytest.raises(InputError, match="x: cannot be read as a number"):
        read("x")


def answer(read: Callable[[Path], Any], path: Path) -> str:
    """The line with which a reader refuses a file; empty if it reads it."""
    try:
        read(path)
    except DomainSamError as error:
        return str(error)
    return ""


def wrong_items() -> list[dict[str, Any]]:
    """A STAC item with each of its parts of each wrong type."""
    items = []
    for wrong in WRONG:
        items += [{**ITEM, key: wrong} for key in ("properties", "assets", "type")]
        items.append({**ITEM, "properties": {"datetime": wrong}})
        items.append({**ITEM, "properties": {"start_datetime": wrong, "end_datetime": wrong}})
        items.append({**ITEM, "assets": {"visual": wrong}})
        items.append({**ITEM, "assets": {"visual": {"href": wrong}}})
        items.append({"type": "FeatureCollection", "features": wrong})
        items.append({"type": "FeatureCollection", "features": [wrong]})
        items.append({"type": "Catalog", "links": wrong})
        items.append({"type": "Catalog", "links": [wrong]})
        items.append({"type": "Catalog", "links": [{"rel": wrong, "href": wrong}]})
        items.append({"type": "Catalog", "links": [{"rel": "item", "href": wrong}]})
    return items


def test_stac_of_wrong_types_is_refused_in_one_line(tmp_path: Path) -> None:
    refused = 0
    for number, item in enumerate(wrong_items()):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(item))
        told = answer(read_stac, path)
        assert "\n" not in told
        refused += bool(told)
    assert refused > 90


def test_catalogues_that_fan_out_are_read_once(tmp_path: Path) -> None:
    for depth in range(7):
        links = [{"rel": "child", "href": f"{depth + 1}.json"}] * 20
        (tmp_path / f"{depth}.json").write_text(json.dumps({"type": "Catalog", "links": links}))
    (tmp_path / "7.json").write_text(json.dumps(ITEM))
    assert [listed.path for listed in read_stac(tmp_path / "0.json")] == [str(tmp_path / "a.tif")]


def test_an_item_for_each_of_too_many_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("domainsam_urban.read.listings.MOST_ITEMS", 5)
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [ITEM] * 6}))
    with pytest.raises(InputError, match="more than 5 items"):
        read_stac(path)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"a": ' + "[" * 200 + "]" * 200 + "}",
        '{"a": ' + "9" * 10_000 + "}",
        "\x00",
    ],
)
def test_json_without_end(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError) as caught:
        read_json(tmp_path / "a.json", "a file")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 50_000,
        "a = " + "{a=" * 50_000,
        "[" + ".".join("a" * 20_000) + "]",
        ".".join(['"a"'] * 20_000) + " = 1",
        "a = " + "9" * 10_000,
        "a = 1979-13-40",
    ],
)
def test_toml_without_end(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(ConfigError):
        read_config(TrainConfig, tmp_path / "a.toml")
    with pytest.raises(ConfigError):
        load_label_map(tmp_path / "a.toml")


def test_ordinary_toml_is_read() -> None:
    text = '[a.b.c]\nwords = "a.b.c.d and so on ..."\nlist = [\n  "x.y",\n]\n'
    inner = {"words": "a.b.c.d and so on ...", "list": ["x.y"]}
    assert parse_toml(text, "a", "a file") == {"a": {"b": {"c": inner}}}


def test_values_are_of_the_types_that_are_expected() -> None:
    assert take({"a": 1}, "a", float, "here") == 1.0
    assert take({}, "a", list, "here", []) == []
    for value, kind in ((True, int), (float("nan"), float), ("1", int), (10**400, float), (None, str)):
        with pytest.raises(InputError, match="here: 'a' is"):
            take({"a": value}, "a", kind, "here")
    with pytest.raises(InputError):
        expect([], dict, "here")
    assert shorten(10**6000) == "a number of thousands of digits"
    with pytest.raises(InputError, match="more than 2000000 values"):
        check_document({"a": [0] * 2_000_001}, "here", "document")


def test_lines_of_a_journal_of_another_type(tmp_path: Path) -> None:
    from zlib import crc32

    path = tmp_path / "journal"
    with Journal(path, {"input": "a"}) as journal:
        journal.append({"unit": ["a"]})
    for text in ("[]", "7", '"x"', '{"unit": 7}', '{"unit": [[1]]}', "[" * 5000):
        kept = path.read_bytes()
        with path.open("ab") as file:
            file.write(f"{crc32(text.encode()):08x} {text}\n".encode())
        with Journal(path, {"input": "a"}, resume=True) as journal:
            assert Steps(journal).is_done(("a",))
            assert len(journal.records) == 1
        assert path.read_bytes() == kept


def test_numpy_and_hdf5_files_of_other_kinds(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("image.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': 'O'   }")
    with pytest.raises(InputError):
        read_npz(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", image=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="expected numbers"):
        read_npz(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", image=np.zeros(3))
    with pytest.raises(InputError, match="holds no array 'label'"):
        read_npz(tmp_path / "c.npz", ("image", "label"))
    content = bytearray((tmp_path / "c.npz").read_bytes())
    content[content.index(b"NUMPY") + 100] ^= 1
    (tmp_path / "c.npz").write_bytes(bytes(content))
    with pytest.raises(InputError):
        read_npz(tmp_path / "c.npz")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("image")
        file["text"] = "words"
    for name in ("image", "text", "absent"):
        with pytest.raises(InputError, match=f"no data set of numbers '{name}'"):
            read_h5(tmp_path / "a.h5", (name,))
    (tmp_path / "b.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:700])
    with pytest.raises(InputError):
        read_h5(tmp_path / "b.h5", ("image",))


def test_kml_in_bad_utf8_and_a_cut_flatgeobuf(tmp_path: Path) -> None:
    import geopandas
    import shapely

    place = "<Placemark><name>\xff\xfe</name><Point><coordinates>1,2</coordinates></Point></Placemark>"
    (tmp_path / "a.kml").write_bytes(f"<kml><Document>{place}</Document></kml>".encode("latin-1"))
    with pytest.raises(InputError):
        read_polygons(tmp_path / "a.kml")
    shapes = [shapely.box(n, 0, n + 0.5, 1) for n in range(50)]
    table = geopandas.GeoDataFrame({"n": range(50)}, geometry=shapes, crs="EPSG:4326")
    table.to_file(tmp_path / "a.fgb", driver="FlatGeobuf")
    content = (tmp_path / "a.fgb").read_bytes()
    for left in (0.3, 0.6, 0.9):
        (tmp_path / "b.fgb").write_bytes(content[: int(left * len(content))])
        with pytest.raises(InputError):
            read_polygons(tmp_path / "b.fgb")


SINGULAR = (Affine(1, 1, 0, 1, 1, 0), Affine(0, 0, 5, 0, 0, 5), Affine(1, 0, float("nan"), 0, -1, 0))


@pytest.mark.parametrize("transform", SINGULAR)
def test_a_geotransform_that_is_none(tmp_path: Path, transform: Affine) -> None:
    with pytest.raises(InputError, match="on one line or nowhere"):
        check_transform("a", transform)
    if np.isfinite(tuple(transform)).all():
        path = write_raster(tmp_path / "a.tif", np.ones((3, 8, 8), np.uint8), transform=transform)
        with pytest.raises(InputError, match="on one line or nowhere"):
            RasterSource(path)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImagePositionPatient", ["1e300", "0", "0"]),
        ("ImagePositionPatient", ["nan", "0", "0"]),
        ("PixelSpacing", ["1e200", "1"]),
        ("RescaleSlope", ["a"]),
    ],
)
def test_dicom_values_beyond_reason(tmp_path: Path, keyword: str, value: list[str]) -> None:
    def change(k: int, dataset: pydicom.Dataset) -> None:
        if k == 2:
            mode = pydicom.config.IGNORE
            dataset[keyword] = pydicom.dataelem.DataElement(keyword, "SH", value, validation_mode=mode)

    write_dicom(tmp_path / "scan", canonical_volume(), oblique(), change)
    for path in (tmp_path / "scan").iterdir():
        path.write_bytes(path.read_bytes().replace(b"SH", b"DS"))
    told = answer(open_volume, tmp_path / "scan")
    assert told
    assert "\n" not in told


def test_a_dicom_value_of_a_wrong_length(tmp_path: Path) -> None:
    paths = write_dicom(tmp_path / "scan", canonical_volume(), oblique())
    rows = bytes.fromhex("28001000") + b"US"
    content = paths[2].read_bytes()
    at = content.index(rows) + len(rows)
    paths[2].write_bytes(content[:at] + b"\3\0\1" + content[at + 2 :])
    with pytest.raises(InputError, match=paths[2].name):
        open_volume(tmp_path / "scan")


def test_a_fan_of_formats_is_read_or_refused(tmp_path: Path) -> None:
    """One round of the harness over every format, in this process."""
    import random

    from tests.fuzz.mutations import mutate
    from tests.fuzz.samples import SAMPLES

    seen = set()
    for number, sample in enumerate(SAMPLES):
        folder = tmp_path / str(number)
        folder.mkdir()
        given = sample.make(folder)
        right = sample.read(given)
        assert sample.read(given) == right
        victim = next(path for path in sorted(folder.rglob(sample.damaged)) if path.is_file())
        victim.write_bytes(mutate(victim.read_bytes(), random.Random(number)))
        assert "\n" not in answer(sample.read, given)
        seen.add(sample.name)
    assert len(seen) == len(SAMPLES)
