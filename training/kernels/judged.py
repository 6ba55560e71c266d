"""What machines say of rows."""

from dataclasses import dataclass, fields

import numpy as np

from app.models.networks.kernel_machines import VARIANCE_FLOOR


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Predictions of machines on rows of the corpus, in its order.

    Attributes:
        outputs: the mean of machines and perceptrons, in transformed units, shape [n_rows].
        variance: that a Gaussian process would have, with the last machine's kernel or the mean of all, shape [n_rows].
        spread: the range of the machines' outputs, shape [n_rows].
        distance: to the nearest fitted row, shape [n_rows].
        leans_on: the share of each world, shape [n_rows, n_worlds]; one column of ones without worlds.
    """

    outputs: np.ndarray
    variance: np.ndarray
    spread: np.ndarray
    distance: np.ndarray
    leans_on: np.ndarray

    def terms(self) -> np.ndarray:
        """The terms of the difficulty, shape [n_rows, n_worlds + 3]: see KernelMachines and WorldMachines."""
        others = (np.log(self.variance + VARIANCE_FLOOR), self.spread, self.outputs)
        return np.concatenate([self.leans_on, np.stack(others, axis=1)], axis=1)

    def replaced(self, other: "Judged", rows: np.ndarray) -> "Judged":
        """These predictions with those of another for some rows."""
        return Judged(
            **{
                field.name: np.where(
                    rows[:, None] if getattr(self, field.name).ndim > 1 else rows,
                    getattr(other, field.name),
                    getattr(self, field.name),
                )
                for field in fields(self)
            }
        )
