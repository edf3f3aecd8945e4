from __future__ import annotations

from datetime import UTC, datetime

import pytest

from domainsam.errors import ConfigError
from domainsam_urban.write.provenance import Acquisition, find_acquisition


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("S2A_20200614T101559_T33.tif", datetime(2020, 6, 14, 10, 15, 59, tzinfo=UTC)),
        ("city_2019-05-30.tif", datetime(2019, 5, 30, tzinfo=UTC)),
        ("m_4709963_se_14_1_20090818.tif", datetime(2009, 8, 18, tzinfo=UTC)),
        ("2018.07.01_scene.tif", datetime(2018, 7, 1, tzinfo=UTC)),
        ("49554_107970_image.tif", None),
        ("OAM-386690-220241-19.tif", None),
        ("a_20191332.tif", None),
        ("b_20190231.tif", None),
        ("12020061412.tif", None),
    ],
)
def test_dates_in_file_names(name: str, expected: datetime | None) -> None:
    assert find_acquisition(name).instant == expected


def test_a_year_alone_is_a_span() -> None:
    span = find_acquisition("landsat_1985.tif")
    assert span.instant is None
    assert span.start == datetime(1985, 1, 1, tzinfo=UTC)
    assert span.end == datetime(1985, 12, 31, 23, 59, 59, tzinfo=UTC)


def test_witnesses_are_heard_in_order() -> None:
    tags = {"TIFFTAG_DATETIME": "2022:03:04 05:06:07", "ACQUISITIONDATETIME": "2018-01-02T03:04:05+02:00"}
    name = "x_20200614.tif"
    assert find_acquisition(name, tags, "2017-07-07").instant == datetime(2017, 7, 7, tzinfo=UTC)
    assert find_acquisition(name, tags).instant == datetime(2018, 1, 2, 1, 4, 5, tzinfo=UTC)
    del tags["ACQUISITIONDATETIME"]
    assert find_acquisition(name, tags).instant == datetime(2020, 6, 14, tzinfo=UTC)
    assert find_acquisition("x_2021.tif", tags).instant == datetime(2022, 3, 4, 5, 6, 7, tzinfo=UTC)
    assert find_acquisition("x.tif", {"TIFFTAG_DATETIME": "unknown"}) == Acquisition()


def test_a_given_date_must_be_one() -> None:
    assert find_acquisition("x.tif", given="2020").start == datetime(2020, 1, 1, tzinfo=UTC)
    with pytest.raises(ConfigError, match="'last summer' is no date"):
        find_acquisition("x.tif", given="last summer")
