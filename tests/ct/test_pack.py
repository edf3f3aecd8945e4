"""The CT pack keeps to the contract of all packs."""

from __future__ import annotations

import pytest

from domainsam.checkpoint import read_header
from domainsam.testing.contracts import PackContract
from domainsam_cli import main
from domainsam_ct.labels import load_label_map, make_label_map
from domainsam_ct.model.shipped import find_model


class TestCt(PackContract):
    name = "ct"


def test_labels_are_those_of_the_shipped_map() -> None:
    from domainsam_ct import PACK

    assert PACK.labels == read_header(find_model()).labels
    assert make_label_map(PACK.labels) == load_label_map("synapse")


@pytest.mark.parametrize("command", ["segment", "train", "evaluate", "statistics"])
def test_examples_of_the_help_stand_on_lines_of_their_own(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["ct", command, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(f"  domainsam ct {command} ") for line in lines) >= 2
    assert not any("\\b" in line or "\b" in line for line in lines)
