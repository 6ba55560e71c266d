"""The readers' limits, from the settings."""

from app.crystals.limits import Limits
from app.settings import Settings


def limits_of(settings: Settings) -> Limits:
    """The limits that the settings set."""
    return Limits(
        max_body_bytes=settings.max_body_bytes,
        max_atoms=settings.max_atoms,
        max_images=settings.max_images,
        max_files=settings.max_files,
        max_unpacked_bytes=settings.max_unpacked_bytes,
    )
