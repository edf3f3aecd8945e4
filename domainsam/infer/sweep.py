"""Pass one: the specialist's probability, blended over the whole scene."""

from __future__ import annotations

from collections.abc import Callable

from domainsam.infer.blend import BandBlend
from domainsam.infer.networks import Networks, foreground, upsample
from domainsam.infer.options import EngineOptions
from domainsam.infer.order import ReadAhead, Recorder, Strip, batches, padded_reader
from domainsam.infer.tiling import TileGrid
from domainsam.protocols import Source

STAGE = "coarse"


def map_coarse(
    source: Source,
    networks: Networks,
    grid: TileGrid,
    strip: Strip,
    options: EngineOptions,
    recorder: Recorder,
    advanced: Callable[[int], None],
) -> None:
    """Map what is left of one column strip.

    ``advanced`` is told the number of scene pixels that each unit finished.
    """
    windows = [grid.row_windows(unit.row, strip.columns) for unit in strip.units]
    blend = BandBlend(grid.size[0], strip.columns, strip.top)
    with ReadAhead(options.workers, options.workers + options.batch_size) as reader, networks.running():
        blocks = reader.map(padded_reader(source), [window for row in windows for window in row])
        for unit, row in zip(strip.units, windows, strict=True):
            for batch in batches(blocks, len(row), options.batch_size):
                logits = networks.coarse_logits(networks.images(batch))
                probability = upsample(foreground(logits), grid.size)[:, 0].cpu().numpy()
                for block, values in zip(batch, probability, strict=True):
                    blend.add(block.index, values, block.valid)
            if not unit.repeated:
                recorder.record(unit, blend.finish(unit.rows[1]))
                advanced(unit.window.height * unit.window.width)
