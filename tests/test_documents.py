"""What the README and the page on Python show runs, on generated data; links in documents lead somewhere."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from domainsam_ct.generated import draw_abdomen
from domainsam_ct.generated import write_sample as write_scan
from domainsam_scene.generated.files import write_samples
from domainsam_urban.generated import write_sample as write_scene
from tests.conftest import ROOT

PAGES = (
    "README.md",
    *(pytest.param(f"docs/{name}.md", marks=pytest.mark.slow) for name in ("python", "prompts")),
)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
BUILT = {"notebooks/urban.md", "notebooks/ct.md", "notebooks/scene.md"}
"""Pages that exist only in the built site."""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that the documents name, in the current folder."""
    write_scene(tmp_path / "scene.tif", tmp_path / "truth.tif", 384, seed=3)
    shape, spacing = (96, 72, 4), (3.5, 3.5, 8.0)
    write_scan(tmp_path / "ct.nii.gz", draw_abdomen(shape, spacing, seed=1)[0], spacing)
    write_samples(tmp_path / "samples", 1, 64, 5)
    for sensor, name in (("rgb", "a.png"), ("depth", "a_d.png")):
        next((tmp_path / "samples" / sensor).iterdir()).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("data")
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # rioxarray multiplies transforms
@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_run(page: str) -> None:
    if page != "README.md":
        pytest.importorskip("rioxarray")
    blocks = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        for output in Path().glob("*.*"):
            if output.stem in ("settlements", "organs", "map") or "organs" in output.name:
                output.unlink()
        exec(compile(block, page, "exec"), names)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in LINK.findall(document.read_text(encoding="utf-8")):
        if "://" not in target and target not in BUILT:
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_word_claims_a_medical_purpose(document: Path) -> None:
    text = document.read_text(encoding="utf-8").lower()
    assert not re.search(r"\bdiagnos|\bclinic", text)


@pytest.mark.parametrize("name", ["uvsam", "samlst", "memorysam", "mlesam"])
def test_recipes_of_papers_are_what_paper_does(name: str) -> None:
    """``--config NAME`` and ``--paper`` cannot drift apart."""
    if name == "uvsam":
        from domainsam_urban.train import recipe as urban

        expected: object = urban.set_epochs(urban.make_paper_recipe(urban.TrainConfig()), 344)
        assert urban.read_recipe(Path(name)) == expected
    elif name == "samlst":
        from domainsam_ct.train import recipe as ct

        assert ct.read_recipe(Path(name)) == ct.make_paper_recipe(ct.TrainConfig())
    else:
        from domainsam_scene.train import recipe as scene

        config = scene.TrainConfig()
        method = replace(config.network, method="mlesam" if name == "mlesam" else "memorysam")
        assert scene.read_recipe(Path(name)) == scene.make_paper_recipe(
            replace(config, network=method), "deliver"
        )
    assert f"`{name}`" in (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
