"""An exported encoder in int8, calibrated on pictures of the person who will use it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.foundation.exported import missing_runtime
from domainsam.foundation.picture import FITS
from domainsam.foundations import find_foundations
from domainsam.protocols import Foundation

MOST = 16
"""Pictures that activations are measured on; the extremes of more of them hardly move."""
OPERATORS = ("Conv", "MatMul", "Gemm")
"""What is computed in int8: nearly all multiplications; norms, softmax and sums stay in float32."""

Quantiser = Callable[[Path, Path], None]


class Calibration:
    """Pictures as the encoder's input, one after the other, as ``onnxruntime.quantization`` asks for them."""

    def __init__(self, foundation: Foundation, pictures: Sequence[NDArray[np.uint8]]) -> None:
        fit = FITS[find_foundations()[foundation.name].fit]
        self._inputs: Iterator[dict[str, NDArray[Any]]] = (
            {"images": fit(picture, foundation.image_size)[0].numpy()} for picture in pictures
        )

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next picture, None after the last."""
        return next(self._inputs, None)


def make_quantiser(foundation: Foundation, pictures: Sequence[NDArray[np.uint8]]) -> Quantiser:
    """A function that writes an encoder in int8, given the path of the one in float32 and its own.

    Weights by output channel, signed, and activations by tensor, unsigned; weights have 7 bits, because
    sums of 8-bit products overflow on CPUs without VNNI (``reduce_range`` of ONNX Runtime's documentation).

    Raises
    ------
    DependencyError
        If ONNX Runtime is not installed, which OpenVINO's files need here too.
    """
    try:
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    except ImportError as error:
        raise missing_runtime("onnx") from error

    def quantise(source: Path, made: Path) -> None:
        root = logging.getLogger()
        level = root.level
        # It recommends a step of preparation, on the root logger, that these graphs have been through.
        root.setLevel(logging.ERROR)
        try:
            quantize_static(
                source,
                made,
                Calibration(foundation, pictures[:MOST]),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(OPERATORS),
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        finally:
            root.setLevel(level)

    return quantise
