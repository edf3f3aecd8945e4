"""Protocols of missing and noisy sensors (benchmark of Zheng et al., arXiv 2503.18445).

``subsets`` (their EMM): every choice of sensors, each for the whole data set.
``drops`` (RMM): in each sample every sensor fails by chance, at three rates.
``noise`` (NM): Gaussian noise on every sensor; the strengths are ours, as the
mean of a benchmark's own is not known.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import ConfigError
from domainsam_scene.read.modalities import Sample

PROTOCOLS = ("subsets", "drops", "noise")
DROP_RATES = (0.25, 0.5, 0.75)
NOISE_STRENGTHS = (0.1, 0.2)
"""Standard deviations of noise on images from 0 to 1."""
MOST_SENSORS = 6
"""Seven sensors would make 127 subsets, which nobody reads."""

Images = dict[str, NDArray[np.float32]]
Validity = dict[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class Variant:
    """One way to look at every sample.

    ``kind`` is ``"all"``, ``"subsets"``, ``"drops"`` or ``"noise"``;
    ``sensors`` those that may be used, ``level`` the rate or strength.
    """

    name: str
    kind: str
    sensors: tuple[str, ...]
    level: float = 0.0


def plan_variants(sensors: Sequence[str], protocols: Collection[str]) -> tuple[Variant, ...]:
    """All sensors first, then what the protocols ask for.

    Raises
    ------
    ConfigError
        If there are too many sensors for all subsets.
    """
    whole = tuple(sensors)
    found = [Variant("all sensors", "all", whole)]
    if "subsets" in protocols and len(whole) > 1:
        if len(whole) > MOST_SENSORS:
            raise ConfigError(
                f"--missing subsets: {len(whole)} sensors have {2 ** len(whole) - 1} subsets; choose at most "
                f"{MOST_SENSORS} with --modalities"
            )
        for size in range(len(whole) - 1, 0, -1):
            found += [Variant(" + ".join(some), "subsets", some) for some in combinations(whole, size)]
    if "drops" in protocols and len(whole) > 1:
        found += [Variant(f"each fails at {rate:.0%}", "drops", whole, rate) for rate in DROP_RATES]
    if "noise" in protocols:
        found += [Variant(f"noise {strength:g}", "noise", whole, strength) for strength in NOISE_STRENGTHS]
    return tuple(found)


def apply_variant(variant: Variant, sample: Sample, seed: int = 0) -> tuple[Images, Validity]:
    """Apply a variant to a sample: drop or blank sensors; empty if all of them are missing.

    Chance depends on the sample's name, the variant and the seed alone, so
    the order of samples does not matter.
    """
    kept = [name for name in variant.sensors if name in sample.images]
    rng = np.random.default_rng([seed, crc32(sample.name.encode()), crc32(variant.name.encode())])
    if variant.kind == "drops" and kept:
        luck = rng.random(len(kept))
        # One sensor always stays: the luckiest.
        kept = [
            name
            for name, drawn in zip(kept, luck, strict=True)
            if drawn >= variant.level or drawn == luck.max()
        ]
    images: Images = {name: sample.images[name] for name in kept}
    if variant.kind == "noise":
        for name, image in images.items():
            noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(variant.level)
            images[name] = np.clip(image + noise, 0, 1) * sample.valid[name]
    return images, {name: sample.valid[name] for name in kept}
