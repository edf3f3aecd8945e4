"""Places are written and read back within the step of each family; what is no place is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainsam.errors import ConfigError
from domainsam.prompter.language.codecs import CODECS, OutsideError, choose_codec

SIZE = (336, 504)
STEPS = {
    "thousandths": (1 / 1000, 1 / 1000),
    "thousand": (0.5 / 1000, 0.5 / 1000),
    "pixels": (0.5 / 504, 0.5 / 336),
    "loc1024": (1 / 1024, 1 / 1024),
    "loc1000": (0.5 / 1000, 0.5 / 1000),
}
"""How far a number read back may lie from what was written, along x and y."""
PLACE = st.tuples(st.floats(0, 0.45), st.floats(0, 0.45), st.floats(0.55, 1.0), st.floats(0.55, 1.0))


@pytest.mark.parametrize("name", CODECS)
@given(box=PLACE)
def test_a_box_comes_back_within_a_step(name: str, box: tuple[float, float, float, float]) -> None:
    codec = CODECS[name]
    ((read, spots),) = codec.read(f"the thing is at {codec.write_box(box, SIZE)}, I think", SIZE)
    assert read is not None
    assert spots == []
    for place, (one, other) in enumerate(zip(read, box, strict=True)):
        assert abs(one - other) <= STEPS[name][place % 2] + 1e-9


@pytest.mark.parametrize("name", ["thousandths", "thousand", "pixels"])
def test_points_belong_to_the_box_before_them(name: str) -> None:
    codec = CODECS[name]
    box, points = (0.1, 0.2, 0.5, 0.6), ((0.2, 0.3, True), (0.4, 0.5, False))
    text = codec.write_box(box, SIZE) + "".join(
        codec.write_point((x, y), SIZE, inside) for x, y, inside in points
    )
    found = codec.read(f"{text}\n{text}", SIZE)
    assert len(found) == 2
    for read, spots in found:
        assert read == pytest.approx(box, abs=2e-3)
        assert [spot[:2] for spot in spots] == [pytest.approx(one[:2], abs=2e-3) for one in points]
        assert [spot[2] for spot in spots] == [True, False]


def test_each_family_writes_as_its_makers_tell() -> None:
    box = (0.25, 0.5, 0.75, 1.0)
    assert CODECS["thousandths"].write_box(box, SIZE) == "[250,500,750,999]"
    assert CODECS["thousand"].write_box(box, SIZE) == "[250,500,750,1000]"
    assert CODECS["pixels"].write_box(box, SIZE) == "[126,168,378,336]"
    # y first
    assert CODECS["loc1024"].write_box(box, SIZE) == "<loc0512><loc0256><loc1023><loc0768>"
    assert CODECS["loc1000"].write_box(box, SIZE) == "<loc_250><loc_500><loc_750><loc_999>"


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ('```json\n[{"bbox_2d": [126, 168, 378, 336], "label": "pool"}]\n```', 1),
        ("<box>[[126, 168, 378, 336], [1, 2, 3, 4]]</box>", 2),
        ("<|box_start|>(126,168),(378,336)<|box_end|>", 1),
        ("[126.0,168.0,378.0,336.0]", 1),
        ("A red roof.", 0),
    ],
)
def test_forms_that_models_use(text: str, boxes: int) -> None:
    found = CODECS["pixels"].read(text, SIZE)
    assert len(found) == boxes
    if boxes:
        assert found[0][0] == pytest.approx((0.25, 0.5, 0.75, 1.0))


def test_several_objects_of_tokens_and_a_stray_one() -> None:
    text = "<loc0000><loc0000><loc0512><loc0512> pool ; <loc0512><loc0512><loc1023><loc1023> pool <loc0001>"
    found = CODECS["loc1024"].read(text, SIZE)
    assert [box for box, _ in found] == [(0, 0, 0.5, 0.5), (0.5, 0.5, 1023 / 1024, 1023 / 1024)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("thousandths", "[100,100,1200,500]"),
        ("thousand", "[-5,100,200,500]"),
        ("pixels", "[0,0,505,100]"),
        ("loc1024", "<loc0000><loc0000><loc9999><loc0512>"),
        ("thousandths", "[500,100,100,400]"),
        ("thousandths", "[100,100,100,400]"),
        ("thousandths", "(300,2000)"),
    ],
)
def test_numbers_outside_and_empty_boxes_are_refused(name: str, text: str) -> None:
    with pytest.raises(OutsideError, match=r"outside of|is empty"):
        CODECS[name].read(text, SIZE)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("qwen2_5_vl", "pixels"),
        ("qwen2_vl", "pixels"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "pixels"),
        ("qwen3_vl", "thousand"),
        ("qwen3_vl_moe", "thousand"),
        ("qwen3-vl:8b", "thousand"),
        ("internvl", "thousand"),
        ("paligemma", "loc1024"),
        ("florence2", "loc1000"),
        ("llava_next", "thousandths"),
        ("smolvlm", "thousandths"),
    ],
)
def test_the_family_says_how_places_are_written(kind: str, name: str) -> None:
    assert choose_codec(kind).name == name
    assert choose_codec(kind, "pixels").name == "pixels"


def test_another_codec_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected one of: thousandths, pixels"):
        choose_codec("llava", "polar")
