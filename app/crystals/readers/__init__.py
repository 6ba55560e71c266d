"""Readers: from uploaded bytes to a band or a crystal."""

from app.crystals.readers.band_file import read_band_file
from app.crystals.readers.crystal_file import holds_trajectory, read_crystal, read_ordered_crystal, structures_in
from app.crystals.readers.end_points import read_end_points
from app.crystals.readers.json_band import read_json_band
from app.crystals.readers.reading import File, Reading

__all__ = [
    "File",
    "Reading",
    "holds_trajectory",
    "read_band_file",
    "read_crystal",
    "read_end_points",
    "read_json_band",
    "read_ordered_crystal",
    "structures_in",
]
