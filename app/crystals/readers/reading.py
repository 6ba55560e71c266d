"""Input and output of the readers."""

from dataclasses import dataclass

from app.crystals.band import Band


@dataclass(frozen=True, kw_only=True)
class File:
    """An uploaded file; its name is for messages and hints at the format, and is never used as a path."""

    name: str
    content: bytes


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A band as it was uploaded, with every image and relaxed host, and the warnings of the reader."""

    band: Band
    warnings: tuple[str, ...]
