"""The descriptors of a hop: named numbers that a regression of barriers reads, of its straight and its eased line."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.crystals.band import Band, FloatArray
from app.crystals.hops.surroundings import PathSurroundings, path_surroundings
from app.models.features.averages import AVERAGE_NAMES, averages
from app.models.features.eased import eased_descriptors
from app.models.features.easing import EASING_NAMES, eased_line, easing
from app.models.features.line import BOTTLENECK_NAMES, PROFILE_SUMMARY_NAMES, SHELL_NAMES, bottleneck, shells
from app.models.features.profiles import profiles, summaries
from app.models.features.surroundings import IMAGES, OUTER_ANGSTROM, Surroundings, stacked, surroundings
from app.models.features.tables import element_table
from app.models.features.window import WINDOW_NAMES, window

#: So many hops at once: more arrays of theirs would not stay in a core's cache.
_STACKED = 8
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
PATH_DESCRIPTOR_NAMES = (
    *BOTTLENECK_NAMES,
    *WINDOW_NAMES,
    *EASING_NAMES,
    *PROFILE_SUMMARY_NAMES,
    *SHELL_NAMES,
    *AVERAGE_NAMES,
    *(f"ion_{name}" for name in _ION_PROPERTIES),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class PathDescriptors:
    """The descriptors of one hop.

    Attributes:
        values: of the straight line, in the order of PATH_DESCRIPTOR_NAMES, all finite, shape [n_descriptors].
        eased: of the eased line, in the order of app.models.features.eased.EASED_NAMES, all finite, shape [n_eased].
        eased_images: where the five images lie on the eased line, shape [5, 3], angstrom.
    """

    values: FloatArray
    eased: FloatArray
    eased_images: FloatArray

    def as_dict(self) -> dict[str, float]:
        """The descriptors of the straight line by name."""
        return dict(zip(PATH_DESCRIPTOR_NAMES, self.values.tolist(), strict=True))


def path_descriptors(band: Band) -> PathDescriptors:
    """Describe a hop by its straight line through the unrelaxed host, and by the same line eased off the atoms.

    The numbers stay the same, to rounding, under rotation, translation, another atom order or lattice setting, the
    other direction of the hop, and for 3, 5 or 9 straight images. They see host atoms within 8 angstrom of the
    line (and those bonded to them), each periodic copy separately and none of the ion's own copies, so they do
    not depend on the supercell that the hop was cut from. They are continuous in the positions: no count can change
    with rounding.
    """
    return descriptors_in(path_surroundings(band, OUTER_ANGSTROM))


def descriptors_in(path: PathSurroundings) -> PathDescriptors:
    """The same from the surroundings within 8 angstrom of the line."""
    return descriptors_of([path])[0]


def descriptors_of(paths: Sequence[PathSurroundings]) -> list[PathDescriptors]:
    """The same of several hops, in half the time of each alone in one crystal, and two thirds in several."""
    return [
        found
        for start in range(0, len(paths), _STACKED)
        for found in _of_stack([surroundings(path) for path in paths[start : start + _STACKED]])
    ]


def _of_stack(hops: list[Surroundings]) -> list[PathDescriptors]:
    around = stacked(hops) if len(hops) > 1 else hops[0]
    line = eased_line(around)
    along = profiles(around)
    found = bottleneck(around, along) | shells(around) | window(around) | easing(around, line)
    found |= summaries(along) | averages(around) | _ion(around)
    values = np.empty((len(hops), len(PATH_DESCRIPTOR_NAMES)))
    for column, name in enumerate(PATH_DESCRIPTOR_NAMES):
        values[:, column] = found[name]
    eased = eased_descriptors(around, line).reshape(len(hops), -1)
    images = line.points[..., IMAGES, :].reshape(len(hops), len(IMAGES), 3)
    return [PathDescriptors(values=values[k], eased=eased[k], eased_images=images[k]) for k in range(len(hops))]


def _ion(around: Surroundings) -> dict[str, FloatArray]:
    table, ion = element_table(), around.ion
    values = (
        around.ion_charge,
        around.ion_radius_angstrom,
        table.electronegativity[ion],
        table.mass_u[ion],
        table.polarizability_angstrom3[ion],
        table.row[ion],
        table.group[ion],
        around.ion_charge / np.maximum(around.ion_radius_angstrom, 0.1) ** 2,
    )
    return {f"ion_{name}": np.asarray(value) for name, value in zip(_ION_PROPERTIES, values, strict=True)}
