"""Whether a band lies in the domain of a model, and the reasons if not."""

from app.crystals.band import Band, model_band
from app.models.cards.card import Domain


def reasons_outside(band: Band, closest_approach: float, domain: Domain) -> tuple[str, ...]:
    """Reasons why a band is outside the domain, from its chemistry and geometry, one sentence each.

    Args:
        band: as it was uploaded.
        closest_approach: of the ion to a host atom at any image, angstrom.
        domain: of the fitted bands.
    """
    reasons = []
    if band.ion not in domain.ions:
        reasons.append(f"no {band.ion} migration among the fitted barriers (they are of {', '.join(domain.ions)})")
    unknown = sorted(set(band.host_species) - set(domain.elements))
    if unknown:
        reasons.append(f"no fitted host contains {', '.join(unknown)}")
    band = model_band(band)
    reasons += _range_reason("the hop's length", band.hop_distance_angstrom, domain.hop_distance_angstrom)
    reasons += _range_reason(
        "the ion's closest approach to a host atom",
        closest_approach,
        domain.closest_approach_angstrom,
    )
    return tuple(reasons)


def _range_reason(what: str, value: float, bounds: tuple[float, float]) -> list[str]:
    low, high = bounds
    if low <= value <= high:
        return []
    return [f"{what}, {value:.2f} angstrom, is outside the fitted {low:.2f} to {high:.2f} angstrom"]
