"""What goes into a reader and what comes out."""

from dataclasses import dataclass

from app.crystals.band import Band


@dataclass(frozen=True, kw_only=True)
class File:
    """An uploaded file; its name is shown and hints at the format, and is never used as a path."""

    name: str
    content: bytes


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A band as it was uploaded, every image and relaxed host kept, and what was noticed while it was read."""

    band: Band
    warnings: tuple[str, ...]
