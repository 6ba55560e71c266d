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


def bottleneck(around: Surroundings, along: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """The descriptors of BOTTLENECK_NAMES, from the profiles along the line."""
    free = along["free_radius_angstrom"]
    narrowest = free.min(axis=-1)
    from_middle = np.abs(np.linspace(-1.0, 1.0, free.shape[-1]))
    tied = np.exp((narrowest[..., None] - free) / _TIED_ANGSTROM)
    bonded = bonded_anions(around)
    first, last = bonded[..., FIRST, :], bonded[..., LAST, :]
    shared = (first * last).sum(axis=-1)
    ends = 0.5 * (first + last)
    return {
        "hop_length_angstrom": np.linalg.norm(around.points[..., LAST, :] - around.points[..., FIRST, :], axis=-1),
        "bottleneck_radius_angstrom": narrowest,
        "bottleneck_minus_ion_radius_angstrom": narrowest - around.ion_radius_angstrom,
        "bottleneck_to_ion_radius": narrowest / np.maximum(around.ion_radius_angstrom, 0.1),
        "bottleneck_from_middle": tied @ from_middle / tied.sum(axis=-1),
        "shared_anions": shared,
        "shared_anions_share": shared / (ends.sum(axis=-1) + 1.0),
        "anions_of_ends_and_middle": (ends * bonded[..., MIDDLE, :]).sum(axis=-1),
    }


def shells(around: Surroundings) -> dict[str, FloatArray]:
    """Sorted distances to anions and to cations, at most 6 angstrom, means over equivalent places: SHELL_NAMES."""
    shares = {"anion": around.anion, "cation": around.cation}
    found: dict[str, FloatArray] = {}
    for kind, count in _SHELLS.items():
        places = around.distance[..., [FIRST, LAST, *QUARTERS, MIDDLE], :]
        ranked = sorted_distances(places, shares[kind], count)
        first, last, second, fourth, middle = (ranked[..., k, :] for k in range(5))
        means = (0.5 * (first + last), 0.5 * (second + fourth), middle)
        for place, mean in zip(_PLACES, means, strict=True):
            found |= {f"{place}_{kind}_distance_{rank + 1}_angstrom": mean[..., rank] for rank in range(count)}
        found[f"{kind}_shells_difference_angstrom"] = np.abs(first - last).mean(axis=-1)
    return found
