"""Weights inside the packages: each is signed, and a changed one is found with and without model-signing."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from domainsam import signatures
from domainsam.errors import WeightsError
from domainsam.signatures import shipped_weights, verify_shipped
from domainsam_cli.commands.weights import weights

NAMES = {
    "embedded",
    "embedded_lite",
    "embedded_sam2",
    "urban_villages",
    "abdomen",
    "abdomen_open",
    "generated",
}


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A weight file and its signature where they may be changed."""
    path = shipped_weights()["abdomen"]
    for file in (path, path.with_name(path.name + signatures.SUFFIX)):
        shutil.copy(file, tmp_path)
    return tmp_path / path.name


@pytest.fixture
def unsigning(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without model-signing."""
    monkeypatch.setitem(sys.modules, "model_signing", None)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_every_shipped_file_is_found() -> None:
    assert shipped_weights().keys() >= NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_shipped_file_is_signed(name: str) -> None:
    pytest.importorskip("model_signing")
    assert verify_shipped(shipped_weights()[name]) == "signature"


def test_a_changed_file_is_refused(copied: Path) -> None:
    pytest.importorskip("model_signing")
    damage(copied)
    with pytest.raises(WeightsError, match="is not the file that was signed"):
        verify_shipped(copied)


def test_another_key_is_refused(copied: Path, tmp_path: Path) -> None:
    pytest.importorskip("model_signing")
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    (tmp_path / "other.pub").write_bytes(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(WeightsError, match="is not the file that was signed"):
        verify_shipped(copied, tmp_path / "other.pub")


def test_without_a_signature(copied: Path) -> None:
    copied.with_name(copied.name + signatures.SUFFIX).unlink()
    with pytest.raises(WeightsError, match="has no signature"):
        verify_shipped(copied)


@pytest.mark.usefixtures("unsigning")
def test_without_model_signing_the_checksum_is_compared(copied: Path) -> None:
    assert verify_shipped(copied) == "checksum"
    damage(copied)
    with pytest.raises(WeightsError, match="is not the file that was signed"):
        verify_shipped(copied)
    copied.with_name(copied.name + signatures.SUFFIX).write_text("{}")
    with pytest.raises(WeightsError, match="is no signature of one file"):
        verify_shipped(copied)


@pytest.mark.usefixtures("unsigning")
def test_the_command_says_that_it_compared_checksums() -> None:
    result = CliRunner().invoke(weights, ["verify", "abdomen"])
    assert result.exit_code == 0
    assert "good by its checksum" in result.output
    assert "domainsam[sign]" in result.output


def test_the_command_checks_what_is_shipped(monkeypatch: pytest.MonkeyPatch, copied: Path) -> None:
    damage(copied)
    monkeypatch.setattr("domainsam_cli.commands.weights.shipped_weights", lambda: {"abdomen": copied})
    result = CliRunner().invoke(weights, ["verify"])
    assert isinstance(result.exception, WeightsError)
    assert "is not the file that was signed" in str(result.exception)
