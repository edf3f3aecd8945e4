"""Fetching resumes, checks, never overwrites, and needs no network to be tested: a server on the loopback."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from domainsam import weights
from domainsam.errors import OutputError, WeightsError
from domainsam.weights import (
    FOLDER_VARIABLE,
    KNOWN,
    fetch,
    find_weights,
    list_search_folders,
    read_record,
    verify,
)

CONTENT = np.random.default_rng(0).bytes(5_000_000)
NAME = "sam_vit_b"
FILE = KNOWN[NAME].file
SOURCES = (
    "https://dl.fbaipublicfiles.com/",
    "https://github.com/yformer/EfficientSAM/",
    "https://github.com/THU-MIG/RepViT/",
    "https://github.com/ChaoningZhang/MobileSAM/",
    "https://huggingface.co/mit-han-lab/efficientvit-sam/",
    "https://huggingface.co/spaces/chongzhou/EdgeSAM/",
)
UNKNOWN = {"efficientsam_ti", "efficientsam_s", "repvit_sam", "edge_sam"}
"""Files whose checksum nobody is known to have published."""
LARGEST, TOGETHER = 25_000_000, 80_000_000
"""Bytes of one weight file that is part of a package, and of all of them."""


class Server(ThreadingHTTPServer):
    """Serves ``content`` with ranges; may cut the first answers short."""

    content = CONTENT
    ranges = True
    cut_after: int | None = None
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str | None]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append((self.path, wanted))
        if server.status != 200:
            self.send_error(server.status)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.ranges else 0
        if start and start >= len(server.content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        end = len(server.content) if server.cut_after is None else start + server.cut_after
        self.wfile.write(server.content[start:end])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that holds the file of ViT-B, as far as the table of known files can tell."""
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        entry = replace(
            KNOWN[NAME], url=f"{running.address}/{FILE}", sha256=hashlib.sha256(CONTENT).hexdigest()
        )
        monkeypatch.setitem(weights.KNOWN, NAME, entry)
        yield running
        running.shutdown()
        thread.join()


def test_fetch_writes_the_file_and_reports_progress(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = fetch(NAME, tmp_path / "new", lambda have, total: seen.append((have, total)))
    assert path == tmp_path / "new" / FILE
    assert path.read_bytes() == CONTENT
    assert [have for have, _ in seen] == sorted(have for have, _ in seen)
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [file.name for file in path.parent.iterdir()] == [FILE]


def test_fetch_goes_on_where_it_was_cut_off(server: Server, tmp_path: Path) -> None:
    server.cut_after = 2_000_000
    with pytest.raises(WeightsError, match="again to go on from there"):
        fetch(NAME, tmp_path)
    part = tmp_path / (FILE + ".part")
    have = part.stat().st_size
    assert 0 < have <= 2_000_000
    assert CONTENT.startswith(part.read_bytes())
    server.cut_after = None
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1][1] == f"bytes={have}-"


def test_complete_part_is_accepted_without_more_bytes(server: Server, tmp_path: Path) -> None:
    (tmp_path / (FILE + ".part")).write_bytes(CONTENT)
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT


def test_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    (tmp_path / (FILE + ".part")).write_bytes(b"something else")
    server.ranges = False
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT


def test_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(WeightsError, match=r"sha256 is [0-9a-f]{64}, expected [0-9a-f]{64}"):
        fetch(NAME, tmp_path)
    assert not list(tmp_path.iterdir())


def test_good_file_is_left_alone_and_a_strange_one_is_not_overwritten(server: Server, tmp_path: Path) -> None:
    path = fetch(NAME, tmp_path)
    before = path.stat().st_mtime_ns
    assert fetch(NAME, tmp_path) == path
    assert path.stat().st_mtime_ns == before
    assert len(server.asked) == 1
    path.write_bytes(b"mine")
    with pytest.raises(WeightsError, match="not the published file"):
        fetch(NAME, tmp_path)
    assert path.read_bytes() == b"mine"


def test_refusal_and_unreachable_server_are_one_line(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.status = 403
    with pytest.raises(WeightsError, match="answered 403"):
        fetch(NAME, tmp_path)
    entry = replace(weights.KNOWN[NAME], url="http://127.0.0.1:9/closed")
    monkeypatch.setitem(weights.KNOWN, NAME, entry)
    with pytest.raises(WeightsError, match="broke off after 0 bytes"):
        fetch(NAME, tmp_path, timeout=2)


def test_proxy_variable_is_honoured(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    entry = replace(weights.KNOWN[NAME], url=f"http://weights.example/{FILE}")
    monkeypatch.setitem(weights.KNOWN, NAME, entry)
    assert fetch(NAME, tmp_path).read_bytes() == CONTENT
    assert server.asked == [(f"http://weights.example/{FILE}", None)]


def test_unwritable_folder_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        fetch(NAME, tmp_path / "file" / "folder")
    assert not server.asked


def test_verify_tells_good_from_bad(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    path = fetch(NAME)
    assert verify(NAME) == path == find_weights(NAME)
    with path.open("r+b") as file:
        file.write(b"x" * 10)
    with pytest.raises(WeightsError, match="weights fetch sam_vit_b"):
        verify(NAME)


def test_folders_are_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "mine"))
    mine, cache = list_search_folders()
    assert (mine, cache) == (tmp_path / "mine", tmp_path / "cache" / "domainsam" / "weights")
    for folder in (cache, mine):
        folder.mkdir(parents=True)
        (folder / FILE).write_bytes(b"")
        assert find_weights(NAME) == folder / FILE


@pytest.mark.parametrize(
    ("platform", "variable", "end"),
    [
        ("linux", "XDG_CACHE_HOME", ("domainsam", "weights")),
        ("win32", "LOCALAPPDATA", ("domainsam", "weights")),
        ("darwin", "HOME", ("Library", "Caches", "domainsam", "weights")),
    ],
)
def test_cache_folder_is_the_platforms_own(
    platform: str, variable: str, end: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv(variable, str(tmp_path))
    assert list_search_folders() == [tmp_path.joinpath(*end)]


def test_table_is_complete_and_consistent() -> None:
    for name, entry in KNOWN.items():
        assert entry.name == name
        assert entry.image_size == 1024
        if name == "lightening":
            assert not entry.url, "nothing is published"
            continue
        assert entry.url.startswith(SOURCES)
        assert entry.url.endswith("/" + entry.file)
        assert entry.sha256 is None or len(entry.sha256) == 64
    assert {name for name, entry in KNOWN.items() if entry.sha256 is None and entry.url} == UNKNOWN
    known = [entry.sha256 for entry in KNOWN.values() if entry.sha256 is not None]
    assert len(set(known)) == len(known)


def test_a_file_without_a_published_checksum_is_held_to_its_first_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    path = tmp_path / "repvit_sam.pt"
    path.write_bytes(b"one")
    assert verify("repvit_sam") == path
    assert read_record(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"other")
    with pytest.raises(WeightsError, match="is not the file that was first used as repvit_sam") as caught:
        verify("repvit_sam")
    assert "\n" not in str(caught.value)


def test_a_fetched_file_without_a_published_checksum_is_recorded(server: Server, tmp_path: Path) -> None:
    entry = replace(weights.KNOWN[NAME], sha256=None)
    weights.KNOWN[NAME] = entry  # The fixture's patch puts the table back.
    path = fetch(NAME, tmp_path)
    assert path.read_bytes() == CONTENT
    assert read_record(path) == hashlib.sha256(CONTENT).hexdigest()


def test_what_nobody_published_cannot_be_fetched(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no weights of lightening are published"):
        fetch("lightening", tmp_path)


def test_weights_in_the_packages_stay_small() -> None:
    packages = ("domainsam", "domainsam_urban", "domainsam_ct", "domainsam_scene")
    found = [path for name in packages for path in Path(str(files(name))).rglob("*.safetensors")]
    sizes = {path.name: path.stat().st_size for path in found}
    assert {"embedded.safetensors", "urban_villages.safetensors", "abdomen.safetensors"} <= sizes.keys()
    assert max(sizes.values()) <= LARGEST, sizes
    assert sum(sizes.values()) <= TOGETHER, sizes
