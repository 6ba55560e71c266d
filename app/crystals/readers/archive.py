"""A zip or tar as the files in it: nothing is written to disk, and names in it are never used as paths."""

import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import IO

from app.crystals.limits import Limits
from app.crystals.readers.packing import unpack
from app.crystals.readers.reading import File
from app.errors import FormatError, UnsupportedError

_CHUNK_BYTES = 1 << 16
_ENCRYPTED_FLAG = 0x1
#: What zipfile, tarfile and the packings raise at damaged bytes and (NotImplementedError) at unknown compression.
BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, ValueError, OSError),
    lzma.LZMAError,
)


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file in an archive.

    Attributes:
        path: its name there.
        size_bytes: as the archive says.
        is_encrypted: whether it needs a password.
        open: what comes out of it.
    """

    path: PurePosixPath
    size_bytes: int
    is_encrypted: bool
    open: Callable[[], IO[bytes]]

    @property
    def is_hidden(self) -> bool:
        """Whether an operating system or an editor put it there."""
        return any(part == "__MACOSX" or part.startswith(".") for part in self.path.parts)

    @property
    def folder(self) -> str:
        """The name of the folder that it is in; nothing at the top."""
        return self.path.parts[-2] if len(self.path.parts) > 1 else ""


class Archive:
    """An open archive.

    Args:
        file: as it was uploaded.
        members: its files; links and folders are left out.
        limits: how large it may be.
    """

    def __init__(self, file: File, members: Sequence[Member], limits: Limits) -> None:
        self.name = file.name
        self.members = members
        self._file = file
        self._limits = limits
        self._unpacked_bytes = 0

    def read(self, members: Sequence[Member]) -> tuple[File, ...]:
        """Unpack some of its files, also where they are packed with gzip, xz or bzip2.

        Raises:
            TooLargeError: unpacked bytes, those of earlier calls included; counted while unpacking.
        """
        self._limits.check_unpacked_bytes(self._unpacked_bytes + _sizes(members), self.name)
        return tuple(map(self._read, members))

    def has_room_for(self, members: Sequence[Member]) -> bool:
        """Whether some files, by their own word, are within the limit of unpacked bytes."""
        return self._unpacked_bytes + _sizes(members) <= self._limits.max_unpacked_bytes

    def _read(self, member: Member) -> File:
        chunks: list[bytes] = []
        with member.open() as stream:  # the size in the header may lie: count what comes out
            while chunk := stream.read(_CHUNK_BYTES):
                self._unpacked_bytes += len(chunk)
                self._limits.check_unpacked_bytes(self._unpacked_bytes, self.name)
                chunks.append(chunk)
        packed = replace(self._file, name=f"{self.name}: {str(member.path)[:100]}", content=b"".join(chunks))
        file = unpack(packed, self._limits, already_bytes=self._unpacked_bytes)
        self._unpacked_bytes += len(file.content) if file is not packed else 0
        return file


def _sizes(members: Sequence[Member]) -> int:
    return sum(member.size_bytes for member in members)


@contextmanager
def open_archive(file: File, limits: Limits) -> Iterator[Archive]:
    """Open a zip or tar.

    Raises:
        FormatError: kind "broken-zip", also where what is read of it later is broken.
        UnsupportedError: kind "encrypted-zip".
        TooLargeError: files.
    """
    is_zip = file.content.startswith(b"PK")
    try:
        with ExitStack() as stack:
            members = (_zip_members if is_zip else _tar_members)(file, limits, stack)
            limits.check_files(len(members), file.name)
            if any(member.is_encrypted for member in members):
                raise UnsupportedError(
                    f"{file.name} is encrypted.",
                    kind="encrypted-zip",
                    where=file.name,
                    expected="a zip without a password",
                )
            yield Archive(file, members, limits)
    except BROKEN as error:
        raise FormatError(
            f"{file.name} is a broken {'zip' if is_zip else 'tar'}, or its compression is not supported: {error}.",
            kind="broken-zip",
            where=file.name,
            expected="an archive as any zip or tar program writes it",
        ) from error


def name_in_zip(member: zipfile.ZipInfo) -> str:
    """The name of an entry, a folder's with a slash at its end; old programs on Windows write backslashes."""
    return member.filename.replace("\\", "/")


def _zip_members(file: File, limits: Limits, stack: ExitStack) -> list[Member]:
    del limits
    archive = stack.enter_context(zipfile.ZipFile(io.BytesIO(file.content)))
    return [
        Member(
            path=PurePosixPath(name),
            size_bytes=member.file_size,
            is_encrypted=bool(member.flag_bits & _ENCRYPTED_FLAG),
            open=partial(archive.open, member),
        )
        for member in archive.infolist()
        if not (name := name_in_zip(member)).endswith("/")
    ]


def _tar_members(file: File, limits: Limits, stack: ExitStack) -> list[Member]:
    archive = stack.enter_context(tarfile.TarFile(fileobj=io.BytesIO(file.content)))
    members = []
    for member in archive:
        if member.isfile():
            opened = partial(_opened, archive, member)
            path = PurePosixPath(member.name)
            members.append(Member(path=path, size_bytes=member.size, is_encrypted=False, open=opened))
            limits.check_files(len(members), file.name)
    return members


def _opened(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(member)
    assert stream is not None  # it is a file
    return stream
