"""The specialist alone: its network, its model file, how a model is chosen, and what is told of its data."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from domainsam.checkpoint import read_header
from domainsam.errors import ConfigError
from domainsam_ct.model.network import NetworkConfig, OrganNetwork, SpecialistNetwork, build_network
from domainsam_ct.model.organs import (
    ModelConfig,
    OrganModel,
    identify_model,
    load_model,
    save_model,
)
from domainsam_ct.model.predict import SliceGrid, make_slice_grid
from domainsam_ct.model.shipped import find_method, find_model
from domainsam_ct.run import segment_options
from domainsam_ct.segment import load_chosen_model
from tests.ct.organs import LABELS, body, tiny_foundation

CONFIG = ModelConfig(pixel_mm=4.0, network=NetworkConfig(1, method="specialist", trunk="resnet18", width=16))
RESEARCH = {"use": "research", "data": "a set that may not be passed on"}


def make_network() -> SpecialistNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = SpecialistNetwork(CONFIG.network, len(LABELS)).eval()
    # Logits apart enough for several classes to win somewhere.
    with torch.no_grad():
        network.specialist.out.weight.mul_(300)
        network.specialist.out.bias.zero_()
    return network


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(path, make_network(), LABELS, CONFIG, {}, {"dice_liver": 0.9}, provenance=RESEARCH)
    return path


@torch.inference_mode()
def test_logits_come_at_half_the_inputs_size() -> None:
    network = make_network()
    three = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    assert network(three).shape == (2, len(LABELS), 32, 48)
    alone = three[:, :1]
    torch.testing.assert_close(network(alone), network(alone.expand(-1, 3, -1, -1)))


@torch.inference_mode()
def test_one_pixel_of_the_answer_is_two_of_the_networks() -> None:
    grid = make_slice_grid((64, 64), (2.0, 2.0), 2.0, 32)
    assert grid == SliceGrid((64, 64), (64, 64), (1.0, 1.0))
    # A ramp over answer pixels, whose centres lie at 1, 3, 5 ... pixels from the slice's edge.
    ramp = torch.arange(32, dtype=torch.float32).expand(32, 32) * 2 + 1
    at_pixels = grid.resample_outward(ramp[None])[0]
    expected = (torch.arange(64, dtype=torch.float32) + 0.5).clamp(1, 63).expand(64, 64)
    torch.testing.assert_close(at_pixels, expected)


def test_a_model_file_gives_the_same_answers(written: Path) -> None:
    header = read_header(written)
    assert (header.foundation, header.foundation_sha256, find_method(header)) == ("none", "", "specialist")
    model = load_model(written, device="cpu", precision="fp32")
    assert (model.method, model.foundation_name, model.context) == ("specialist", "none", 1)
    assert (model.config, model.validated, model.provenance) == (CONFIG, {"liver": 0.9}, RESEARCH)
    slices = body().slices.astype(np.float32)
    own = OrganModel("own", LABELS, CONFIG, make_network())
    found, expected = (each.predict_slices(slices, (5.0, 5.0)) for each in (model, own))
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert len(np.unique(found.labels)) > 1


def test_a_volume_in_parts_gives_what_the_whole_gives() -> None:
    model = OrganModel("own", LABELS, CONFIG, make_network(), batch=3)
    slices = body(depth=7).slices.astype(np.float32)
    whole = model.predict_slices(slices, (5.0, 5.0)).labels
    first = model.predict_slices(slices[:4], (5.0, 5.0), None, slices[4:5]).labels
    second = model.predict_slices(slices[4:], (5.0, 5.0), slices[3:4], None).labels
    assert (np.concatenate([first, second]) != whole).mean() < 1e-3


def test_a_specialist_takes_no_foundation(written: Path) -> None:
    with pytest.raises(ConfigError, match="model is a specialist without a foundation"):
        load_model(written, "embedded", "cpu")
    with pytest.raises(ConfigError, match="the ladder stands beside a foundation"):
        build_network(NetworkConfig(), None, 4)
    assert isinstance(build_network(NetworkConfig(), tiny_foundation(), 4), OrganNetwork)


def test_each_method_has_its_model_in_the_package() -> None:
    assert find_model().name == find_model(None, "specialist").name == "abdomen.safetensors"
    assert find_model(None, "ladder").name == "abdomen_open.safetensors"
    assert find_model("abdomen_open") == find_model(None, "ladder")
    for method in ("specialist", "ladder"):
        assert find_method(read_header(find_model(None, method))) == method


def test_a_file_of_ones_own_comes_before_a_name(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written.rename(tmp_path / "abdomen_open")
    assert find_model("abdomen_open", "specialist") == Path("abdomen_open")


def test_a_model_of_another_method_is_refused(written: Path) -> None:
    assert find_model(written, "specialist") == written
    with pytest.raises(ConfigError, match="is a specialist, and --method asks for a ladder: leave"):
        find_model(written, "ladder")
    options = segment_options(out="x", model=written, method="ladder")
    with pytest.raises(ConfigError, match="--model abdomen_open"):
        load_chosen_model(options)
    with pytest.raises(ConfigError, match="method"):
        segment_options(out="x", method="coarse")


def test_files_older_than_the_specialist_are_ladders(written: Path) -> None:
    header = read_header(written)
    table = {**header.config["model"], "network": {"neighbours": 0}}
    assert find_method(replace(header, config={"model": table})) == "ladder"
    assert find_method(replace(header, config={})) == "ladder"


def test_a_limit_of_use_is_told_once(
    written: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            model = load_model(written, device="cpu")
    told = [record.getMessage() for record in caplog.records if "for research" in record.getMessage()]
    assert told == ["model model is for research: trained on a set that may not be passed on"]
    assert identify_model(model)["method"] == "specialist"
