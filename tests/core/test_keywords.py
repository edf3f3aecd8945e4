"""Keywords of a job: unknown names, impossible values, the forms that are taken."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import domainsam
from domainsam.errors import ConfigError, PackError
from domainsam.keywords import check_choice, check_keywords, check_least, keyword_names, parts_of


def job(inputs: str, *, min_area: float = 0, threshold: float = 0.5) -> None:
    """Stands for a pack's job."""


def test_names_are_those_of_keyword_only_parameters() -> None:
    assert keyword_names(job) == ("min_area", "threshold")


def test_an_unknown_keyword_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"^job: no option is named 'minarea'; did you mean min_area\?$"):
        check_keywords("job", ["threshold", "minarea"], keyword_names(job))


def test_an_unknown_keyword_that_is_near_to_none_names_all() -> None:
    with pytest.raises(ConfigError, match="these are known: min_area, threshold"):
        check_keywords("job", ["zzz"], keyword_names(job))


@pytest.mark.parametrize("given", ["3, 2,1", (3, 2, 1), ["3", 2, 1.0]])
def test_lists_may_be_text_or_sequences(given: Any) -> None:
    assert parts_of(given, int) == (3, 2, 1)


def test_a_part_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="'3,red' is not a list of int values"):
        parts_of("3,red", int)


def test_choices_and_limits() -> None:
    assert check_choice("method", "full", ("full", "coarse")) == "full"
    with pytest.raises(ConfigError, match="method is 'fast', expected one of: full, coarse"):
        check_choice("method", "fast", ("full", "coarse"))
    check_least(1, tile=None, workers=1)
    with pytest.raises(ConfigError, match="workers is 0, expected 1 or more"):
        check_least(1, workers=0)
    with pytest.raises(ConfigError, match="workers is nan"):
        check_least(1, workers=float("nan"))


def test_an_unknown_pack_is_one_line() -> None:
    with pytest.raises(PackError, match="no pack is named 'roads'"):
        domainsam.run("roads", "a.tif", "b.tif")


def test_the_front_door_is_cheap_to_import() -> None:
    code = (
        "import sys, domainsam; names = dir(domainsam)\n"
        "assert {'run', 'open', 'Predictor', 'load_foundation'} <= set(names)\n"
        "assert not {'torch', 'numpy', 'click', 'typing', 'importlib.metadata'} & set(sys.modules)"
    )
    # -S: files that site-packages may hold for editable installs import modules of their own.
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'segment'"):
        _ = domainsam.segment
