"""Files named on the command line, as what is uploaded: bands, end points, crystals."""

import io
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

CRYSTAL_SUFFIXES = frozenset({".cif", ".vasp", ".poscar"})
CRYSTAL_NAMES = ("POSCAR", "CONTCAR")
_PACKED_SUFFIXES = frozenset({".gz", ".xz", ".bz2"})
#: pymatgen's or OPTIMADE's structures; and, of these and of others, a band or a list.
_STRUCTURE_JSON = re.compile(rb'"sites"\s*:|"cartesian_site_positions"\s*:')
_BAND_JSON = re.compile(rb'\A\s*\[|"lattice_angstrom"|"nextid"|"data"\s*:\s*\[')
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


@dataclass(frozen=True, kw_only=True)
class Input:
    """What was named on the command line, to be read from disk when its turn comes.

    Attributes:
        label: its name in every output.
        load: reads it; OSError where that fails.
    """

    label: str
    load: Callable[[], Source]

    def read(self) -> Source | Unreadable:
        """Read it from disk."""
        try:
            return self.load()
        except OSError as error:
            return Unreadable(label=self.label, detail=f"{error.filename} cannot be read: {error.strerror}.")


def inputs_of(paths: Sequence[Path], *, ion: str | None, initial: Path | None, final: Path | None) -> list[Input]:
    """The inputs that were named; nothing is read yet. A folder of an NEB run is one, sent as a zip.

    Raises:
        SourceError: nothing to predict, or one end point alone.
    """
    inputs = [Input(label=path.name, load=partial(_source, path, ion)) for path in paths]
    if (initial is None) != (final is None):
        raise SourceError("Two end points are needed: --initial and --final.")
    if initial is not None and final is not None:
        label = f"{initial.name} -> {final.name}"
        inputs.append(Input(label=label, load=partial(_end_points, label, initial, final, ion)))
    if not inputs:
        raise SourceError("Nothing to predict: name a FILE, or --initial and --final.")
    return inputs


def crystals_of(paths: Sequence[Path]) -> list[Input]:
    """The same of files that are crystals, whatever they are called.

    Raises:
        SourceError: nothing to predict, or a folder.
    """
    folders = [path for path in paths if path.is_dir()]
    if folders or not paths:
        raise SourceError(
            f"{folders[0]} is a folder, not a crystal's file." if folders else "Nothing to predict: name a FILE."
        )
    return [Input(label=path.name, load=partial(_crystal, path, None)) for path in paths]


def _source(path: Path, ion: str | None) -> Source:
    if path.is_dir():
        return Source(label=path.name, files={"band": (f"{path.name}.zip", _zipped(path))}, ion=None)
    if _is_crystal(path):
        return _crystal(path, ion)
    return Source(label=path.name, files={"band": _file(path)}, ion=None)


def _crystal(path: Path, ion: str | None) -> Source:
    return Source(label=path.name, files={"structure": _file(path)}, ion=ion)


def _end_points(label: str, initial: Path, final: Path, ion: str | None) -> Source:
    return Source(label=label, files={"initial": _file(initial), "final": _file(final)}, ion=ion)


def _is_crystal(path: Path) -> bool:
    name = _plain(path)
    if name.suffix.lower() == ".json":
        content = path.read_bytes()
        return _STRUCTURE_JSON.search(content) is not None and _BAND_JSON.search(content) is None
    return name.suffix.lower() in CRYSTAL_SUFFIXES or name.name.startswith(CRYSTAL_NAMES)


def _plain(path: Path) -> Path:
    """A name without the ending of a packing."""
    return path.with_suffix("") if path.suffix.lower() in _PACKED_SUFFIXES else path


def _file(path: Path) -> tuple[str, bytes]:
    return path.name, path.read_bytes()


def _zipped(folder: Path) -> bytes:
    """Only what describes the images: an NEB folder may hold gigabytes of wave functions."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            plain = _plain(path)
            if path.is_file() and (plain.name in _NEB_FILES or plain.suffix.lower() in CRYSTAL_SUFFIXES):
                archive.write(path, path.relative_to(folder).as_posix())
    return buffer.getvalue()
