"""One crystal's file as it leaves a source, which of them are wanted, and limits on what holds them."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from app.screening.errors import ScreeningError

_DIGEST_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class Item:
    """A file that holds a crystal, or several in a CIF of several blocks.

    Attributes:
        input: its path inside of what was named on the command line; unique.
        name: of the file, for messages and as a hint at its format.
        content: its bytes; empty where it could not be read.
        problem: why it could not be read; None where it was.
    """

    input: str
    name: str
    content: bytes
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class SourceLimits:
    """How large an archive or a table may be, and one entry of it.

    Attributes:
        max_entries: files or rows.
        max_unpacked_bytes: all entries together.
        max_ratio: unpacked bytes to packed ones, once `ratio_from_bytes` are unpacked.
        max_entry_bytes: of one entry; a larger one is a failure of its own.
    """

    max_entries: int = 5_000_000
    max_unpacked_bytes: int = 64 << 30
    max_ratio: float = 200.0
    ratio_from_bytes: int = 100 << 20
    max_entry_bytes: int = 20_000_000

    def check(self, name: str, *, entries: int, unpacked_bytes: int, packed_bytes: int) -> None:
        """Refuse an archive that holds too much.

        Raises:
            ScreeningError: the text names the limit and the option that sets it.
        """
        if entries > self.max_entries:
            raise ScreeningError(f"{name} has more than {self.max_entries:,} entries (--max-entries).")
        if unpacked_bytes > self.max_unpacked_bytes:
            raise ScreeningError(
                f"{name} unpacks to more than {self.max_unpacked_bytes / 2**30:g} GiB (--max-unpacked-gib)."
            )
        if unpacked_bytes > self.ratio_from_bytes and unpacked_bytes > self.max_ratio * max(1, packed_bytes):
            raise ScreeningError(
                f"{name} unpacks to more than {self.max_ratio:g} times its size, which crystals do not: it may be made "
                "to fill a disk. Unpack it yourself and name the folder if you trust it."
            )


class Source(Protocol):
    """Something that was named on the command line."""

    @property
    def name(self) -> str:
        """As it was named."""

    def inputs(self) -> Iterator[str]:
        """The path of each item, in order.

        Raises:
            ScreeningError: it cannot be read, holds too much or something that is refused.
        """

    def parts(self, selection: "Selection", first: int | None) -> "list[Part]":
        """What remains to be read, in parts that different machines can read.

        Args:
            selection: which items.
            first: only so many from the start; None takes all.
        """


class Part(Protocol):
    """Items that are read one after the other; pickled, and read on any machine."""

    @property
    def count(self) -> int:
        """About how many items."""

    def read(self) -> Iterator[Item]:
        """Read the selected items."""


def digest_of(text: str, key: str = "") -> bytes:
    """A short digest of a path, so that sets of a million stay small; with a key, a random order to be repeated."""
    return hashlib.blake2b(
        text.encode("utf-8", "surrogateescape"), digest_size=_DIGEST_BYTES, key=key.encode()
    ).digest()


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which items are still to be screened.

    Attributes:
        done: digests of those that have their rows.
        key: of the random order; None where there is none.
        last: the greatest digest in the random order that is wanted; None wants all.
    """

    done: frozenset[bytes] = frozenset()
    key: str | None = None
    last: bytes | None = None

    def wants(self, name: str) -> bool:
        """Whether an item is to be screened."""
        if self.last is not None and digest_of(name, self.key or "") > self.last:
            return False
        return digest_of(name) not in self.done

    def ordered(self, names: Iterable[str]) -> list[str]:
        """Names in the random order, where there is one."""
        key = self.key
        return list(names) if key is None else sorted(names, key=lambda name: digest_of(name, key))


def selected(items: Iterable[Item], selection: Selection, first: int | None) -> Iterator[Item]:
    """The items that are wanted, of the first so many."""
    return (item for item in itertools.islice(items, first) if selection.wants(item.input))
