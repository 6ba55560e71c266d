"""The prediction of a model for one band, free of tensors."""

from dataclasses import dataclass

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
    """

    barrier_ev: float
    quantiles_ev: tuple[float, ...]
    in_domain: bool
    domain_reasons: tuple[str, ...]

    @property
    def interval_ev(self) -> tuple[float, float]:
        """The central interval that covers INTERVAL_COVERAGE, eV."""
        tail = (1.0 - INTERVAL_COVERAGE) / 2.0
        low, high = np.interp([tail, 1.0 - tail], QUANTILE_LEVELS, self.quantiles_ev)
        return float(low), float(high)

    def probability_below(self, threshold_ev: float) -> float:
        """The probability that the barrier lies below a threshold in eV: that of a good conductor.

        Linear between the known quantiles and flat beyond them, so it is always between 0.01 and 0.99.
        """
        quantiles = np.asarray(self.quantiles_ev)
        increasing = quantiles + np.arange(len(quantiles)) * 1e-9  # np.interp needs strictly increasing abscissae
        return float(np.interp(threshold_ev, increasing, QUANTILE_LEVELS))
