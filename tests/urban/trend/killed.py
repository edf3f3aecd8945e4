"""A trend that ends itself with SIGKILL at a chosen moment: run as a program by the tests."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any


def kill_at(owner: Any, name: str, count: int, after: bool) -> None:
    """Let the ``count``-th call of a method kill the process, before or after it has done its work."""
    whole: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def deadly(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        last = calls == count
        if last and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = whole(*args, **kwargs)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(owner, name, deadly)


def main() -> int:
    """``killed.py MOMENT COUNT before|after ARGUMENTS``: ``domainsam ARGUMENTS``, unto that moment."""
    moment, count, when, *arguments = sys.argv[1:]
    from domainsam.infer.journal import Journal
    from domainsam.staging import Staging
    from domainsam_cli import main as domainsam
    from domainsam_urban.trend import trend as pipeline
    from tests.urban.tiny import tiny_model

    owners = {"journal": (Journal, "append"), "publish": (Staging, "_publish")}
    vars(pipeline)["load_model"] = lambda options: tiny_model()
    kill_at(*owners[moment], int(count), when == "after")
    return domainsam(arguments)


if __name__ == "__main__":
    sys.exit(main())
