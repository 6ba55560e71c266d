"""Warnings where two end points, or two consecutive images, could be joined in more than one way."""

import numpy as np

from app.crystals.band import FloatArray
from app.crystals.geometry.periodic import ShortestVectors

#: Periodic vectors whose lengths differ by less than this cannot be distinguished.
NEARLY_EQUAL_ANGSTROM = 0.05
#: Wrapped coordinates leave the cell by no more than rounding.
WRAPPED_FRACTION = 1e-3


def ambiguity_warnings(ion: str, found: ShortestVectors) -> tuple[str, ...]:
    """Warn where a hop's two shortest periodic vectors are nearly equal.

    Args:
        ion: the migrating ion's element.
        found: the joined hop, one vector.
    """
    shortest, second = float(found.lengths_angstrom[0]), float(found.runner_up_angstrom[0])
    if second - shortest > NEARLY_EQUAL_ANGSTROM:
        return ()
    warning = (
        f"Two ways for {ion} from the first end point to a periodic copy of the second are nearly equal, "
        f"{shortest:.3f} and {second:.3f} angstrom; one was taken. Give `offset`, or images in between, to choose."
    )
    return (warning,)


def step_warnings(
    ion: str, images: FloatArray, found: ShortestVectors, lattice_angstrom: FloatArray
) -> tuple[str, ...]:
    """Warn where a step between two of three images or more could have been meant another way.

    Steps are shortened, which undoes any wrapping into the cell. This differs from the coordinates as written where
    these are not wrapped, neither into 0..1 nor into -0.5..0.5, and a step is longer than its shortest form.

    Args:
        ion: the migrating ion's element.
        images: its fractional coordinates as written, shape [n_images, 3].
        found: the steps, n_images - 1 vectors.
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
    """
    warnings = []
    wrapped = any((np.abs(images - middle) <= 0.5 + WRAPPED_FRACTION).all() for middle in (0.5, 0.0))
    changed = np.flatnonzero(found.offsets.any(axis=1))
    if len(changed) and not wrapped:
        k = int(changed[0])
        as_written = float(np.linalg.norm((images[k + 1] - images[k]) @ lattice_angstrom))
        warnings.append(
            f"{len(changed)} of {len(images) - 1} steps between the images of {ion} were not taken as written but the "
            f"shortest way, that from image {k} to {k + 1} by {found.lengths_angstrom[k]:.2f} angstrom and not "
            f"{as_written:.2f}. Give more images in between to go the longer way."
        )
    margins = found.runner_up_angstrom - found.lengths_angstrom
    k = int(margins.argmin())
    if margins[k] <= NEARLY_EQUAL_ANGSTROM:
        warnings.append(
            f"Two ways for {ion} from image {k} to image {k + 1} are nearly equal, {found.lengths_angstrom[k]:.3f} and "
            f"{found.runner_up_angstrom[k]:.3f} angstrom; one was taken. Give more images in between to choose."
        )
    return tuple(warnings)
