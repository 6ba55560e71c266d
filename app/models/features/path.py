"""The path descriptors of a hop: named numbers that a regression of barriers reads."""

from dataclasses import dataclass

import numpy as np

from app.crystals.band import Band, FloatArray
from app.crystals.hops.surroundings import PathSurroundings, path_surroundings
from app.models.features.averages import AVERAGE_NAMES, averages
from app.models.features.easing import EASING_NAMES, easing
from app.models.features.profiles import (
    PROFILE_NAMES,
    SUMMARY_NAMES,
    bonded_anions,
    profiles,
    sorted_distances,
    summaries,
)
from app.models.features.surroundings import (
    FIRST,
    LAST,
    MIDDLE,
    OUTER_ANGSTROM,
    QUARTERS,
    Surroundings,
    surroundings,
)
from app.models.features.tables import element_table
from app.models.features.window import WINDOW_NAMES, window

_SHELLS = {"anion": 8, "cation": 6}  # number of sorted distances of each that are kept
_PLACES = ("ends", "quarters", "middle")
_ION_PROPERTIES = (
    "charge",
    "radius_angstrom",
    "electronegativity",
    "mass_u",
    "polarizability_angstrom3",
    "row",
    "group",
    "field_strength_per_angstrom2",
)
_BOTTLENECK_NAMES = (
    "hop_length_angstrom",
    "bottleneck_radius_angstrom",
    "bottleneck_minus_ion_radius_angstrom",
    "bottleneck_to_ion_radius",
    "bottleneck_from_middle",
    "shared_anions",
    "shared_anions_share",
    "anions_of_ends_and_middle",
)
_TIED_ANGSTROM = 0.05  # places whose free radii differ by less count as one bottleneck

PATH_DESCRIPTOR_NAMES = (
    *_BOTTLENECK_NAMES,
    *WINDOW_NAMES,
    *EASING_NAMES,
    *(f"{profile}_{summary}" for profile in PROFILE_NAMES for summary in SUMMARY_NAMES),
    *(
        f"{place}_{kind}_distance_{rank}_angstrom"
        for kind, count in _SHELLS.items()
        for place in _PLACES
        for rank in range(1, count + 1)
    ),
    *(f"{kind}_shells_difference_angstrom" for kind in _SHELLS),
    *AVERAGE_NAMES,
    *(f"ion_{name}" for name in _ION_PROPERTIES),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class PathDescriptors:
    """The descriptors of one hop.

    Attributes:
        values: in the order of PATH_DESCRIPTOR_NAMES, all finite, shape [n_descriptors].
    """

    values: FloatArray

    def as_dict(self) -> dict[str, float]:
        """The descriptors by name."""
        return dict(zip(PATH_DESCRIPTOR_NAMES, self.values.tolist(), strict=True))


def path_descriptors(band: Band) -> PathDescriptors:
    """Describe a hop by its straight line through the unrelaxed host.

    The numbers stay the same, to rounding, under rotation, translation, another atom order or lattice setting, the
    other direction of the hop, and for 3, 5 or 9 straight images. They see host atoms within 8 angstrom of the
    line (and those bonded to them), each periodic copy separately and none of the ion's own copies, so they do
    not depend on the supercell that the hop was cut from. They are continuous in the positions: no count can change
    with rounding.
    """
    return descriptors_in(path_surroundings(band, OUTER_ANGSTROM))


def descriptors_in(path: PathSurroundings) -> PathDescriptors:
    """The same from the surroundings within 8 angstrom of the line."""
    around = surroundings(path)
    along = profiles(around)
    found = _bottleneck(around, along) | _shells(around) | window(around) | easing(around)
    found |= summaries(along) | averages(around) | _ion(around)
    return PathDescriptors(values=np.array([found[name] for name in PATH_DESCRIPTOR_NAMES]))


def _bottleneck(around: Surroundings, along: dict[str, FloatArray]) -> dict[str, float]:
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


def _shells(around: Surroundings) -> dict[str, float]:
    """Sorted distances to anions and to cations, at most 6 angstrom, averaged over equivalent places."""
    shares = {"anion": around.anion, "cation": around.cation}
    found: dict[str, float] = {}
    for kind, count in _SHELLS.items():
        shells = sorted_distances(around.distance[[FIRST, LAST, *QUARTERS, MIDDLE]], shares[kind], count)
        means = (0.5 * (shells[0] + shells[1]), 0.5 * (shells[2] + shells[3]), shells[4])
        for place, mean in zip(_PLACES, means, strict=True):
            found |= {f"{place}_{kind}_distance_{i + 1}_angstrom": value for i, value in enumerate(mean.tolist())}
        found[f"{kind}_shells_difference_angstrom"] = float(np.abs(shells[0] - shells[1]).mean())
    return found


def _ion(around: Surroundings) -> dict[str, float]:
    table, ion = element_table(), around.ion
    values = (
        around.ion_charge,
        around.ion_radius_angstrom,
        table.electronegativity[ion],
        table.mass_u[ion],
        table.polarizability_angstrom3[ion],
        table.row[ion],
        table.group[ion],
        around.ion_charge / max(around.ion_radius_angstrom, 0.1) ** 2,
    )
    return {f"ion_{name}": float(value) for name, value in zip(_ION_PROPERTIES, values, strict=True)}
