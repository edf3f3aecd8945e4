"""One table of foundations, and what a stranger's package adds to it by entry point."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from domainsam.errors import PackError, WeightsError
from domainsam.foundation import load_foundation
from domainsam.foundation.loading import identify
from domainsam.foundations import FOUNDATIONS, Marks, find_foundations
from domainsam.prompter import PROMPTERS, find_prompters, load_prompter
from domainsam.protocols import PromptSource
from domainsam.testing.contracts import ArrayView
from domainsam.weights import find_weights, published

STRANGER = """
from domainsam.foundation.fake import FakeFoundation
from domainsam.foundations import IMAGENET, FoundationSpec, Marks, WeightFile
from domainsam.protocols import SceneObject

URL = "https://weights.example/strange.pt"
FILE = WeightFile("strange_sam", "strange.pt", URL, "0" * 64, 7, "MIT", IMAGENET, 64)
ROWS = [
    FoundationSpec("strange_sam", "stranger:load", "MIT", FILE, Marks({"strange.weight": (0, 3)})),
    FoundationSpec("fake", "stranger:load", "MIT"),
]


def load(name, path, device, dtype, compile):
    foundation = FakeFoundation(device)
    foundation.name = name
    return foundation


class Corner:
    def find(self, view):
        yield SceneObject.marked(box=(0, 0, 8, 8))

"""
ENTRIES = """[domainsam.foundations]
rows = stranger:ROWS
broken = no_such_module:ROWS
wrong = json:dumps

[domainsam.prompters]
corner = stranger:Corner
clicks = stranger:Corner
broken = stranger:Absent
"""


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with metadata, as an installer leaves it, on the import path."""
    (tmp_path / "stranger.py").write_text(STRANGER)
    metadata = tmp_path / "stranger-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "stranger", raising=False)
    return tmp_path


def test_a_strangers_foundation_is_loaded_listed_and_recognised(stranger: Path) -> None:
    foundation = load_foundation("strange_sam")
    assert foundation.name == "strange_sam"
    assert published()["strange_sam"].megabytes == 7
    with pytest.raises(WeightsError, match=r"7 MB, MIT.*weights\.example"):
        find_weights("strange_sam")
    save_file({"strange.weight": torch.zeros(3, 2)}, stranger / "file.safetensors")
    assert identify(stranger / "file.safetensors") == "strange_sam"
    assert load_foundation(stranger / "file.safetensors").name == "strange_sam"


def test_what_is_broken_is_named_in_a_line_and_breaks_nothing(
    stranger: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        rows = find_foundations()
    assert set(rows) == {*FOUNDATIONS, "strange_sam"}
    assert rows["fake"] is FOUNDATIONS["fake"]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    assert all("\n" not in line for line in lines)
    assert any("'broken' cannot be imported: ModuleNotFoundError" in line for line in lines)
    assert any("json:dumps is a function, expected a FoundationSpec" in line for line in lines)
    assert any("'fake' of stranger:ROWS is left out: the name is taken" in line for line in lines)


def test_a_strangers_prompt_source_is_found(stranger: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert set(find_prompters()) == {*PROMPTERS, "corner", "broken"}
    assert "'clicks' of stranger:Corner is left out" in caplog.text
    source = load_prompter("corner")()
    assert isinstance(source, PromptSource)
    assert [one.box for one in source.find(ArrayView())] == [(0, 0, 8, 8)]
    with pytest.raises(PackError, match="prompt source 'broken' cannot be imported: AttributeError"):
        load_prompter("broken")
    with pytest.raises(PackError, match="no prompt source is named 'owl'; installed: segformer"):
        load_prompter("owl")


@pytest.mark.parametrize("name", PROMPTERS)
def test_our_own_prompters_load_without_metadata(name: str) -> None:
    assert isinstance(load_prompter(name), type)


def sam2_shapes(width: int, *more: str) -> dict[str, tuple[int, ...]]:
    return {"image_encoder.trunk.patch_embed.proj.weight": (width, 3, 7, 7), **dict.fromkeys(more, (1,))}


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("sam_vit_h", {"image_encoder.pos_embed": (1, 64, 64, 1280)}),
        ("sam2_hiera_tiny", sam2_shapes(96)),
        ("sam2.1_hiera_tiny", sam2_shapes(96, "no_obj_embed_spatial")),
        ("sam2_hiera_small", sam2_shapes(96, "image_encoder.trunk.blocks.15.norm1.weight")),
        ("sam2.1_hiera_large", sam2_shapes(144, "no_obj_embed_spatial")),
        ("embedded_sam2", sam2_shapes(32)),
        ("embedded", {"dense_prompts.at4.weight": (32, 4, 3, 3)}),
        (
            "embedded_lite",
            {"dense_prompts.at4.weight": (32, 4, 3, 3), "encoder.trunk.conv_stem.weight": (32, 3, 3, 3)},
        ),
    ],
)
def test_exactly_one_row_fits_a_file(name: str, shapes: dict[str, tuple[int, ...]]) -> None:
    assert [row.name for row in FOUNDATIONS.values() if row.marks and row.marks.fit(shapes)] == [name]


def test_marks_ask_for_the_axis_that_there_is() -> None:
    assert not Marks({"a": (2, 5)}).fit({"a": (5, 5)})
    assert Marks({"a": (-1, 5)}).fit({"a": (3, 5)})


@pytest.mark.parametrize("name", ["embedded", "embedded_lite", "embedded_sam2"])
def test_shipped_weights_are_recognised(name: str) -> None:
    import domainsam.foundation

    assert identify(Path(domainsam.foundation.__file__).parent / "weights" / f"{name}.safetensors") == name


@pytest.mark.parametrize("module", ["domainsam.foundations", "domainsam.prompter", "domainsam.weights"])
def test_reading_a_table_imports_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
