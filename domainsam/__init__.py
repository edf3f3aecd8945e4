"""Segment Anything in a user's own domain: packs for satellite scenes, CT volumes and sensor stacks.

``run`` does a pack's main job, ``open`` a scene for prompts, ``Predictor`` a
picture for clicks, and ``load_foundation`` gives the frozen generalist. Each
is imported when it is first asked for, so that importing this package is cheap.
"""

from __future__ import annotations

TYPE_CHECKING = False
"""True to type checkers, which know the name; ``typing`` takes longer to import than this package."""

if TYPE_CHECKING:
    from typing import Any

    from domainsam.foundation import load_foundation as load_foundation
    from domainsam.frontdoor import run as run
    from domainsam.opened import open as open
    from domainsam.predictor import Predictor as Predictor

__version__ = "0.1.0"

_PLACES = {
    "run": "domainsam.frontdoor",
    "open": "domainsam.opened",
    "load_foundation": "domainsam.foundation",
    "Predictor": "domainsam.predictor",
}
"""Public names, and the modules that hold them."""

__all__ = ["Predictor", "__version__", "load_foundation", "open", "run"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
