"""The error tree: one root, a fitting built-in, an exit code each."""

from __future__ import annotations

import inspect

import pytest

from domainsam import errors

TREE = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", TREE)
def test_every_error_is_ours_and_has_a_documented_code(kind: type[errors.DomainSamError]) -> None:
    assert issubclass(kind, errors.DomainSamError)
    assert f"\n{kind.exit_code}    " in str(errors.__doc__)


@pytest.mark.parametrize("kind", [kind for kind in TREE if kind is not errors.DomainSamError])
def test_every_error_is_also_a_builtin(kind: type[errors.DomainSamError]) -> None:
    others = [base for base in kind.__mro__ if not issubclass(base, errors.DomainSamError)]
    assert any(base not in (Exception, BaseException, object) for base in others)


@pytest.mark.parametrize("kind", TREE)
def test_message_survives_whole(kind: type[errors.DomainSamError]) -> None:
    assert str(kind("a.tif: no CRS; give one")) == "a.tif: no CRS; give one"
