"""The barrier that an uploaded band shows by itself, where its file has the energies of its images: a finished NEB."""

from collections.abc import Sequence
from dataclasses import dataclass

#: No barrier is as high, eV.
IMPOSSIBLE_EV = 15.0


@dataclass(frozen=True, kw_only=True)
class PathEnergies:
    """The energies along an uploaded band.

    Attributes:
        relative_ev: of each image, above the lower end point (the lowest image where an end has no energy); None
            where the file has none.
        highest_image: index of the highest image.
        forward_ev: from the first image to the highest; None where the first has no energy, or none lies between.
        reverse_ev: from the last image to the highest; None likewise.
    """

    relative_ev: tuple[float | None, ...]
    highest_image: int
    forward_ev: float | None
    reverse_ev: float | None


def path_energies(energies_ev: Sequence[float | None]) -> PathEnergies | None:
    """The barrier of a band by the energies of its images; None where none has one.

    Args:
        energies_ev: the total energy of each image, eV; None where it is not known.
    """
    known = {image: energy for image, energy in enumerate(energies_ev) if energy is not None}
    if not known:
        return None
    first, last = energies_ev[0], energies_ev[-1]
    highest = max(known, key=lambda image: known[image])
    between = any(image not in (0, len(energies_ev) - 1) for image in known)
    ends = [end for end in (first, last) if end is not None]
    lowest = min(ends) if len(ends) == 2 else min(known.values())  # noqa: PLR2004 - a band has two
    return PathEnergies(
        relative_ev=tuple(None if energy is None else energy - lowest for energy in energies_ev),
        highest_image=highest,
        forward_ev=known[highest] - first if first is not None and between else None,
        reverse_ev=known[highest] - last if last is not None and between else None,
    )


def path_warnings(energies_ev: Sequence[float | None]) -> tuple[str, ...]:
    """Say where the energies of a band do not show a whole barrier."""
    found = path_energies(energies_ev)
    if found is None or len(energies_ev) == 2:  # noqa: PLR2004 - two end points have no barrier
        return ()
    warnings = []
    barrier_ev = max(found.forward_ev or 0.0, found.reverse_ev or 0.0)
    if barrier_ev > IMPOSSIBLE_EV:
        warnings.append(
            f"The energies of the uploaded band make a barrier of {barrier_ev:.4g} eV, and no barrier is above "
            f"{IMPOSSIBLE_EV:g} eV: are they in eV? Divide meV by 1000, kJ/mol by 96.485."
        )
    missing = [str(image) for image, energy in enumerate(energies_ev) if energy is None]
    if missing:
        which = f"image{'s' if len(missing) > 1 else ''} {', '.join(missing[:10])}"
        warnings.append(
            f"The uploaded band has no energy of {which} (counted from 0): its own barrier is that of the others, and "
            "may be too low or missing."
        )
    elif found.highest_image in (0, len(energies_ev) - 1):
        warnings.append(
            "No image of the uploaded band lies above both of its end points: it has no barrier of its own."
        )
    return tuple(warnings)
