"""The predictor of a loaded checkpoint of conductivity."""

from collections.abc import Sequence

import numpy as np
import torch

from app.crystals.hops.percolation import PercolationBarriers
from app.crystals.sites.ion_sites import Sublattices
from app.models.cards.conductivity_card import ConductivityCard
from app.models.features.conductor import (
    DESCRIPTORS,
    HIGHEST_PERCOLATION_EV,
    ConductorDescriptors,
    conductor_descriptors,
)
from app.models.networks.conductor_regression import ConductorRegression
from app.models.prediction import ConductivityPrediction, Influence

#: How many numbers are named that speak for and against.
_NAMED = 3
_RELATIVES = "measured_relatives"
#: What each number is called in a sentence: its name, and its value as text.
_WORDS = {
    "host_disorder": ("mixed or partly empty sites of the host", "{:.2f} of full disorder"),
    "host_substitution": ("substitution in the host", "{:.2f} of 1"),
    "anion_electronegativity": ("electronegativity of the anions", "{:.2f}"),
    "percolation_3d_ev": ("barrier of a path in three dimensions", "{:.2f} eV"),
    "ion_site_occupancy": ("mean occupancy of the ion's sites", "{:.2f}"),
}


class ConductivityPredictor:
    """A predictor with one checkpoint of conductivity; it takes a millisecond, on a CPU whatever the device.

    Args:
        card, network: of the checkpoint.

    Raises:
        ValueError: the card's descriptors are not those of this release.
    """

    def __init__(self, card: ConductivityCard, network: ConductorRegression) -> None:
        self.card = card
        self.name = card.name
        self.version = card.version
        self.digest = card.digest
        if card.descriptors != DESCRIPTORS:
            raise ValueError(f"its descriptors are {', '.join(card.descriptors)}, not {', '.join(DESCRIPTORS)}")
        self._network = network
        self._residuals = np.asarray(card.calibration.residual_quantiles)

    def predict(
        self, lattices: Sublattices, barriers: PercolationBarriers | None, doubts: Sequence[str] = ()
    ) -> ConductivityPrediction:
        """Predict a crystal's conductivity.

        Args:
            lattices: the sites of its ions, and the host.
            barriers: at which its hops connect, eV; None where that is not known.
            doubts: why the barriers are out of their own model's domain.
        """
        return self.predict_described(conductor_descriptors(lattices, barriers), doubts)

    def predict_described(self, described: ConductorDescriptors, doubts: Sequence[str] = ()) -> ConductivityPrediction:
        """Do the same from a crystal's descriptors."""
        with torch.inference_mode():
            terms, relatives, novelty = self._network(
                torch.from_numpy(described.values)[None],
                torch.from_numpy(described.root_fractions)[None],
                torch.tensor([described.log_anion_volume], dtype=torch.float64),
            )
            value = float(self._network.intercept + terms.sum() + relatives)
        scale = self.card.calibration.scale(float(novelty))
        reasons = (*self._reasons(described, float(novelty)), *self._beyond_measured(value), *doubts)
        return ConductivityPrediction(
            log10_s_per_cm=value,
            quantiles=tuple(float(one) for one in value + scale * self._residuals),
            influences=self._influences(described, [float(term) for term in terms[0]], float(relatives)),
            in_domain=not reasons,
            domain_reasons=reasons,
        )

    def _reasons(self, described: ConductorDescriptors, novelty: float) -> tuple[str, ...]:
        reasons = []
        if novelty > self.card.most_novelty:
            reasons.append(
                f"no crystal of a similar composition was among the measured ones ({novelty:.0%} of the uncertainty is "
                f"left, at most {self.card.most_novelty:.0%} in the domain)"
            )
        if unknown := sorted(set(described.elements) - set(self.card.elements)):
            reasons.append(f"no measured crystal contains {', '.join(unknown)}")
        for name, value, (low, high) in zip(self.card.descriptors, described.values, self.card.ranges, strict=True):
            if not np.isfinite(value):
                reasons.append(f"the {_WORDS[name][0]} is not known")
            elif not low <= value <= high:
                reasons.append(f"the {_WORDS[name][0]} is {_shown(name, value)}, outside {low:.2f} to {high:.2f}")
        return tuple(reasons)

    def _beyond_measured(self, log10_s_per_cm: float) -> tuple[str, ...]:
        """The reason why a value is doubtful that is beyond all measured ones; none where it is not."""
        if self.card.measured_range_log10 is None:
            return ()
        low, high = self.card.measured_range_log10
        if low <= log10_s_per_cm <= high:
            return ()
        where, limit = ("above the highest", high) if log10_s_per_cm > high else ("below the lowest", low)
        return (f"{10**log10_s_per_cm:.1e} S/cm is {where} measured conductivity, {10**limit:.1e} S/cm",)

    def _influences(
        self, described: ConductorDescriptors, terms: Sequence[float], relatives: float
    ) -> tuple[Influence, ...]:
        found = [
            Influence(name=name, value=float(value), decades=term, text=f"{_said(name, value)}: {_effect(term)}")
            for name, value, term in zip(self.card.descriptors, described.values, terms, strict=True)
            if np.isfinite(value)
        ]
        found.append(
            Influence(
                name=_RELATIVES,
                value=None,
                decades=relatives,
                text=f"measured crystals of similar composition: {_effect(relatives)}",
            )
        )
        return tuple(sorted(found, key=lambda one: -abs(one.decades))[:_NAMED])


def _said(name: str, value: float) -> str:
    return f"{_WORDS[name][0]}, {_shown(name, value)}"


def _shown(name: str, value: float) -> str:
    if name == "percolation_3d_ev" and value >= HIGHEST_PERCOLATION_EV:
        return f"{HIGHEST_PERCOLATION_EV:.1f} eV or more, or no path"
    return _WORDS[name][1].format(value)


def _effect(decades: float) -> str:
    return f"adds {decades:.1f} decades" if decades >= 0 else f"takes {-decades:.1f} decades off"
