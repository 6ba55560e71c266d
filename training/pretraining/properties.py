"""The bulk properties that a trunk is trained on, and how each becomes a target."""

import numpy as np

from app.models.cards.property_card import PropertyScale

#: In the order of a network's outputs; the eighth is an extra beside the paper's seven.
PROPERTIES = (
    "formation_energy_ev_per_atom",
    "band_gap_ev",
    "log10_shear_modulus_gpa",
    "phonon_dos_peak_per_cm",
    "dielectric_constant",
    "piezoelectric_modulus_c_per_m2",
    "experimental_band_gap_ev",
    "refractive_index",
)
UNITS = {
    "formation_energy_ev_per_atom": "eV/atom",
    "band_gap_ev": "eV",
    "log10_shear_modulus_gpa": "log10(GPa)",
    "phonon_dos_peak_per_cm": "1/cm",
    "dielectric_constant": "",
    "piezoelectric_modulus_c_per_m2": "C/m2",
    "experimental_band_gap_ev": "eV",
    "refractive_index": "",
}
#: These spread over orders of magnitude and are fitted, and judged, as log(1 + value).
LOGARITHMIC = frozenset({"dielectric_constant", "piezoelectric_modulus_c_per_m2"})


def scalings(names: tuple[str, ...], values: np.ndarray) -> tuple[PropertyScale, ...]:
    """The scaling of each property by the range of its training values.

    Args:
        names: of the properties.
        values: of the training rows, NaN where a row has none, shape [n_rows, n_properties].
    """
    result = []
    for name, column in zip(names, values.T, strict=True):
        known = column[np.isfinite(column)].astype(np.float64)
        logarithmic = name in LOGARITHMIC
        known = np.log1p(known) if logarithmic else known
        low, high = float(known.min()), float(known.max())
        result.append(PropertyScale(name=name, unit=UNITS[name], low=low, high=high, logarithmic=logarithmic))
    return tuple(result)
