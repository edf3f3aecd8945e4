"""Map scenes into an object store: every file is made here and put there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from domainsam.errors import ConfigError
from domainsam.infer.outputs import OutputPlan
from domainsam.remote import any_there, check_addresses, find_address, put_files, read_done
from domainsam_urban.job import ScenePlan, SceneResult


@dataclass(frozen=True)
class RemotePlan(OutputPlan):
    """A scene whose files go to an object store; paths of ``plan`` stand for addresses."""

    plan: ScenePlan

    @property
    def source(self) -> str:
        """The scene."""
        return self.plan.source

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file, as the plan has it."""
        return self.plan.files

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where every file goes."""
        return tuple(str(find_address(path)) for path in self.files)

    @property
    def complete(self) -> bool:
        """Whether the store says that every file is there, and has them."""
        return read_done(self.addresses) is not None

    @property
    def begun(self) -> bool:
        """Whether any file is there already."""
        return any_there(self.addresses)

    def check(self, overwrite: bool, tried: set[Path] | None = None) -> None:
        """Refuse outputs that exist, or a store that does not answer."""
        check_addresses(self.addresses, overwrite)

    def may_replace(self, overwrite: bool, resume: bool) -> bool:
        """Of a run that goes on, what is there without being complete is its own."""
        return overwrite or resume


def find_remote(plans: tuple[ScenePlan, ...]) -> tuple[ScenePlan, ...] | tuple[RemotePlan, ...]:
    """The plans, or those of an object store if that is where the files go.

    Raises
    ------
    ConfigError
        If a scene's files go to a store in part.
    """
    there = {find_address(path) is not None for plan in plans for path in plan.files}
    if there == {True, False}:
        raise ConfigError("some outputs go to an object store and some do not: name all of them in one")
    return tuple(RemotePlan(plan) for plan in plans) if there == {True} else plans


def map_into_store(remote: RemotePlan, run: Callable[[ScenePlan], SceneResult]) -> SceneResult:
    """Map a scene in a folder of its own, and put its files where they belong.

    Raises
    ------
    OutputError
        If the store refuses one.
    DomainSamError
        As ``run`` does.
    """
    with TemporaryDirectory(prefix="domainsam-") as scratch:
        places = {path: Path(scratch) / str(path).partition(":/")[2].lstrip("/") for path in remote.files}

        def here(path: Path) -> Path:
            return places[path]

        plan = remote.plan
        kinds = ("probability", "mask", "preview", "summary", "stac")
        moved: dict[str, Any] = {kind: getattr(plan, kind) and here(getattr(plan, kind)) for kind in kinds}
        local = replace(plan, vectors=tuple(map(here, plan.vectors)), **moved)
        result = run(local)
        back = {places[path]: str(find_address(path)) for path in remote.files}
        for path in (local.stac, local.summary):
            if path is not None:
                _tell_addresses(path, {str(file): address for file, address in back.items()})
        put_files([(file, back[file]) for file in local.files])
        return replace(result, paths={kind: Path(back[path]) for kind, path in result.paths.items()})


def _tell_addresses(path: Path, back: dict[str, str]) -> None:
    """Have a document name addresses in the place of files here, and a scene by its whole path."""
    document = json.loads(path.read_text(encoding="utf-8"))
    for link in document.get("links", ()):
        if link.get("rel") == "derived_from" and "://" not in link["href"] and link["href"].startswith("."):
            link["href"] = (path.parent / link["href"]).resolve().as_uri()
    if "paths" in document:
        document["paths"] = {kind: back.get(file, file) for kind, file in document["paths"].items()}
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
