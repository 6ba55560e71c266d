"""Files named on the command line, as what is uploaded: bands, end points, crystals."""

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

CRYSTAL_SUFFIXES = frozenset({".cif", ".vasp", ".poscar"})
CRYSTAL_NAMES = ("POSCAR", "CONTCAR")
_NEB_FILES = frozenset({"POSCAR", "CONTCAR"})


class SourceError(Exception):
    """The files named do not make an upload."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One upload: the files of a form by their field, and the ion where one was named."""

    label: str
    files: dict[str, tuple[str, bytes]]
    ion: str | None


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A file that was named and cannot be read, and why; it stops no other."""

    label: str
    detail: str


def read(
    paths: Sequence[Path], *, ion: str | None, initial: Path | None, final: Path | None
) -> list[Source | Unreadable]:
    """Read every file, folders of an NEB run as a zip.

    Raises:
        SourceError: nothing to predict, or one end point alone.
    """
    sources = [_read(path.name, partial(_source, path, ion)) for path in paths]
    if (initial is None) != (final is None):
        raise SourceError("Two end points are needed: --initial and --final.")
    if initial is not None and final is not None:
        label = f"{initial.name} -> {final.name}"
        sources.append(_read(label, partial(_end_points, label, initial, final, ion)))
    if not sources:
        raise SourceError("Nothing to predict: name a FILE, or --initial and --final.")
    return sources


def read_crystals(paths: Sequence[Path]) -> list[Source]:
    """Read every file as a crystal, whatever it is called.

    Raises:
        SourceError: nothing to predict, or a folder.
    """
    folders = [path for path in paths if path.is_dir()]
    if folders or not paths:
        raise SourceError(
            f"{folders[0]} is a folder, and no crystal." if folders else "Nothing to predict: name a FILE."
        )
    return [Source(label=path.name, files={"structure": _file(path)}, ion=None) for path in paths]


def _read(label: str, read_one: Callable[[], Source]) -> Source | Unreadable:
    try:
        return read_one()
    except OSError as error:
        return Unreadable(label=label, detail=f"{error.filename} cannot be read: {error.strerror}.")


def _source(path: Path, ion: str | None) -> Source:
    if path.is_dir():
        return Source(label=path.name, files={"band": (f"{path.name}.zip", _zipped(path))}, ion=None)
    if _is_crystal(path):
        return Source(label=path.name, files={"structure": _file(path)}, ion=ion)
    return Source(label=path.name, files={"band": _file(path)}, ion=None)


def _end_points(label: str, initial: Path, final: Path, ion: str | None) -> Source:
    return Source(label=label, files={"initial": _file(initial), "final": _file(final)}, ion=ion)


def _is_crystal(path: Path) -> bool:
    return path.suffix.lower() in CRYSTAL_SUFFIXES or path.name.startswith(CRYSTAL_NAMES)


def _file(path: Path) -> tuple[str, bytes]:
    return path.name, path.read_bytes()


def _zipped(folder: Path) -> bytes:
    """Only what describes the images: an NEB folder may hold gigabytes of wave functions."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and (path.name in _NEB_FILES or path.suffix.lower() in CRYSTAL_SUFFIXES):
                archive.write(path, path.relative_to(folder).as_posix())
    return buffer.getvalue()
