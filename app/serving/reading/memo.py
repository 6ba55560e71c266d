"""Readings kept for files that are sent again, bounded by the memory they take."""

import hashlib

from cachetools import LRUCache

from app.crystals.readers.reading import File
from app.serving.reading.upload_reader import ReadInput, ReadOptions
from app.serving.reading.uploads import FileUpload, upload_files

#: Of the budget, the most that one reading may take: a larger one would push out many.
_LARGEST_SHARE = 0.25

ReadingKey = tuple[str | None, bytes]


class KeptReadings:
    """The readings used last, up to a number of bytes.

    Args:
        most_bytes: what they may take together, by `ReadInput.size_bytes`.
    """

    def __init__(self, most_bytes: int) -> None:
        self._largest_bytes = _LARGEST_SHARE * most_bytes
        self._kept: LRUCache[ReadingKey, ReadInput] = LRUCache(most_bytes, getsizeof=lambda read: read.size_bytes)

    def get(self, key: ReadingKey) -> ReadInput | None:
        """The reading of a file that was sent before, or None."""
        return self._kept.get(key)

    def put(self, key: ReadingKey, read: ReadInput) -> None:
        """Keep a reading in place of those used longest ago."""
        if read.size_bytes <= self._largest_bytes:
            self._kept[key] = read


def upload_digest(upload: FileUpload, options: ReadOptions) -> bytes:
    """SHA-256 of everything that a reading depends on."""
    # One reading serves both who asks for barriers alone and who refuses a crystal without the ion.
    given = {name: value for name, value in vars(upload).items() if name != "must_hold_ion"}
    fields = [value for value in given.values() if not isinstance(value, File)]
    lengths = [[file.name, len(file.content), file.cell_angstrom] for file in upload_files(upload)]
    head = repr([type(upload).__name__, fields, lengths, options])
    digest = hashlib.sha256(head.encode(errors="surrogatepass"))
    for file in upload_files(upload):
        digest.update(file.content)
    return digest.digest()
