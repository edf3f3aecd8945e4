"""Label maps: those inside the package, and users' own with every fault named."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import pytest

from domainsam.errors import ConfigError, MissingInputError
from domainsam_ct.labels import SHIPPED, SIDES, choose_organs, find_organ, load_catalogue, load_label_map


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_maps_name_known_organs(name: str) -> None:
    labels = load_label_map(name)
    assert list(labels) == list(range(1, len(labels) + 1))
    for organ in labels.values():
        assert organ == load_catalogue()[organ.name]
        assert organ.code is not None
        assert re.fullmatch(r"\d{6,18}", organ.code.value)


def test_published_numbers() -> None:
    synapse, btcv = load_label_map("synapse"), load_label_map("btcv")
    assert {synapse[7].name, synapse[8].name} == {"aorta", "pancreas"}
    # BTCV's numbers of the eight organs, as SAM-LST's preparation maps them.
    eight = {1: 1, 2: 2, 3: 3, 4: 4, 6: 5, 7: 6, 8: 7, 11: 8}
    assert {synapse[mine].name for mine in eight.values()} == {btcv[theirs].name for theirs in eight}
    assert all(btcv[theirs].name == synapse[mine].name for theirs, mine in eight.items())


def test_every_name_with_a_side_has_its_modifier() -> None:
    for name, organ in load_catalogue().items():
        if organ.code is not None and organ.code.meaning == "Middle lobe of right lung":
            continue  # there is no other
        for side, code in SIDES.items():
            assert (organ.side == code) == (side in name.split("_")), name


def test_the_two_of_a_pair_differ_in_side_alone() -> None:
    left, right = load_catalogue()["kidney_left"], load_catalogue()["kidney_right"]
    assert left.code == right.code
    assert left.side != right.side
    assert left.colour != right.colour
    assert (left.title, right.title) == ("Kidney, left", "Kidney, right")


def test_names_are_those_in_real_files(shared_data: Path) -> None:
    path = shared_data / "medical/totalsegmentator/example_seg_fast_force_split.nii.gz"
    text = nib.load(path).header.extensions[0].get_content().decode()
    pairs = re.findall(r'Key="(\d+)".*?CDATA\[(\w+)\]', text)
    assert {int(value): name for value, name in pairs} == {
        value: organ.name for value, organ in load_label_map("totalsegmentator").items()
    }


def test_a_users_own_map(tmp_path: Path) -> None:
    path = tmp_path / "labels.toml"
    path.write_text(
        "[labels]\nliver = 3\nmy-lesion = 12\nscar = 2\n"
        '[organs.my-lesion]\ncode = "108369006"\nmeaning = "Neoplasm"\nside = "left"\n'
        'category = "altered"\ncolour = "#ff00c8"\n'
    )
    labels = load_label_map(path)
    assert [organ.name for organ in labels.values()] == ["scar", "liver", "my-lesion"]
    assert labels[3] == load_catalogue()["liver"]
    lesion = labels[12]
    assert lesion.code is not None
    assert (lesion.code.meaning, lesion.side, lesion.colour) == ("Neoplasm", SIDES["left"], (255, 0, 200))
    assert labels[2].code is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("liver = [", "not valid TOML"),
        ("[names]\nliver = 1", r"table \[labels\]"),
        ("[labels]\n", r"table \[labels\]"),
        ("[labels]\nliver = 0", "from 1 to 65535"),
        ("[labels]\nliver = true", "from 1 to 65535"),
        ("[labels]\nliver = 1.5", "from 1 to 65535"),
        ("[labels]\nliver = 1\nspleen = 1", "both have value 1"),
        ('[labels]\n"../liver" = 1', "letters, digits"),
        ("[labels]\nscar = 1\n[organs.scar]\ncode = 5", "may hold the texts"),
        ('[labels]\nscar = 1\n[organs.scar]\ncode = "5"', "both code and meaning"),
        ('[labels]\nscar = 1\n[organs.scar]\nside = "top"', "expected left or right"),
        ('[labels]\nscar = 1\n[organs.scar]\ncolour = "red"', "expected #rrggbb"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "labels.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_label_map(path)


def test_a_map_that_is_not_there() -> None:
    with pytest.raises(MissingInputError, match="neither a file nor one of synapse, btcv"):
        load_label_map("synapsis")


def test_choosing_organs() -> None:
    labels = load_label_map("synapse")
    assert list(choose_organs(labels, ["spleen", "liver", "spleen"])) == [1, 5]
    with pytest.raises(ConfigError, match=r"'heart' is not among .* spleen"):
        choose_organs(labels, ["heart"])


def test_organs_that_nobody_knows_are_seen_on_grey_pictures() -> None:
    found = [find_organ(f"label_{value}").colour for value in range(1, 9)]
    assert len(set(found)) == 8
    assert all(max(colour) - min(colour) > 100 for colour in found)
    assert found[0] == find_organ("label_1").colour


def test_a_label_map_may_say_that_a_structure_is_thin(tmp_path: Path) -> None:
    path = tmp_path / "map.toml"
    path.write_text(
        '[labels]\nduct = 1\nnode = 2\naorta = 3\n[organs.duct]\nform = "thin"\n', encoding="utf-8"
    )
    assert [organ.thin for organ in load_label_map(str(path)).values()] == [True, False, True]
    path.write_text('[labels]\nduct = 1\n[organs.duct]\nform = "thick"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="form of duct is 'thick', expected thin"):
        load_label_map(str(path))
