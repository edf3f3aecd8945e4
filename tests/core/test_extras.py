"""Extras: each pack's packages are declared, and a missing one is a line that names the extra."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from domainsam import errors
from domainsam.errors import DependencyError, explain, missing_extra
from tests.conftest import ROOT

LINES = [
    "click>=8.1",
    "jinja2>=3.1; extra == 'urban'",
    "nibabel>=5.2; extra == 'ct'",
    "pydicom>=3; extra == 'ct'",
    'jinja2>=3.1; extra == "ct"',
    "rio-cogeo>=5; extra == 'dev'",
    "domainsam[ct]; extra == 'all'",
]
OWN = ("domainsam", "domainsam_cli", "domainsam_urban", "domainsam_ct", "domainsam_scene", "domainsam_photo")
IN_OTHERS = {"hydra": "sam2", "omegaconf": "sam2", "markupsafe": "jinja2", "PIL": "pillow"}
"""Modules that come with a package of another name, or as a requirement of it."""
FURTHER = {
    "SimpleITK": "itk",
    "h5py": "hdf5",
    "rioxarray": "xarray",
    "lightning": "train",
    "model_signing": "sign",
    "pycocotools": "coco",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "openvino": "openvino",
    "av": "film",
    "pillow_heif": "heic",
}
"""Modules that an extra beside those of the packs brings."""


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata that do not depend on how this project was installed."""
    monkeypatch.setattr("importlib.metadata.requires", lambda name: LINES)


def absent(module: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"No module named {module!r}", name=module)


@pytest.mark.usefixtures("declared")
def test_a_missing_package_names_its_extra() -> None:
    assert str(missing_extra(absent("nibabel.nifti1"))) == (
        "nibabel is not installed: run pip install 'domainsam[ct]'"
    )
    assert explain(absent("nibabel")) == ("nibabel is not installed: run pip install 'domainsam[ct]'", 3)


@pytest.mark.usefixtures("declared")
def test_of_several_extras_it_is_that_of_the_pack_that_asked() -> None:
    assert "domainsam[urban]" in str(missing_extra(absent("jinja2")))
    code = "import importlib; raise ModuleNotFoundError('no', name='jinja2')"
    with pytest.raises(ModuleNotFoundError) as caught:
        exec(code, {"__name__": "domainsam_ct.write.report"})
    assert "domainsam[ct]" in str(missing_extra(caught.value))


@pytest.mark.usefixtures("declared")
@pytest.mark.parametrize("error", [absent("nowhere"), absent("rio_cogeo"), ImportError("x"), ValueError("y")])
def test_other_failures_are_left_alone(error: Exception) -> None:
    assert missing_extra(error) is None


@pytest.mark.usefixtures("declared")
def test_packages_of_an_extra_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert errors.absent_packages("ct") == ()
    monkeypatch.setattr("importlib.metadata.requires", lambda name: ["nowhere-at-all; extra == 'ct'"])
    assert errors.absent_packages("ct") == ("nowhere-at-all",)


BLOCKED = """
import sys, importlib.metadata
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {blocked!r}:
            raise ModuleNotFoundError('No module named ' + repr(name), name=name)
sys.meta_path.insert(0, Blocker())
importlib.metadata.requires = lambda name: {lines!r}
from domainsam_cli import main
raise SystemExit(main({arguments!r}))
"""


def run_without(blocked: tuple[str, ...], *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in an interpreter where some packages are absent."""
    code = BLOCKED.format(blocked=blocked, lines=LINES, arguments=list(arguments))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_commands_without_a_packs_packages(tmp_path: Path) -> None:
    blocked = ("nibabel", "pydicom", "rasterio", "geopandas", "monai", "lightning", "jinja2")
    for arguments in (["--help"], ["packs"], ["ct", "segment", "--help"]):
        assert run_without(blocked, *arguments).returncode == 0
    (tmp_path / "a.nii.gz").write_bytes(b"x")
    done = run_without(blocked, "ct", "segment", str(tmp_path / "a.nii.gz"), "-o", str(tmp_path / "m.nii.gz"))
    assert done.returncode == 3
    assert done.stderr.strip() == "domainsam: pydicom is not installed: run pip install 'domainsam[ct]'"


def test_the_front_door_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import domainsam
    from domainsam import frontdoor, packs

    def job(*_: object, **__: object) -> None:
        raise absent("nibabel")

    pack = packs.load_pack("ct")
    monkeypatch.setattr("importlib.metadata.requires", lambda name: LINES)
    monkeypatch.setattr(packs.DomainPack, "load", lambda self, part: job)
    monkeypatch.setattr(frontdoor, "load_pack", lambda name: pack)
    with pytest.raises(DependencyError, match=r"domainsam\[ct\]"):
        domainsam.run("ct", "a.nii.gz", "b.nii.gz")


def imported(folder: Path) -> Iterator[tuple[Path, str]]:
    """Modules that the code under a folder imports from other packages."""
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in names:
                root = name.partition(".")[0]
                if root not in sys.stdlib_module_names and root not in OWN:
                    yield file, root


@pytest.mark.parametrize("pack", ["urban", "ct", "scene", "photo"])
def test_a_packs_imports_are_declared(pack: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    known = {errors._plain_name(line.split(">")[0].split("=")[0]) for line in project["dependencies"]}
    known |= {errors._plain_name(line.split(">")[0]) for line in optional[pack]}
    for file, module in imported(ROOT / "domains" / f"domainsam_{pack}"):
        if module in FURTHER:
            assert any(module.lower().replace("_", "-") in line.lower() for line in optional[FURTHER[module]])
            continue
        package = errors._plain_name(IN_OTHERS.get(module, module))
        assert package in known, f"{file} imports {module}, which no extra of {pack} has"
