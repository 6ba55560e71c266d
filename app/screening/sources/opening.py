"""From what was named on the command line to sources: what it is, its content tells, not its name."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO

import orjson
from pyarrow import fs

from app.crystals.readers.archive import BROKEN
from app.crystals.readers.packing import opened, packing_of
from app.screening.errors import ScreeningError
from app.screening.sources.archives import XZ_MEMORY_BYTES, Archive
from app.screening.sources.files import Files, files_below, is_crystal
from app.screening.sources.items import Source, SourceLimits
from app.screening.sources.tables import Kind, Table, is_table_of_folder, records_of

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_PARQUET = b"PAR1"
_TAR = slice(257, 262)
_HEAD_BYTES = 4096
_LINE_SUFFIXES = (".jsonl", ".ndjson", ".jsonlines")
#: A JSON document is parsed to see whether it is one structure or many, if it is no larger.
_LARGEST_DOCUMENT_BYTES = 200_000_000


def open_sources(names: Sequence[str], limits: SourceLimits) -> list[Source]:
    """Find out what each INPUT is; of archives and tables nothing but the first bytes is read.

    Args:
        names: paths on this machine, or URIs that pyarrow's filesystems know, such as s3://bucket/crystals.
        limits: of each.

    Raises:
        ScreeningError: one does not exist, cannot be read or holds no crystals.
    """
    return [source for name in names for source in _open(name, limits)]


def passed_by(name: str) -> list[str]:
    """Paths of the files of a folder that are not taken for crystals, relative to it; none of anything else."""
    filesystem, path = _located(name)
    if filesystem.get_file_info(path).type != fs.FileType.Directory:
        return []
    below = files_below(filesystem, path, name)
    return [] if is_table_of_folder(below) else [one for one in below if not is_crystal(one)]


def _located(name: str) -> tuple[fs.FileSystem, str]:
    try:
        if "://" in name:
            filesystem, path = fs.FileSystem.from_uri(name)
            return filesystem, str(path).rstrip("/")
    except (ValueError, OSError, NotImplementedError) as error:
        raise ScreeningError(f"{name} is on no filesystem that can be opened here: {error}.") from error
    return fs.LocalFileSystem(), Path(name).resolve().as_posix()


def _open(name: str, limits: SourceLimits) -> list[Source]:
    filesystem, path = _located(name)
    try:
        info = filesystem.get_file_info(path)
    except OSError as error:
        raise ScreeningError(f"{name} cannot be opened: {error}.") from error
    if info.type == fs.FileType.NotFound:
        raise ScreeningError(f"{name} does not exist.")
    if info.type == fs.FileType.Directory:
        return _folder(name, filesystem, path, limits)
    try:
        with filesystem.open_input_file(path) as stream:
            return [_file(name, filesystem, path, stream, limits)]
    except OSError as error:
        raise ScreeningError(f"{name} cannot be read: {error}.") from error


def _folder(name: str, filesystem: fs.FileSystem, path: str, limits: SourceLimits) -> list[Source]:
    below = files_below(filesystem, path, name)
    if is_table_of_folder(below):
        tables = [one for one in below if one.endswith(".parquet")]
        return [
            Table(
                name=f"{name}/{one}",
                filesystem=filesystem,
                path=f"{path}/{one}",
                kind="parquet",
                limits=limits,
                prefix="" if len(tables) == 1 else f"{one}/",
            )
            for one in tables
        ]
    crystals = tuple(one for one in below if is_crystal(one))
    if not crystals:
        raise ScreeningError(
            f"{name} holds no crystals: no file below it ends in .cif, .vasp, .poscar, .json, .xsf or .xyz, or is "
            "named POSCAR or CONTCAR, as LFP_POSCAR is. Name archives and tables themselves."
        )
    return [Files(name=name, filesystem=filesystem, base=path, paths=crystals, limits=limits)]


def _file(name: str, filesystem: fs.FileSystem, path: str, stream: IO[bytes], limits: SourceLimits) -> Source:
    head = stream.read(_HEAD_BYTES)
    packing = packing_of(head)
    if packing is not None:
        stream.seek(0)
        try:
            head = opened(stream, packing, xz_memory_bytes=XZ_MEMORY_BYTES).read(_HEAD_BYTES)
        except BROKEN:  # found again, and reported, where the whole file is read
            head = b""
    if head.startswith(_ZIP):
        return Archive(name=name, filesystem=filesystem, path=path, is_zip=True, limits=limits)
    if head[_TAR] == b"ustar":
        return Archive(name=name, filesystem=filesystem, path=path, is_zip=False, limits=limits)
    if head.startswith(_PARQUET):
        return Table(name=name, filesystem=filesystem, path=path, kind="parquet", limits=limits)
    file = PurePosixPath(path)
    plain = path.removesuffix(".gz").removesuffix(".xz").removesuffix(".bz2")
    if plain.endswith(_LINE_SUFFIXES):
        return Table(name=name, filesystem=filesystem, path=path, kind="json-lines", limits=limits)
    if head.lstrip()[:1] in (b"{", b"["):
        kind = _kind_of_json(stream, packing)
        if kind is not None:
            return Table(name=name, filesystem=filesystem, path=path, kind=kind, limits=limits)
    return Files(name=name, filesystem=filesystem, base=str(file.parent), paths=(file.name,), limits=limits)


def _kind_of_json(stream: IO[bytes], packing: str | None) -> Kind | None:
    stream.seek(0)
    try:
        content = (stream if packing is None else opened(stream, packing)).read(_LARGEST_DOCUMENT_BYTES)
    except BROKEN:
        return None
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        first, _, rest = content.partition(b"\n")
        try:
            orjson.loads(first)
        except orjson.JSONDecodeError:
            return None
        return "json-lines" if rest.strip() else None
    return "json" if records_of(document) else None
