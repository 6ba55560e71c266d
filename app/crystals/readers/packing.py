"""Single files packed with gzip, xz or bzip2, unpacked under the limit of unpacked bytes."""

import bz2
import gzip
import io
import lzma
import zlib
from dataclasses import replace
from typing import IO, Any, cast

from app.crystals.limits import Limits
from app.crystals.readers.reading import File
from app.errors import FormatError

_CHUNK_BYTES = 1 << 16
#: A packed tar is one layer; nobody packs more than two times by intention.
_MOST_LAYERS = 2
#: xz may ask for a dictionary of gigabytes.
_MOST_XZ_MEMORY = 64 << 20
_MAGIC = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\x00": "xz", b"BZh": "bzip2"}
_ENDINGS = (".gz", ".xz", ".bz2", ".tgz")


def unpack(file: File, limits: Limits, *, already_bytes: int = 0) -> File:
    """Unpack a file that is packed; one that is not is given back as it is.

    Args:
        file: as it was uploaded.
        limits: how large it may be.
        already_bytes: what was unpacked of the same upload before it.

    Raises:
        FormatError: kind "broken-packing".
        TooLargeError: unpacked bytes, counted while unpacking.
    """
    for _ in range(_MOST_LAYERS):
        packing = packing_of(file.content)
        if packing is None:
            break
        limits.check_bytes(len(file.content), file.name)
        content = _read(file, packing, limits, already_bytes)
        file = replace(file, name=_shortened(file.name), content=content)
    return file


def plain_name(name: str) -> str:
    """A name without the ending that a packing adds."""
    return _shortened(name)


def packing_of(content: bytes) -> str | None:
    """How content that begins so is packed: gzip, xz, bzip2, or None."""
    return next((packing for magic, packing in _MAGIC.items() if content.startswith(magic)), None)


def _shortened(name: str) -> str:
    return next((name[: -len(ending)] for ending in _ENDINGS if name.lower().endswith(ending)), name)


def _read(file: File, packing: str, limits: Limits, already_bytes: int) -> bytes:
    packed = io.BytesIO(file.content)
    chunks: list[bytes] = []
    total = already_bytes
    try:
        with opened(packed, packing) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                total += len(chunk)
                limits.check_unpacked_bytes(total, file.name)
                chunks.append(chunk)
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise FormatError(
            f"{file.name} is packed with {packing} and cannot be unpacked: {str(error)[:100]}.",
            kind="broken-packing",
            where=file.name,
            expected="the whole file, or the file unpacked",
        ) from error
    return b"".join(chunks)


class _Xz(io.RawIOBase):
    """An xz stream whose dictionary is bounded, which `lzma.LZMAFile` cannot do."""

    def __init__(self, packed: IO[bytes], memory_bytes: int) -> None:
        self._packed = packed
        self._decompressor = lzma.LZMADecompressor(memlimit=memory_bytes)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        while not self._decompressor.eof:
            more = self._packed.read(_CHUNK_BYTES) if self._decompressor.needs_input else b""
            if not more and self._decompressor.needs_input:
                raise EOFError("it ends before the end-of-stream marker")
            if chunk := self._decompressor.decompress(more, len(view)):
                view[: len(chunk)] = chunk
                return len(chunk)
        return 0


def opened(packed: IO[bytes], packing: str, *, xz_memory_bytes: int = _MOST_XZ_MEMORY) -> IO[bytes]:
    """A stream of what is packed.

    Args:
        packed: as it was packed.
        packing: as `packing_of` names it.
        xz_memory_bytes: most memory of the dictionary that xz asks for.
    """
    if packing == "gzip":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=packed))
    if packing == "bzip2":
        return cast("IO[bytes]", bz2.BZ2File(packed))
    return io.BufferedReader(_Xz(packed, xz_memory_bytes), _CHUNK_BYTES)
