"""Folders and single files, on this machine's disk or any filesystem that pyarrow knows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from pyarrow import fs

from app.crystals.readers.packing import plain_name
from app.screening.errors import ScreeningError
from app.screening.sources.items import Item, Part, Selection, SourceLimits

#: Suffixes of files in a folder or an archive that are taken for crystals; others are skipped.
SUFFIXES = frozenset({".cif", ".mcif", ".vasp", ".poscar", ".contcar", ".json", ".xsf", ".xyz", ".extxyz"})
NAMES = ("POSCAR", "CONTCAR")
#: Of `LFP_POSCAR`.
_NAME_ENDINGS = tuple(f"{sign}{name}" for name in NAMES for sign in "_-")
#: A read task has so many files: enough to be worth a task, few enough to spread over a cluster.
_FILES_IN_PART = 512


def is_crystal(path: str) -> bool:
    """Whether a file's name is one of a crystal, packed with gzip, xz or bzip2 or not."""
    parts = PurePosixPath(path).parts
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return False
    name = plain_name(parts[-1])
    if name.lower().endswith(".txt"):  # as browsers and mail programs add to `x.cif`
        name = name[: -len(".txt")]
    upper = name.upper()
    return PurePosixPath(name).suffix.lower() in SUFFIXES or upper.startswith(NAMES) or upper.endswith(_NAME_ENDINGS)


@dataclass(frozen=True, kw_only=True)
class Files:
    """A folder with its crystals, or one file.

    Attributes:
        name: as it was named.
        filesystem: where it is.
        base: path of the folder, or of the folder that holds the file.
        paths: of the files, relative to the base, in order.
    """

    name: str
    filesystem: fs.FileSystem
    base: str
    paths: tuple[str, ...]
    limits: SourceLimits

    def inputs(self) -> Iterator[str]:
        """See Source."""
        return iter(self.paths)

    def parts(self, selection: Selection, first: int | None) -> list[Part]:
        """See Source."""
        wanted = selection.ordered(path for path in self.paths[:first] if selection.wants(path))
        return [
            _FilesPart(source=self, paths=tuple(wanted[start : start + _FILES_IN_PART]))
            for start in range(0, len(wanted), _FILES_IN_PART)
        ]

    def read(self, path: str) -> Item:
        """Read one file; where that fails, the item says why."""
        name = PurePosixPath(path).name
        try:
            with self.filesystem.open_input_stream(f"{self.base}/{path}", compression=None) as stream:
                content = stream.read(self.limits.max_entry_bytes + 1)
        except OSError as error:
            return Item(input=path, name=name, content=b"", problem=f"{name} cannot be read: {error}.")
        return Item(input=path, name=name, content=content)


@dataclass(frozen=True, kw_only=True)
class _FilesPart:
    source: Files
    paths: tuple[str, ...]

    def __getstate__(self) -> tuple[Files, tuple[str, ...]]:
        """Leave out the folder's other paths: there may be a million."""
        source = self.source
        bare = Files(name=source.name, filesystem=source.filesystem, base=source.base, paths=(), limits=source.limits)
        return bare, self.paths

    def __setstate__(self, state: tuple[Files, tuple[str, ...]]) -> None:
        """Restore what was pickled."""
        object.__setattr__(self, "source", state[0])
        object.__setattr__(self, "paths", state[1])

    @property
    def count(self) -> int:
        return len(self.paths)

    def read(self) -> Iterator[Item]:
        return map(self.source.read, self.paths)


def files_below(filesystem: fs.FileSystem, folder: str, name: str) -> list[str]:
    """Paths of all files in a folder and its folders, relative to it, sorted.

    Raises:
        ScreeningError: the folder cannot be listed.
    """
    try:
        infos: Sequence[fs.FileInfo] = filesystem.get_file_info(fs.FileSelector(folder, recursive=True))
    except OSError as error:
        raise ScreeningError(f"{name} cannot be listed: {error}.") from error
    return sorted(info.path[len(folder) :].lstrip("/") for info in infos if info.type == fs.FileType.File)
