"""Files named on the command line, as what is uploaded: bands, end points, crystals."""

import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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


def read(paths: Sequence[Path], *, ion: str | None, initial: Path | None, final: Path | None) -> list[Source]:
    """Read every file, folders of an NEB run as a zip.

    Raises:
        SourceError: nothing to predict, or one end point alone.
    """
    sources = list(_read_each(paths, ion))
    if (initial is None) != (final is None):
        raise SourceError("Two end points are needed: --initial and --final.")
    if initial is not None and final is not None:
        files = {"initial": _file(initial), "final": _file(final)}
        sources.append(Source(label=f"{initial.name} -> {final.name}", files=files, ion=ion))
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


def _read_each(paths: Sequence[Path], ion: str | None) -> Iterator[Source]:
    for path in paths:
        if path.is_dir():
            yield Source(label=path.name, files={"band": (f"{path.name}.zip", _zipped(path))}, ion=None)
        elif _is_crystal(path):
            yield Source(label=path.name, files={"structure": _file(path)}, ion=ion)
        else:
            yield Source(label=path.name, files={"band": _file(path)}, ion=None)


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
