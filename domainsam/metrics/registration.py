"""Find how far one picture is displaced against another, by phase correlation.

The cross-power spectrum of two pictures of one place, each frequency scaled to
length one, is the spectrum of a peak that stands at their displacement (Kuglin
and Hines 1975). The peak is found to a fraction of a pixel by evaluating its
spectrum on a finer grid around the highest pixel, as a product of two small
matrices (Guizar-Sicairos, Thurman and Fienup 2008).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FINE = 50
"""Steps a pixel in which the peak is refined."""


@dataclass(frozen=True)
class Displacement:
    """Rows and columns by which a second picture lies behind a first, and how high the peak is.

    ``peak`` is in standard deviations of the whole correlation; 0 where the pictures hold nothing to compare.
    """

    rows: float
    cols: float
    peak: float


def correlate_phase(
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    blur: float = 0.0,
    reach: tuple[int, int] | None = None,
) -> Displacement:
    """Where the content of ``second`` lies against ``first``, ``(h, w)`` float32 that fade to 0 at the rim.

    What stands at row ``r`` of the first stands at ``r + rows`` of the second; columns likewise.

    Parameters
    ----------
    blur
        Standard deviation in pixels of the smoothing of the correlation in
        which the peak is looked for; for pictures that agree in part alone.
    reach
        Rows and columns that the peak is looked for in, either way; all if not given.
    """
    spectrum = np.conj(np.fft.rfft2(first)) * np.fft.rfft2(second)
    size = np.abs(spectrum)
    # Frequencies without any power hold only rounding; scaled to length one they would be noise.
    spectrum = np.divide(spectrum, size, out=np.zeros_like(spectrum), where=size > size.max() * 1e-9)
    seen = _smoothed(spectrum, first.shape, blur) if blur else spectrum
    surface = np.fft.fftshift(np.fft.irfft2(seen, s=first.shape))
    spread = float(surface.std())
    if not spread > 0:
        return Displacement(0.0, 0.0, 0.0)
    middle = [side // 2 for side in surface.shape]
    start = [max(0, centre - far) for centre, far in zip(middle, reach or middle, strict=True)]
    near = surface[
        tuple(
            slice(low, centre + far + 1)
            for low, centre, far in zip(start, middle, reach or middle, strict=True)
        )
    ]
    place = np.unravel_index(int(near.argmax()), near.shape)
    row, col = (int(index) + low - centre for index, low, centre in zip(place, start, middle, strict=True))
    peak = (float(near[place]) - float(surface.mean())) / spread
    # High frequencies of resampled pictures carry the resampling and not the place: they count for less.
    return Displacement(*_refine(_smoothed(spectrum, first.shape, 1.0), first.shape, row, col), peak)


def _frequencies(shape: tuple[int, ...]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Cycles a pixel of the rows ``(h,)`` and columns ``(w // 2 + 1,)`` of a real picture's spectrum."""
    return np.fft.fftfreq(shape[0]), np.fft.rfftfreq(shape[1])


def _smoothed(
    spectrum: NDArray[np.complexfloating], shape: tuple[int, ...], blur: float
) -> NDArray[np.complexfloating]:
    """The spectrum of what ``spectrum`` belongs to, smoothed by a Gaussian of ``blur`` pixels."""
    down, across = (np.exp(-2 * (np.pi * blur * each) ** 2) for each in _frequencies(shape))
    return spectrum * np.outer(down, across).astype(spectrum.real.dtype)


def _refine(
    spectrum: NDArray[np.complexfloating], shape: tuple[int, ...], row: int, col: int
) -> tuple[float, float]:
    """The peak's place to a fraction of a pixel."""
    offsets = np.arange(-FINE, FINE + 1) / FINE
    along_rows, along_cols = _frequencies(shape)
    # The spectrum holds half of the columns; all but the first and the middle one stand for two.
    twice = np.where((along_cols == 0) | (along_cols == 0.5), 1, 2)[:, None]
    down = np.exp(2j * np.pi * np.outer(row + offsets, along_rows))
    across = twice * np.exp(2j * np.pi * np.outer(along_cols, col + offsets))
    fine = (down.astype(spectrum.dtype) @ spectrum @ across.astype(spectrum.dtype)).real
    best = np.unravel_index(int(fine.argmax()), fine.shape)
    return row + float(offsets[best[0]]), col + float(offsets[best[1]])
