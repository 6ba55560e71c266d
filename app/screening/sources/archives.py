"""Tar and zip archives, read as a stream: nothing is written to disk, and nothing is kept of what has been read."""

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from pyarrow import fs

from app.crystals.readers.archive import BROKEN, name_in_zip
from app.crystals.readers.packing import opened, packing_of
from app.screening.errors import ScreeningError
from app.screening.sources.files import is_crystal
from app.screening.sources.items import Item, Part, Selection, SourceLimits, selected

_CHUNK_BYTES = 1 << 20
_ENCRYPTED_FLAG = 0x1
#: xz may ask for a dictionary of gigabytes; `xz -9` needs 65 MiB.
XZ_MEMORY_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True)
class _Entry:
    path: str
    size_bytes: int
    read: Callable[[int], bytes]


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A tar, packed or not, or a zip.

    Attributes:
        name: as it was named.
        filesystem, path: where it is.
        is_zip: a tar where not.
    """

    name: str
    filesystem: fs.FileSystem
    path: str
    is_zip: bool
    limits: SourceLimits

    def inputs(self) -> Iterator[str]:
        """See Source; a tar is unpacked for it once, to nowhere."""
        return (entry.path for entry in self._entries())

    def parts(self, selection: Selection, first: int | None) -> list[Part]:
        """See Source: a stream is one part."""
        return [_ArchivePart(archive=self, selection=selection, first=first)]

    def items(self) -> Iterator[Item]:
        """Every crystal of it."""
        most = self.limits.max_entry_bytes
        for entry in self._entries():
            name = PurePosixPath(entry.path).name
            try:
                content = entry.read(most + 1)
            except (*BROKEN, RuntimeError) as error:
                if not self.is_zip:  # what is broken is the stream, with all that follows
                    raise
                yield Item(input=entry.path, name=name, content=b"", problem=f"{name} cannot be unpacked: {error}.")
            else:
                yield Item(input=entry.path, name=name, content=content)

    def _entries(self) -> Iterator[_Entry]:
        try:
            with self.filesystem.open_input_file(self.path) as packed:
                yield from (self._zip_entries if self.is_zip else self._tar_entries)(packed)
        except BROKEN as error:
            kind = "zip" if self.is_zip else "tar"
            raise ScreeningError(
                f"{self.name} is a broken {kind}, or one whose compression is not read: {error}."
            ) from error

    def _zip_entries(self, packed: IO[bytes]) -> Iterator[_Entry]:
        unpacked_bytes = 0
        with zipfile.ZipFile(packed) as archive:
            for count, member in enumerate(archive.infolist(), start=1):
                path = name_in_zip(member)
                if path.endswith("/"):
                    continue
                mode = member.external_attr >> 16
                self._check_entry(path, is_link=stat.S_ISLNK(mode))
                if member.flag_bits & _ENCRYPTED_FLAG:
                    raise ScreeningError(f"{self.name} is encrypted: {member.filename[:100]} needs a password.")
                unpacked_bytes += member.file_size
                # the size that is stated; zipfile reads no more than that of an entry
                self.limits.check(self.name, entries=count, unpacked_bytes=unpacked_bytes, packed_bytes=_size(packed))
                if is_crystal(path):

                    def read(most: int, member: zipfile.ZipInfo = member) -> bytes:
                        with archive.open(member) as stream:
                            return stream.read(most)

                    yield _Entry(path=path, size_bytes=member.file_size, read=read)

    def _tar_entries(self, packed: IO[bytes]) -> Iterator[_Entry]:
        packing = packing_of(packed.read(8))
        packed.seek(0)
        stream = packed if packing is None else opened(packed, packing, xz_memory_bytes=XZ_MEMORY_BYTES)
        entries = 0

        def check(unpacked_bytes: int) -> None:
            self.limits.check(self.name, entries=entries, unpacked_bytes=unpacked_bytes, packed_bytes=packed.tell())

        counted = _Counted(stream, check)
        with tarfile.open(fileobj=counted, mode="r|", bufsize=_CHUNK_BYTES) as archive:
            for member in archive:
                entries += 1
                check(counted.count)
                archive.members.clear()  # type: ignore[attr-defined] # typeshed lacks it; every header seen is kept there
                self._check_entry(member.name, is_link=member.issym() or member.islnk())
                if member.isfile() and is_crystal(member.name):

                    def read(most: int, member: tarfile.TarInfo = member) -> bytes:
                        stream = archive.extractfile(member)
                        assert stream is not None  # it is a file
                        return stream.read(most)

                    yield _Entry(path=member.name.removeprefix("./"), size_bytes=member.size, read=read)

    def _check_entry(self, path: str, *, is_link: bool) -> None:
        """Refuse what an honest archive of crystals does not hold."""
        pure = PurePosixPath(path.replace("\\", "/"))
        what = (
            "is a link"
            if is_link
            else "has an absolute path"
            if pure.is_absolute() or (pure.parts and pure.parts[0].endswith(":"))
            else "has a path with .."
            if ".." in pure.parts
            else None
        )
        if what:
            raise ScreeningError(
                f"{self.name}: the entry {path[:200]!r} {what}, which is refused. Pack plain files under relative "
                "paths."
            )


class _Counted(io.RawIOBase):
    """A stream that refuses, before they are given on, more bytes than the limits allow.

    Args:
        stream: what comes out of the archive's packing.
        check: takes how many bytes that are by now.
    """

    def __init__(self, stream: IO[bytes], check: Callable[[int], None]) -> None:
        self._stream = stream
        self._check = check
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(size)
        self.count += len(chunk)
        self._check(self.count)
        return chunk


@dataclass(frozen=True, kw_only=True)
class _ArchivePart:
    archive: Archive
    selection: Selection
    first: int | None

    @property
    def count(self) -> int:
        return self.first or 1

    def read(self) -> Iterator[Item]:
        return selected(self.archive.items(), self.selection, self.first)


def _size(packed: IO[bytes]) -> int:
    """Bytes of a file that is open."""
    here = packed.tell()
    size = packed.seek(0, io.SEEK_END)
    packed.seek(here)
    return size
