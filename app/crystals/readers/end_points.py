"""A band from two end points, each a crystal file."""

from app.crystals.limits import Limits
from app.crystals.readers.crystal_file import read_frame
from app.crystals.readers.frames import band_of_frames
from app.crystals.readers.reading import File, Reading


def read_end_points(
    initial: File,
    final: File,
    limits: Limits,
    *,
    ion: str | None = None,
    offset: tuple[int, int, int] | None = None,
) -> Reading:
    """Join two end points into a band of two images.

    Args:
        initial: the crystal with the ion where it starts: CIF, POSCAR, pymatgen JSON or one extended XYZ frame.
        final: with the ion where it ends.
        limits: how large they may be.
        ion: the element that hops; None takes the atom that moves.
        offset: whole cells to add to the ion's position in `final`, both positions wrapped into 0 <= x < 1; without
            it the shortest way is taken.

    Raises:
        FormatError: one of them is not a crystal.
        InputError: they do not form a band; kind "mixed-sites" where one is not ordered.
        TooLargeError: bytes or atoms.
    """
    frames = [read_frame(file, limits) for file in (initial, final)]
    return band_of_frames(frames, limits, ion=ion, offset=offset)
