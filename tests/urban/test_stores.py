"""Scenes at ``gs://``, ``az://`` and ``http://``: GDAL asks a server of this machine for ranges of bytes.

The server is a plain one: what is tested is that the address reaches GDAL under its name, with the endpoint
that the environment gives, and not how those stores check who asks.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from domainsam.protocols import Window
from domainsam_urban.finders import open_scene
from domainsam_urban.job import plan_outputs
from domainsam_urban.read.catalogue import list_scenes
from domainsam_urban.settings import OutputOptions, ReadOptions
from tests.urban.tiny import write_scene


class Ranges(BaseHTTPRequestHandler):
    """Answers any path that ends in ``a.tif`` with the scene, or the range that is asked for."""

    content = b""
    asked: list[str]

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, body: bool) -> None:
        if not self.path.split("?")[0].endswith("a.tif"):
            self.send_error(404)
            return
        first, last = 0, len(self.content) - 1
        if given := self.headers.get("Range"):
            self.asked.append(self.path.split("?")[0])
            first, last = (int(word) for word in given.removeprefix("bytes=").split("-"))
            last = min(last, len(self.content) - 1)
        part = self.content[first : last + 1]
        self.send_response(206 if given else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(self.content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if body:
            self.wfile.write(part)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str]]]:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    asked: list[str] = []
    content = write_scene(tmp_path / "local.tif").read_bytes()
    handler = type("Handler", (Ranges,), {"content": content, "asked": asked})
    made = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}", asked
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.mark.parametrize("scheme", ["gs", "az", "http"])
def test_scenes_are_read_by_ranges(
    tmp_path: Path, server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    address, asked = server
    monkeypatch.setenv("CPL_GS_ENDPOINT", f"{address}/")
    monkeypatch.setenv("GS_NO_SIGN_REQUEST", "YES")
    parts = (
        "DefaultEndpointsProtocol=http",
        "AccountName=who",
        "AccountKey=a2V5",
        f"BlobEndpoint={address}/who",
    )
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", ";".join(parts))
    given = f"{address}/bucket/in/a.tif" if scheme == "http" else f"{scheme}://bucket/in/a.tif"
    entries = list_scenes([given], ReadOptions())
    (plan,) = plan_outputs(entries, OutputOptions((tmp_path / "out",)))
    assert plan.vectors == (tmp_path / "out" / "a.gpkg",)
    window = Window(0, 0, 128, 160)
    (local,) = plan_outputs([str(tmp_path / "local.tif")], OutputOptions((tmp_path / "out",)))
    with open_scene(plan, ReadOptions(), None) as there, open_scene(local, ReadOptions(), None) as here:
        assert np.array_equal(there.read(window).image, here.read(window).image)
    assert asked
    assert all(path.endswith("/bucket/in/a.tif") for path in asked)
