"""Runtimes that tests need; who lacks one passes its tests over, by name."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


def need_runtime(runtime: str) -> None:
    """Skip a test whose runtime is not installed.

    The package is looked for and not imported: OpenVINO's reports that it is, see
    :func:`domainsam.foundation.exported.import_openvino`.
    """
    for package in ("onnx", "onnxruntime" if runtime == "onnx" else "openvino"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed: extra {runtime}")
