"""Counts what was begun and never ended, so that a crystal that kills its workers is given up."""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

#: Workers that may die of a crystal alone before it is given up: mostly one dies for no fault of the crystal.
MOST_DEATHS = 2


class Attempts(Protocol):
    """Where workers say what they begin and end."""

    def begin(self, key: str) -> int:
        """Note that something is begun; how often it was begun before and never ended."""

    def end(self, keys: Sequence[str]) -> None:
        """Note that some of it is done."""


class CountedAttempts:
    """Attempts counted in this process."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, key: str) -> int:
        """See Attempts."""
        self._begun[key] += 1
        return self._begun[key] - 1

    def end(self, keys: Sequence[str]) -> None:
        """See Attempts."""
        for key in keys:
            self._begun.pop(key, None)
