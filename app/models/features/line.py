"""Descriptors of a line that the ion follows, straight or eased: its bottleneck, its shells and its profiles."""

import numpy as np

from app.crystals.band import FloatArray
from app.models.features.profiles import PROFILE_NAMES, SUMMARY_NAMES, bonded_anions, sorted_distances
from app.models.features.surroundings import FIRST, LAST, MIDDLE, QUARTERS, Surroundings

_SHELLS = {"anion": 8, "cation": 6}  # number of sorted distances of each that are kept
_PLACES = ("ends", "quarters", "middle")
_TIED_ANGSTROM = 0.05  # places whose free radii differ by less count as one bottleneck

BOTTLENECK_NAMES = (
    "hop_length_angstrom",
    "bottleneck_radius_angstrom",
    "bottleneck_minus_ion_radius_angstrom",
    "bottleneck_to_ion_radius",
    "bottleneck_from_middle",
    "shared_anions",
    "shared_anions_share",
    "anions_of_ends_and_middle",
)
SHELL_NAMES = (
    *(
        f"{place}_{kind}_distance_{rank}_angstrom"
        for kind, count in _SHELLS.items()
        for place in _PLACES
        for rank in range(1, count + 1)
    ),
    *(f"{kind}_shells_difference_angstrom" for kind in _SHELLS),
)
PROFILE_SUMMARY_NAMES = tuple(f"{profile}_{summary}" for profile in PROFILE_NAMES for summary in SUMMARY_NAMES)


def bottleneck(around: Surroundings, along: dict[str, FloatArray]) -> dict[str, float]:
    """The descriptors of BOTTLENECK_NAMES, from the profiles along the line."""
    free = along["free_radius_angstrom"]
    narrowest = float(free.min())
    from_middle = np.abs(np.linspace(-1.0, 1.0, len(free)))
    tied = np.exp((narrowest - free) / _TIED_ANGSTROM)
    bonded = bonded_anions(around)
    shared = float((bonded[FIRST] * bonded[LAST]).sum())
    ends = 0.5 * (bonded[FIRST] + bonded[LAST])
    return {
        "hop_length_angstrom": float(np.linalg.norm(around.points[LAST] - around.points[FIRST])),
        "bottleneck_radius_angstrom": narrowest,
        "bottleneck_minus_ion_radius_angstrom": narrowest - around.ion_radius_angstrom,
        "bottleneck_to_ion_radius": narrowest / max(around.ion_radius_angstrom, 0.1),
        "bottleneck_from_middle": float(tied @ from_middle / tied.sum()),
        "shared_anions": shared,
        "shared_anions_share": shared / float(ends.sum() + 1.0),
        "anions_of_ends_and_middle": float((ends * bonded[MIDDLE]).sum()),
    }


def shells(around: Surroundings) -> dict[str, float]:
    """Sorted distances to anions and to cations, at most 6 angstrom, means over equivalent places: SHELL_NAMES."""
    shares = {"anion": around.anion, "cation": around.cation}
    found: dict[str, float] = {}
    for kind, count in _SHELLS.items():
        ranked = sorted_distances(around.distance[[FIRST, LAST, *QUARTERS, MIDDLE]], shares[kind], count)
        means = (0.5 * (ranked[0] + ranked[1]), 0.5 * (ranked[2] + ranked[3]), ranked[4])
        for place, mean in zip(_PLACES, means, strict=True):
            found |= {f"{place}_{kind}_distance_{i + 1}_angstrom": value for i, value in enumerate(mean.tolist())}
        found[f"{kind}_shells_difference_angstrom"] = float(np.abs(ranked[0] - ranked[1]).mean())
    return found
