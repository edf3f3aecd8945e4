"""The CT pack keeps to the contract of all packs."""

from __future__ import annotations

from domainsam.testing.packs import PackContract
from domainsam_ct.labels import label_map_of, load_label_map
from domainsam_ct.pipeline import model_labels


class TestCt(PackContract):
    name = "ct"


def test_labels_are_those_of_the_shipped_map() -> None:
    from domainsam_ct import PACK

    assert PACK.labels == model_labels(None)
    assert label_map_of(PACK.labels) == load_label_map("synapse")
