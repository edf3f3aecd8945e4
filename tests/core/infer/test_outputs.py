"""Output paths: as given, in a folder, or with the input's name filled in."""

from __future__ import annotations

from pathlib import Path

import pytest

from domainsam.errors import ConfigError
from domainsam.infer.outputs import check_suffix, resolve_output, safe_name, without_ending


@pytest.mark.parametrize(
    ("given", "resolved"),
    [
        ("m.tif", "m.tif"),
        ("out", "out/a_mask.tif"),
        ("{stem}/m.tif", "a/m.tif"),
        ("o/{stem}", "o/a/a_mask.tif"),
    ],
)
def test_a_path_as_given_in_a_folder_or_with_the_name(given: str, resolved: str) -> None:
    assert resolve_output(Path(given), "a", "{stem}_mask.tif") == Path(resolved)


def test_a_folder_that_exists_may_have_a_dot_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "v1.2"
    folder.mkdir()
    assert resolve_output(folder, "a", "{stem}.png") == folder / "a.png"


def test_safe_names() -> None:
    assert safe_name("a b/c.tif", "scene") == "a_b_c.tif"
    assert safe_name("???", "scene") == "scene"


def test_the_longest_ending_goes() -> None:
    assert without_ending("A.NII.GZ", (".gz", ".nii.gz", ".nii")) == "A"
    assert without_ending("a.txt", (".nii",)) == "a.txt"


def test_another_format_is_refused() -> None:
    check_suffix(Path("A.TIF"), "mask", (".tif", ".tiff"))
    with pytest.raises(ConfigError, match=r"--mask 'a\.png' must end in \.tif or \.tiff"):
        check_suffix(Path("a.png"), "mask", (".tif", ".tiff"))
