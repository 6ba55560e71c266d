"""The files of a folder that a screening does not take for crystals, in words."""

from collections.abc import Sequence

#: So many of them are named.
MOST_NAMED = 8


def named(paths: Sequence[str], count: int) -> str:
    """The first of so many files, by their paths, and how many more there are."""
    shown = paths[:MOST_NAMED]
    more = count - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def in_words(paths: Sequence[str]) -> str:
    """A sentence about them."""
    count = len(paths)
    what = (
        "1 file was passed by, as its name is not that of a crystal"
        if count == 1
        else f"{count} files were passed by, as their names are not those of crystals"
    )
    return f"{what}: {named(paths, count)}."
