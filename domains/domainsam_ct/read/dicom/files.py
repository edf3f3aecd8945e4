"""Open the files of a DICOM series in a folder or zip file.

Names of files and folders often hold patients' names, so no message repeats
them; only the path that the user typed is told.
"""

from __future__ import annotations

import io
import logging
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import pydicom
from pydicom.errors import BytesLengthException
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from domainsam.errors import InputError, MissingInputError
from domainsam.limits import find_budget, format_bytes

MEMBER_BYTES = 1 << 30
"""No single slice is larger; a zip entry that claims more is a trap."""
MEDIA_DIRECTORY = "DICOMDIR"
"""An index of files, never an image."""
VOLUME_NAMES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".nhdr")
RAW_GROUPS = (b"\x02\x00", b"\x08\x00")
"""Groups that files begin with which lack the 128 bytes before the letters DICM."""
RAW_LONGEST = 1024
"""Bytes of the first value of such a file; anything longer is no DICOM."""
SNIFFED = 132
"""Bytes that tell whether a file is DICOM."""


class DicomFiles:
    """The files under a folder or inside a zip file, opened by number.

    Parameters
    ----------
    path
        Folder, searched with everything below it, ``.zip``, or one DICOM file by itself.
    below
        Whether folders within the folder are searched too.

    Raises
    ------
    InputError
        If the zip file is damaged, locked by a password, or too large to be true.
    """

    def __init__(self, path: Path, below: bool = True) -> None:
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        self._members: list[Any]
        if path.is_dir():
            inside = path.rglob("*") if below else path.iterdir()
            self._members = sorted(p for p in inside if p.is_file() and _wanted(p.name))
            return
        if path.suffix.lower() != ".zip" and is_dicom_file(path):
            self._members = [path]
            return
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise
        except Exception as error:
            # zipfile lets errors of struct, of codecs and of arithmetic through.
            raise InputError(
                f"{path}: is not a zip file, or a damaged one; copy or download it again"
            ) from error
        self._members = sorted(
            (m for m in self._zip.infolist() if not m.is_dir() and _wanted(Path(m.filename).name)),
            key=lambda member: member.filename,
        )
        if any(member.flag_bits & 1 for member in self._members):
            self.close()
            raise InputError(f"{path}: is locked by a password; unpack it first")

    def name(self, number: int) -> str:
        """Where a file lies within the folder or zip file."""
        member = self._members[number]
        if self._zip is not None:
            return str(member.filename)
        return str(member.relative_to(self.path)) if member != self.path else member.name

    def size(self, number: int) -> int:
        """Bytes of a file."""
        member = self._members[number]
        return int(member.stat().st_size if self._zip is None else member.file_size)

    def is_file(self, number: int, path: Path) -> bool:
        """Whether the file of that number is this one."""
        return self._zip is None and self._members[number].name == path.name

    def __len__(self) -> int:
        return len(self._members)

    @property
    def volumes(self) -> int:
        """How many are volumes of other formats, which are cases of their own."""
        names = [member.name if self._zip is None else member.filename for member in self._members]
        return sum(name.lower().endswith(VOLUME_NAMES) for name in names)

    @contextmanager
    def open(self, number: int) -> Iterator[IO[bytes]]:
        """One file's bytes.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        member = self._members[number]
        try:
            if self._zip is None:
                with member.open("rb") as file:
                    yield file
                return
            if member.file_size > min(MEMBER_BYTES, find_budget() // 4):
                raise InputError(
                    f"{self.path}: holds a file of {format_bytes(member.file_size)}, which is no CT slice, "
                    "or more than the memory there is for one (--max-memory)"
                )
            with io.BytesIO(self._zip.read(member)) as memory:
                yield memory
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, struct.error) as error:
            raise InputError(f"{self.path}: is a damaged zip file; copy or download it again") from error
        except PermissionError as error:
            raise MissingInputError(f"{self.path}: a file in it cannot be read; check permissions") from error

    def close(self) -> None:
        """Close the zip file, if it is one."""
        if self._zip is not None:
            self._zip.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_dataset(stream: IO[bytes], tags: list[str] | None = None) -> Any | None:
    """A ``pydicom.Dataset``: all of it, or only ``tags``; None where the bytes are not DICOM.

    pydicom's warnings quote values, which may be a patient's, and are kept quiet.
    """
    if not is_dicom(stream.read(SNIFFED)):
        return None
    stream.seek(0)
    with silence_libraries():
        try:
            if tags is None:
                return _with_syntax(pydicom.dcmread(stream, force=True))
            found = pydicom.dcmread(stream, force=True, stop_before_pixels=True, specific_tags=tags)
            return _with_syntax(_convert_values(found))
        except MemoryError:
            raise
        except Exception:
            # Damage makes pydicom fail in ways that no list of errors foresees.
            return None


def _convert_values(dataset: Any) -> Any:
    """The same dataset, every value converted now, so that none surprises later.

    One of a length that its type cannot have is damage, and raises; one that is
    only not what it should be, such as a number with letters, counts as absent.
    """
    for tag in list(dataset.keys()):
        try:
            element = dataset[tag]
        except BytesLengthException:
            raise
        except Exception:
            del dataset[tag]
            continue
        if element.VR == "SQ":
            for item in element.value:
                _convert_values(item)
    return dataset


def _with_syntax(dataset: Any) -> Any:
    """The same dataset; where the file does not say how it is coded, as it was found to be."""
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        known = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        dataset.file_meta.TransferSyntaxUID = known if little is not False else ExplicitVRBigEndian
    return dataset


def is_dicom(start: bytes) -> bool:
    """Whether a file that starts so is DICOM: the letters DICM, or a first tag as files without them have."""
    if start[128:132] == b"DICM":
        return True
    if start[:2] not in RAW_GROUPS or len(start) < 8:
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return explicit or int.from_bytes(start[4:8], "little") <= RAW_LONGEST


def is_dicom_file(path: Path) -> bool:
    """Whether a path is a file that begins as DICOM does."""
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(SNIFFED))
    except OSError:
        return False


@contextmanager
def silence_libraries() -> Iterator[None]:
    """No warnings and no log lines from libraries that quote header values in them."""
    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL + 1)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _wanted(name: str) -> bool:
    return name.upper() != MEDIA_DIRECTORY and not name.startswith(".")
