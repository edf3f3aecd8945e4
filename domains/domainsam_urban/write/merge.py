"""One layer of the polygons of many scenes: duplicates become one object, and so do halves that a border cut.

Three passes, none of which holds more than some neighbouring scenes. Each scene
gives up what lies on ground on which a neighbour is believed
(:mod:`~domainsam_urban.write.seams`); what is left near neighbours is compared
with theirs (:mod:`~domainsam_urban.write.joins`); what belongs together is united
and measured anew. Numbers of polygons near borders are held for all scenes, their
outlines never.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely

from domainsam.errors import ConfigError
from domainsam.infer.components import UnionFind
from domainsam.staging import Staging, check_targets, open_scratch
from domainsam_urban.job import ScenePlan
from domainsam_urban.read.geodesy import measure_polygons
from domainsam_urban.write.joins import find_contacts, unite
from domainsam_urban.write.neighbours import Neighbourhood, order_scenes
from domainsam_urban.write.polygons import COLUMNS
from domainsam_urban.write.scenerows import SCENES, describe_joined, make_empty, read_scene
from domainsam_urban.write.seams import find_lost
from domainsam_urban.write.streamed import (
    TILES,
    check_format,
    count_rows,
    join_tables,
    write_chunks,
    write_streamed,
)

log = logging.getLogger(__name__)

HELD = 64
"""Scenes whose polygons near borders are held at a time; neighbours follow one another."""
LEAST_PIXELS = 16
"""What a seam leaves of an object is left out if it has fewer, and not half of what a scene saw."""


def check_merge(plans: Sequence[Any], targets: Sequence[Path], overwrite: bool) -> None:
    """Refuse before any work what cannot be merged.

    Raises
    ------
    ConfigError
        If scenes have no polygons or items, a format is unknown, or a file is one of a scene's.
    DependencyError
        If a driver is missing.
    OutputError
        If a file exists and may not be replaced.
    """
    for target in targets:
        check_format(target)
    if any(not isinstance(plan, ScenePlan) or not plan.vectors or plan.stac is None for plan in plans):
        raise ConfigError(
            "--merge joins polygons in folders and takes from STAC items where scenes have data: name a "
            "folder with -o, and leave out --no-stac"
        )
    mine = {path.absolute() for plan in plans for path in plan.files}
    for target in targets:
        if target.absolute() in mine:
            raise ConfigError(f"--merge '{target}' is an output of a scene: choose another name")
    if targets:
        check_targets(targets, overwrite)


def write_merged(
    plans: Sequence[ScenePlan],
    targets: Sequence[Path],
    *,
    resolution: float | None = None,
    min_area: float = 0.0,
) -> dict[str, Path]:
    """Write the polygons of all scenes that are complete as one layer, in each of several formats.

    Parameters
    ----------
    targets
        Files as :data:`~domainsam_urban.write.streamed.SUFFIXES` says; those that exist are replaced.
    resolution
        Ground pixel in metres that polygons were drawn with, where that is coarser than the scenes'.
    min_area
        Square metres; what a seam leaves of an object is left out if it is smaller.

    Returns
    -------
    The files, by kind.

    Raises
    ------
    InputError
        If a scene has no CRS, or its polygons or item cannot be read.
    OutputError
        If a file cannot be written.
    """
    done = [plan for plan in plans if plan.complete]
    with open_scratch(targets[0].absolute()) as scratch, Staging(targets, overwrite=True) as staging:
        area = order_scenes(done, resolution)
        merger = _Merger(area, scratch, min_area)
        chunks = write_chunks(merger.run(), scratch)
        for target in targets:
            if target.suffix.lower() == TILES and not count_rows(chunks):
                log.warning("%s: no polygon was found, and tiles need one: it is not written", target)
                staging.leave_out(target)
            else:
                write_streamed(chunks, staging[target], target)
    kinds = {f"merged {target.suffix[1:]}" if len(targets) > 1 else "merged": target for target in targets}
    return {kind: target for kind, target in kinds.items() if target in staging.targets}


class _Merger:
    """The three passes over a neighbourhood."""

    def __init__(self, area: Neighbourhood, folder: Path, min_area: float) -> None:
        self.area, self.folder = area, folder
        self.least = min_area
        self.first = [0]
        """Number of each scene's first polygon near a border."""
        self.sets = UnionFind()
        self.contacts: dict[int, list[int]] = {}
        self.load = lru_cache(maxsize=HELD)(self._load)

    def run(self) -> Iterator[gpd.GeoDataFrame]:
        """The merged layer in tables."""
        scenes = range(len(self.area.plans))
        for scene in scenes:
            self._split(scene)
        for one, other in self.area.near:
            self._compare(int(one), int(other))
        members = self._list_members()
        number = 1
        yield self._finish(make_empty(self.area.crs), 1)
        for scene in scenes:
            settled = gpd.read_parquet(self._path(scene, "settled"))
            opened = self._gather(scene, members.pop(scene, []))
            table = self._finish(join_tables([settled, opened]), number)
            number += len(table)
            yield table

    def _path(self, scene: int, kind: str) -> Path:
        return self.folder / f"{kind}-{scene:07d}.parquet"

    def _load(self, scene: int) -> gpd.GeoDataFrame:
        return gpd.read_parquet(self._path(scene, "open"))

    def _split(self, scene: int) -> None:
        """Leave a scene's polygons in two files: those that concern no neighbour, and the rest."""
        area = self.area
        table = read_scene(area.plans[scene], area.crs)
        mine, margin = area.grounds[scene], area.tolerance
        others = area.list_neighbours(scene)
        shapes = table.geometry.to_numpy()
        close = np.zeros(len(table), dtype=bool)
        losses = []
        for other in others:
            reach = shapely.buffer(area.grounds[other].seen, 2 * margin, join_style="mitre")
            shapely.prepare(reach)
            close |= shapely.intersects(reach, shapes)
            losses.append(find_lost(mine, area.grounds[other], scene < other, margin))
        lost = shapely.union_all(losses)
        opened = table[close].copy()
        kept = opened.geometry.to_numpy()
        if len(kept) and not shapely.is_empty(lost):
            kept = shapely.difference(kept, lost)
        opened["cut"] = ~shapely.equals(kept, opened.geometry.to_numpy()) if len(kept) else False
        opened = opened.set_geometry(gpd.GeoSeries(kept, index=opened.index, crs=area.crs))
        opened = opened.explode(ignore_index=True)
        solid = shapely.area(opened.geometry.to_numpy()) > 0
        opened = opened[solid].reset_index(drop=True)
        table[~close].to_parquet(self._path(scene, "settled"), index=False)
        opened.to_parquet(self._path(scene, "open"), index=False)
        self.first.append(self.first[-1] + len(opened))
        self.sets.grow(self.first[-1])

    def _compare(self, one: int, other: int) -> None:
        """Note which polygons of two scenes are one object; numbers count from 1."""
        ours, theirs = (self.load(scene).geometry.to_numpy() for scene in (one, other))
        for mine, its in find_contacts(ours, theirs, self.area.tolerance):
            pair = self.first[one] + mine + 1, self.first[other] + its + 1
            self.sets.join(*pair)
            self.contacts.setdefault(pair[0], []).append(pair[1])

    def _list_members(self) -> dict[int, list[list[int]]]:
        """Numbers of the polygons of each object near a border, by the first scene that it was seen in."""
        roots = self.sets.roots()
        order = np.argsort(roots, kind="stable")[1:]
        groups = np.split(order, np.flatnonzero(np.diff(roots[order])) + 1) if len(order) else []
        found: dict[int, list[list[int]]] = {}
        for group in groups:
            found.setdefault(self._scene_of(int(group[0])), []).append([int(number) for number in group])
        return found

    def _scene_of(self, number: int) -> int:
        return int(np.searchsorted(self.first, number)) - 1

    def _gather(self, scene: int, groups: Sequence[Sequence[int]]) -> gpd.GeoDataFrame:
        """Objects near borders of which a scene is the first that saw them, as rows."""
        mine = self.load(scene)
        single = [group[0] - self.first[scene] - 1 for group in groups if len(group) == 1]
        alone = mine.iloc[single].assign(largest=mine["area_m2"].iloc[single], joined=False)
        tables = [alone, *(self._unite(group) for group in groups if len(group) > 1)]
        rows = join_tables(tables).reset_index(drop=True)
        changed = (rows["cut"] | rows["joined"]).to_numpy(dtype=bool)
        measures = measure_polygons(rows.geometry.to_numpy()[changed], self.area.crs)
        rows.loc[changed, "area_m2"] = measures.area_m2
        rows.loc[changed, "area_ha"] = measures.area_m2 / 1e4
        rows.loc[changed, "perimeter_m"] = measures.perimeter_m
        # What a seam has left too little of: less than the least area, or a strip along it.
        strip = np.minimum(LEAST_PIXELS * self.area.pixel**2, rows["largest"] / 2)
        small = (
            rows["cut"].to_numpy(dtype=bool) & (rows["area_m2"] < np.maximum(self.least, strip)).to_numpy()
        )
        return rows[~small]

    def _unite(self, group: Sequence[int]) -> gpd.GeoDataFrame:
        """An object that several polygons near borders are, as rows that are not measured yet."""
        scenes = [self._scene_of(number) for number in group]
        table = join_tables(
            [
                self.load(scene).iloc[[number - self.first[scene] - 1]]
                for number, scene in zip(group, scenes, strict=True)
            ]
        )
        place = {number: index for index, number in enumerate(group)}
        contacts = [(place[one], place[its]) for one in group for its in self.contacts.get(one, ())]
        shapes = unite(list(table.geometry), contacts, self.area.tolerance)
        made = describe_joined(table, shapes, len(set(scenes)))
        return made.assign(cut=bool(table["cut"].any()), largest=float(table["area_m2"].max()), joined=True)

    def _finish(self, table: gpd.GeoDataFrame, number: int) -> gpd.GeoDataFrame:
        """Rows numbered on, with the columns of a scene's polygons."""
        table = table.assign(id=np.arange(number, number + len(table), dtype=np.int64))
        return table[[*COLUMNS, SCENES, "geometry"]]
