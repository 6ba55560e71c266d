"""The composition around a path: smoothly weighted averages, never totals of a cell."""

import numpy as np

from app.crystals.band import FloatArray
from app.models.features.host import CENTRES
from app.models.features.surroundings import Surroundings
from app.models.features.tables import ElementTable, atomic_number, element_table

_PROPERTIES = (
    "electronegativity",
    "ionic_radius_angstrom",
    "atomic_number",
    "row",
    "group",
    "mass_u",
    "polarizability_angstrom3",
    "charge",
)
_KINDS = ("anions", "framework")
_ANIONS = ("O", "F", "S", "Se", "Cl", "N", "P")
_BLOCKS = ("alkali", "alkaline_earth", "transition_metal", "rare_earth", "post_transition")
_NOTHING = 1e-3  # added to a sum of weights, so that an average over no atoms is 0

AVERAGE_NAMES = (
    *(f"{kind}_{of}_{what}" for kind in _KINDS for what in _PROPERTIES for of in ("mean", "spread")),
    *(f"anion_share_{symbol}" for symbol in (*_ANIONS, "other")),
    *(f"polyanion_share_{symbol}" for symbol in CENTRES),
    *(f"framework_share_{block}" for block in _BLOCKS),
    "anion_to_cation_ratio",
    "polyanion_to_cation_ratio",
    "ion_charge_to_framework_charge",
    "ion_radius_to_anion_radius",
    "ion_electronegativity_minus_anions",
)


def averages(around: Surroundings) -> dict[str, FloatArray]:
    """The averages of AVERAGE_NAMES over atoms weighted by their closeness to the path.

    Framework cations are the cations of other elements than the ion.
    """
    table = element_table()
    anions = around.weight * around.anion
    cations = around.weight * around.cation
    framework = cations * (1.0 - around.same_element)
    found: dict[str, FloatArray] = {}
    properties = _properties(around, table)
    for kind, weight in zip(_KINDS, (anions, framework), strict=True):
        found |= _means_and_spreads(kind, properties, weight)
    shares = [_share(around.numbers == atomic_number(symbol), anions) for symbol in _ANIONS]
    found |= {f"anion_share_{symbol}": share for symbol, share in zip(_ANIONS, shares, strict=True)}
    found["anion_share_other"] = 1.0 - np.sum(shares, axis=0)
    found |= {f"polyanion_share_{symbol}": _share(around.bonded[..., i], anions) for i, symbol in enumerate(CENTRES)}
    found |= {f"framework_share_{name}": _share(block, framework) for name, block in _blocks(around, table).items()}
    polyanion = (anions[..., None] * around.bonded).sum(axis=(-2, -1))
    of_cations = cations.sum(axis=-1) + 1.0
    electronegativity = table.electronegativity[around.ion]
    return found | {
        "anion_to_cation_ratio": anions.sum(axis=-1) / of_cations,
        "polyanion_to_cation_ratio": polyanion / of_cations,
        "ion_charge_to_framework_charge": around.ion_charge / (1.0 + found["framework_mean_charge"]),
        "ion_radius_to_anion_radius": around.ion_radius_angstrom / (0.5 + found["anions_mean_ionic_radius_angstrom"]),
        "ion_electronegativity_minus_anions": electronegativity - found["anions_mean_electronegativity"],
    }


def _properties(around: Surroundings, table: ElementTable) -> FloatArray:
    """The values of _PROPERTIES of every atom, shape [n_properties, ..., n_near]."""
    numbers = around.numbers
    return np.stack(
        [
            table.electronegativity[numbers],
            around.radius_angstrom,
            numbers.astype(np.float64),
            table.row[numbers],
            table.group[numbers],
            table.mass_u[numbers],
            table.polarizability_angstrom3[numbers],
            np.abs(around.charge),
        ]
    )


def _means_and_spreads(kind: str, properties: FloatArray, weight: FloatArray) -> dict[str, FloatArray]:
    total = weight.sum(axis=-1) + _NOTHING
    means = np.einsum("k...a,...a->k...", properties, weight) / total
    spreads = np.sqrt(np.einsum("k...a,...a->k...", (properties - means[..., None]) ** 2, weight) / total)
    named = {f"{kind}_mean_{name}": mean for name, mean in zip(_PROPERTIES, means, strict=True)}
    return named | {f"{kind}_spread_{name}": spread for name, spread in zip(_PROPERTIES, spreads, strict=True)}


def _share(part: FloatArray | np.ndarray, weight: FloatArray) -> FloatArray:
    return np.asarray((weight * part).sum(axis=-1) / (weight.sum(axis=-1) + _NOTHING))


def _blocks(around: Surroundings, table: ElementTable) -> dict[str, np.ndarray]:
    group, numbers = table.group[around.numbers], around.numbers
    rare_earth = (group == 3) | ((numbers >= 57) & (numbers <= 71)) | (numbers >= 89)  # noqa: PLR2004 - La-Lu, actinides
    return dict(
        zip(
            _BLOCKS,
            (
                group == 1,
                group == 2,  # noqa: PLR2004 - the group's number
                (group >= 4) & (group <= 11) & ~rare_earth,  # noqa: PLR2004 - the groups' numbers
                rare_earth,
                group >= 12,  # noqa: PLR2004 - the group's number
            ),
            strict=True,
        )
    )
