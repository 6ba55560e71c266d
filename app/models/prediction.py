"""Predictions of models, free of tensors: of one band's barrier, and of a crystal's conductivity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

#: The levels at which the predictive distribution of a barrier is given.
QUANTILE_LEVELS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99)
INTERVAL_COVERAGE = 0.90


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A barrier with its predictive distribution.

    Attributes:
        barrier_ev: the point prediction, eV.
        quantiles_ev: the barrier's predictive distribution at QUANTILE_LEVELS, not decreasing, eV.
        in_domain: whether the band resembles those that the model was fitted on.
        domain_reasons: why not, one sentence each; empty where in_domain.
        leans_on: the share of each corpus that the model knows apart, by its name, together one; empty where it knows
            one alone.
    """

    barrier_ev: float
    quantiles_ev: tuple[float, ...]
    in_domain: bool
    domain_reasons: tuple[str, ...]
    leans_on: Mapping[str, float] = field(default_factory=dict)

    @property
    def interval_ev(self) -> tuple[float, float]:
        """The central interval that covers INTERVAL_COVERAGE, eV."""
        tail = (1.0 - INTERVAL_COVERAGE) / 2.0
        low, high = np.interp([tail, 1.0 - tail], QUANTILE_LEVELS, self.quantiles_ev)
        return float(low), float(high)

    @staticmethod
    def mean_leaning(predictions: Sequence["Prediction"]) -> dict[str, float]:
        """The mean share of each corpus over some predictions of one model; empty without any."""
        names = predictions[0].leans_on if predictions else {}
        return {name: float(np.mean([one.leans_on[name] for one in predictions])) for name in names}

    def probability_below(self, threshold_ev: float) -> float:
        """The probability that the barrier lies below a threshold in eV: that of a good conductor.

        Linear between the known quantiles and flat beyond them, so it is always between 0.01 and 0.99.
        """
        quantiles = np.asarray(self.quantiles_ev)
        increasing = quantiles + np.arange(len(quantiles)) * 1e-9  # np.interp needs strictly increasing abscissae
        return float(np.interp(threshold_ev, increasing, QUANTILE_LEVELS))


@dataclass(frozen=True, kw_only=True)
class Influence:
    """What one number of a crystal does to its predicted conductivity.

    Attributes:
        name: of the number.
        value: of it; None of what is no single number.
        decades: how much it adds to log10 of the conductivity, against the mean of the fitted crystals.
        text: the same as a sentence.
    """

    name: str
    value: float | None
    decades: float
    text: str


@dataclass(frozen=True, kw_only=True)
class ConductivityPrediction:
    """A crystal's ionic conductivity with its predictive distribution.

    Attributes:
        log10_s_per_cm: the point prediction, of the conductivity in S/cm.
        quantiles: of the same, at QUANTILE_LEVELS, not decreasing.
        influences: the numbers that speak most for and against, the strongest first.
        in_domain: whether the crystal resembles those that the model was fitted on.
        domain_reasons: why not, one sentence each; empty where in_domain.
    """

    log10_s_per_cm: float
    quantiles: tuple[float, ...]
    influences: tuple[Influence, ...]
    in_domain: bool
    domain_reasons: tuple[str, ...]

    @property
    def interval(self) -> tuple[float, float]:
        """The central interval of log10 that covers INTERVAL_COVERAGE."""
        tail = (1.0 - INTERVAL_COVERAGE) / 2.0
        low, high = np.interp([tail, 1.0 - tail], QUANTILE_LEVELS, self.quantiles)
        return float(low), float(high)

    def probability_above(self, s_per_cm: float) -> float:
        """The probability of a conductivity above a value in S/cm, between 0.01 and 0.99."""
        quantiles = np.asarray(self.quantiles) + np.arange(len(self.quantiles)) * 1e-9
        return 1.0 - float(np.interp(np.log10(s_per_cm), quantiles, QUANTILE_LEVELS))
