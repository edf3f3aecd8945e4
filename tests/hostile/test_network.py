"""No file causes a connection: a listener that stands by hears nothing, unless the user asked for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import rasterio

from domainsam.errors import InputError
from domainsam.limits import limited
from domainsam.network import gdal_settings, is_remote, lock_process, require_local_content
from domainsam.protocols import Window
from domainsam_urban.read.layers import read_polygons
from domainsam_urban.read.listings import read_csv, read_stac
from domainsam_urban.read.scene import RasterSource
from tests.urban.mask_files import write_raster


class Listener:
    """Serves one raster, and remembers whoever asks for anything."""

    def __init__(self, content: bytes) -> None:
        heard = self.heard = list[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                heard.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()

            def do_GET(self) -> None:
                self.do_HEAD()
                self.wfile.write(content)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/a.tif"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    content = write_raster(tmp_path / "remote.tif", np.full((3, 64, 64), 90, np.uint8)).read_bytes()
    made = Listener(content)
    yield made
    made.server.shutdown()
    made.server.server_close()


def read(path: str) -> np.ndarray:
    with RasterSource(path) as source:
        return source.read(Window(0, 0, 8, 8)).image


def write_vrt(path: Path, source: str) -> Path:
    path.write_text(
        '<VRTDataset rasterXSize="64" rasterYSize="64"><SRS>EPSG:32650</SRS>'
        "<GeoTransform>450000,1,0,4430000,0,-1</GeoTransform>"
        + "".join(
            f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource><SourceFilename>{source}'
            f"</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
            for band in (1, 2, 3)
        )
        + "</VRTDataset>"
    )
    return path


def test_a_virtual_raster_reaches_nobody(listener: Listener, tmp_path: Path) -> None:
    vrt = write_vrt(tmp_path / "scene.vrt", f"/vsicurl/{listener.address}")
    with pytest.raises(InputError, match="not on this machine"):
        read(str(vrt))
    assert listener.heard == []


def test_a_virtual_raster_within_another_reaches_nobody(listener: Listener, tmp_path: Path) -> None:
    write_vrt(tmp_path / "inner.vrt", f"/vsicurl/{listener.address}")
    with pytest.raises(InputError, match="not on this machine"):
        read(str(write_vrt(tmp_path / "outer.vrt", str(tmp_path / "inner.vrt"))))
    assert listener.heard == []


def test_gdal_itself_reaches_nobody(listener: Listener, tmp_path: Path) -> None:
    vrt = write_vrt(tmp_path / "scene.vrt", f"/vsicurl/{listener.address}")
    for name in (str(vrt), f"/vsicurl/{listener.address}"):
        with pytest.raises(rasterio.errors.RasterioIOError), rasterio.Env(**gdal_settings("other.tif")):
            rasterio.open(name).read()
    assert listener.heard == []


def test_a_virtual_raster_whose_source_is_gone_is_no_black_ground(tmp_path: Path) -> None:
    write_vrt(tmp_path / "inner.vrt", str(tmp_path / "gone.tif"))
    with pytest.raises(InputError, match=r"gone\.tif, which is not there"):
        read(str(write_vrt(tmp_path / "outer.vrt", str(tmp_path / "inner.vrt"))))
    with pytest.raises(InputError, match="more than 8 deep"):
        read(str(write_vrt(tmp_path / "loop.vrt", str(tmp_path / "loop.vrt"))))


def test_the_network_is_used_when_it_is_allowed(listener: Listener, tmp_path: Path) -> None:
    vrt = write_vrt(tmp_path / "scene.vrt", f"/vsicurl/{listener.address}")
    with limited(network=True):
        assert np.allclose(read(str(vrt)), 90 / 255)
    assert listener.heard


def test_an_address_that_was_typed_is_opened(listener: Listener) -> None:
    assert np.allclose(read(f"/vsicurl/{listener.address}"), 90 / 255)
    assert set(listener.heard) == {"/a.tif"}


@pytest.mark.parametrize(
    "href", ["{address}", "/vsicurl/{address}", "s3://bucket/a.tif", "/vsis3/bucket/a.tif"]
)
def test_a_catalogue_reaches_nobody(listener: Listener, tmp_path: Path, href: str) -> None:
    item = {
        "type": "Feature",
        "id": "a",
        "properties": {"datetime": "2016-01-01T00:00:00Z"},
        "assets": {"visual": {"href": href.format(address=listener.address)}},
    }
    path = tmp_path / "item.json"
    path.write_text(json.dumps(item))
    with pytest.raises(InputError, match="not on this machine"):
        read_stac(path)
    (tmp_path / "years.csv").write_text(f"path,datetime\n{href.format(address=listener.address)},2016\n")
    with pytest.raises(InputError, match="line 2: names"):
        read_csv(tmp_path / "years.csv")
    assert listener.heard == []
    with limited(network=True):
        assert read_stac(path)[0].path == href.format(address=listener.address)


@pytest.mark.parametrize(
    "text",
    [
        "<GDAL_WMS><Service name='TMS'><ServerUrl>{address}</ServerUrl></Service></GDAL_WMS>",
        "<WCS_GDAL><ServiceURL>{address}</ServiceURL></WCS_GDAL>",
        "<GDAL_WMTS><GetCapabilitiesUrl>{address}</GetCapabilitiesUrl></GDAL_WMTS>",
        "<OGRWFSDataSource><URL>{address}</URL></OGRWFSDataSource>",
        "<OGRVRTDataSource><OGRVRTLayer name='a'><SrcDataSource>{address}</SrcDataSource></OGRVRTLayer>"
        "</OGRVRTDataSource>",
    ],
)
def test_a_description_of_a_service_reaches_nobody(listener: Listener, tmp_path: Path, text: str) -> None:
    path = tmp_path / "scene.tif"
    path.write_text(text.format(address=listener.address))
    for reader in (read, lambda path: read_polygons(Path(path))):
        with pytest.raises(InputError):
            reader(str(path))
    assert listener.heard == []


def test_names_of_this_machine_are_no_addresses(tmp_path: Path) -> None:
    for name in ("a.tif", "/data/a.tif", "C:/a.tif", "/vsizip/a.zip/b.tif", "file:///data/a.tif"):
        assert not is_remote(name)
    for name in (
        "http://a/b",
        "/vsicurl/x",
        "/vsigs/a",
        "WMS:http://a",
        "ftp://a/b",
        "/vsizip//vsicurl/a.zip/b",
    ):
        assert is_remote(name)
    (tmp_path / "a.xml").write_text("<a>http://example.com</a>")
    require_local_content(tmp_path / "a.xml")


def test_services_are_left_out_of_a_process() -> None:
    environment = {"GDAL_SKIP": "BMP"}
    lock_process(environment)
    assert environment["GDAL_SKIP"] == "BMP"
    environment = {}
    lock_process(environment)
    assert {"WMS", "WFS", "HTTP"} <= set(environment["GDAL_SKIP"].split(","))
