"""``domainsam weights``: list, fetch and verify published weight files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from domainsam.errors import WeightsError
from domainsam.foundations import find_foundations
from domainsam.signatures import shipped_weights, verify_shipped
from domainsam.staging import check_targets
from domainsam.weights import (
    fetch,
    file_sha256,
    find_known,
    find_weights,
    locate_weights,
    published,
    read_record,
    verify,
)
from domainsam_cli.console import echo
from domainsam_cli.options import overwrite_option


@click.group()
def weights() -> None:
    r"""Published weights of foundations: what there is, what is here.

    The embedded foundation needs none of these.

    \b
    Examples:
      domainsam weights list
      domainsam weights fetch sam_vit_b
      domainsam weights verify
    """


@weights.command("list")
def list_weights() -> None:
    """Known files, and where they are on this machine."""
    for entry in published().values():
        place = locate_weights(entry.name) or "not here"
        echo(f"{entry.name:22} {entry.megabytes:5} MB  {entry.licence}  {place}")
        echo(f"{'':22} {entry.url or 'nothing is published: a file of your own, named ' + entry.file}")
        echo(f"{'':22} sha256 {entry.sha256 or 'unknown: nobody has published one'}")


@weights.command("fetch")
@click.argument("name", metavar="NAME")
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Folder to put it in.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def fetch_weights(name: str, folder: Path | None, quiet: bool) -> None:
    """Download the official file of NAME and check it.

    Goes on where an earlier attempt stopped. Proxies are taken from
    https_proxy and no_proxy.
    """
    entry = find_known(name)
    notice = find_foundations()[name].notice
    if notice:
        echo(f"domainsam: note: {notice}", err=True)
    with _progress(entry.file, quiet or not sys.stderr.isatty()) as report:
        path = fetch(name, folder, report)
    if entry.sha256 is None:
        found = file_sha256(path)
        echo(f"{path}  checksum unknown, its sha256 is {found}: compare it with a source you trust")
        echo(f"{'':{len(str(path))}}  {entry.licence}")
        return
    echo(f"{path}  checked, {entry.licence}")


@weights.command("verify")
@click.argument("names", metavar="[NAME]...", nargs=-1)
def verify_weights(names: tuple[str, ...]) -> None:
    """Check the files on this machine, or those of the given names.

    Published files are checked by their checksum, those inside the packages by
    their signature.
    """
    shipped = shipped_weights()
    chosen = names or tuple(name for name in published() if locate_weights(name))
    if not chosen:
        echo("no published weights on this machine; the embedded foundation needs none")
    faults = []
    for name in names or (*chosen, *shipped):
        try:
            echo(_checked(name, shipped.get(name)))
        except WeightsError as error:
            faults.append(str(error))
    if faults:
        raise WeightsError("; ".join(faults))


@weights.command("convert")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Model file, .safetensors.")
@click.option("--foundation", help="Name or file of the frozen generalist [default: the published one].")
@click.option("--labels", help="Class names with commas [default: those of the published data set].")
@click.option("--modality", "modalities", multiple=True, help="Sensor, in the order of training; repeat.")
@overwrite_option
def convert_weights(
    file: Path,
    out: Path,
    foundation: str | None,
    labels: str | None,
    modalities: tuple[str, ...],
    overwrite: bool,
) -> None:
    r"""Make a model file of a released checkpoint: UV-SAM, SAM-LST or MemorySAM.

    Which system it is its tensors tell. Every tensor is accounted for: taken,
    equal to the frozen foundation's, or known not to be needed; code in the
    file is never run. The result is what --model takes.

    \b
    Examples:
      domainsam weights convert memorysam.pth -o memorysam.safetensors
      domainsam weights convert epoch_199.pth -o lst.safetensors --foundation sam_vit_b_01ec64.pth
    """
    from domainsam.packs import convert_checkpoint
    from domainsam.released import ConvertOptions

    names = tuple(name.strip() for name in (labels or "").split(",") if name.strip())
    check_targets([out], overwrite=overwrite)
    found = convert_checkpoint(file, ConvertOptions(out, foundation, names, modalities, overwrite))
    echo(found.sentence())
    for note in found.notes:
        echo(f"domainsam: note: {note}", err=True)
    echo(f"{found.out}  model of the {found.pack} pack: domainsam {found.pack} ... --model {found.out}")


def _checked(name: str, shipped: Path | None) -> str:
    """A line about a file that is good."""
    if shipped is None and name not in published() and Path(name).is_file():
        return _told_of_own(Path(name))
    if shipped is None:
        known = find_known(name).sha256 is not None
        first = not known and read_record(find_weights(name)) is None
        path = verify(name)
        if known:
            return f"{name}: good ({path})"
        since = "recorded now" if first else "as it was when first used"
        return f"{name}: checksum unknown, {since}: sha256 {file_sha256(path)} ({path})"
    if verify_shipped(shipped) == "checksum":
        return f"{name}: good by its checksum, unsigned without 'domainsam[sign]' ({shipped})"
    return f"{name}: good, signed ({shipped})"


def _told_of_own(path: Path) -> str:
    """A line about a file that was given by its path."""
    found = file_sha256(path)
    same = next((row.name for row in published().values() if row.sha256 == found), None)
    if same is not None:
        return f"{path}: good, the published file of {same}"
    return f"{path}: a file of your own, sha256 {found}; there is nothing to compare it with"


@contextmanager
def _progress(label: str, silent: bool) -> Iterator[Callable[[int, int | None], None] | None]:
    """A progress bar on a terminal, nothing elsewhere."""
    if silent:
        yield None
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        *Progress.get_default_columns()[:2],
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=None)
        yield lambda have, total: bar.update(task, completed=have, total=total)
