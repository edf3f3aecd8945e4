"""Scenes from and into an object store: a real server, moto's, on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from domainsam.errors import ConfigError, OutputError
from domainsam.remote import endpoint_settings, find_address, to_gdal
from domainsam_urban.map import map_scenes
from domainsam_urban.model.settlement import SettlementModel
from domainsam_urban.settings import MapOptions, OutputOptions, RunOptions
from tests.ct.standin import untouched
from tests.urban.tiny import write_scene

RUN = RunOptions(tile=64, overlap=16, device="cpu")
SECRET = "very-secret-indeed"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    made = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    made.start()
    host, port = made.get_host_and_port()
    yield f"http://{host}:{port}"
    made.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    import boto3

    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "who",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    made = boto3.resource("s3").Bucket("bucket")
    made.create()
    yield made
    made.objects.all().delete()
    made.delete()


def options(out: str, **more: Any) -> MapOptions:
    outputs = OutputOptions((Path(out),), mask=Path(out), summary=Path(out))
    return MapOptions(outputs, run=RUN, quiet=True, **more)


def keys(bucket: Any) -> set[str]:
    return {item.key for item in bucket.objects.all()}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of boto3's and moto's own
def test_scenes_come_from_a_store_and_go_to_it(tmp_path: Path, bucket: Any, model: SettlementModel) -> None:
    local = write_scene(tmp_path / "a.tif")
    bucket.upload_file(str(local), "in/a.tif")
    map_scenes([str(local)], options(str(tmp_path / "out")), model)
    batch = map_scenes(["s3://bucket/in/a.tif"], options("s3://bucket/out"), model)
    assert keys(bucket) == {
        "in/a.tif",
        *(f"out/a{end}" for end in (".gpkg", "_mask.tif", "_summary.json", ".stac.json")),
        "out/.domainsam/a.gpkg.json",
    }
    here = untouched(tmp_path / "out")
    assert bucket.Object("out/a_mask.tif").get()["Body"].read() == here["a_mask.tif"]
    assert bucket.Object("out/a.gpkg").get()["Body"].read() == here["a.gpkg"]
    summary = json.loads(bucket.Object("out/a_summary.json").get()["Body"].read())
    assert summary["paths"]["mask"] == "s3://bucket/out/a_mask.tif"
    assert find_address(batch.results[0].paths["mask"]) == "s3://bucket/out/a_mask.tif"
    with pytest.raises(OutputError, match=r"s3://bucket/out/a\.gpkg' exists"):
        map_scenes(["s3://bucket/in/a.tif"], options("s3://bucket/out"), model)
    again = map_scenes(["s3://bucket/in/a.tif"], options("s3://bucket/out", resume=True), model)
    assert (again.results, len(again.complete)) == ((), 1)
    # Killed before the last object was put: what is there without it does not count.
    bucket.Object("out/.domainsam/a.gpkg.json").delete()
    bucket.Object("out/a_mask.tif").delete()
    again = map_scenes([str(local)], options("s3://bucket/out", resume=True), model)
    assert len(again.results) == 1
    assert bucket.Object("out/a_mask.tif").get()["Body"].read() == here["a_mask.tif"]
    item = json.loads(bucket.Object("out/a.stac.json").get()["Body"].read())
    assert {link["rel"]: link["href"] for link in item["links"]}["derived_from"] == local.as_uri()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_bucket_that_is_not_there_is_told_before_any_work(
    tmp_path: Path, bucket: Any, model: SettlementModel
) -> None:
    local = write_scene(tmp_path / "a.tif")
    with pytest.raises(OutputError, match=r"'s3://nowhere/out/a\.gpkg' cannot be used") as caught:
        map_scenes([str(local)], options("s3://nowhere/out", resume=False), model)
    assert SECRET not in str(caught.value)


def test_all_outputs_of_a_scene_go_to_one_place(tmp_path: Path, model: SettlementModel) -> None:
    mixed = options("s3://bucket/out")
    mixed = replace(mixed, outputs=replace(mixed.outputs, mask=tmp_path / "m.tif"))
    with pytest.raises(ConfigError, match="some outputs go to an object store"):
        map_scenes([str(tmp_path / "a.tif")], mixed, model)


def test_addresses_and_gdals_names() -> None:
    assert find_address(Path("s3://bucket/out/a.gpkg")) == "s3://bucket/out/a.gpkg"
    assert find_address("out/a.gpkg") is None
    assert find_address(Path("C:/out/a.gpkg")) is None
    assert to_gdal("s3://bucket/a.tif") == "/vsis3/bucket/a.tif"
    assert to_gdal("az://box/a.tif") == "/vsiaz/box/a.tif"
    assert to_gdal("/data/s3/a.tif") == "/data/s3/a.tif"
    secure = {"AWS_ENDPOINT_URL": "https://store.example:9000"}
    assert endpoint_settings(secure) == {
        "AWS_S3_ENDPOINT": "store.example:9000",
        "AWS_HTTPS": "YES",
        "AWS_VIRTUAL_HOSTING": "FALSE",
    }
    assert endpoint_settings({**secure, "AWS_S3_ENDPOINT": "mine"}) == {}
    assert endpoint_settings({}) == {}
