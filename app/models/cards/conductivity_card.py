"""The card of a checkpoint that predicts the conductivity of a crystal."""

import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.models.cards.card import CARD_FILE, AnyCard, CheckpointError, card_content, checked_card, content_of_kind
from app.models.prediction import QUANTILE_LEVELS

#: The value of `kind` in the card.
CONDUCTIVITY_KIND = "conductivity"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ConductivityCalibration:
    """Errors of the model on crystals of families and compositions that it had not seen, in decades.

    Attributes:
        residual_quantiles: of (measured - predicted) divided by their scale, at QUANTILE_LEVELS, not decreasing.
        scale_known, scale_new: the scale where the novelty is 0 and where it is 1; linear between them.
        rows: number of out-of-fold predictions.
    """

    residual_quantiles: tuple[float, ...]
    scale_known: float
    scale_new: float
    rows: int

    def __post_init__(self) -> None:
        quantiles = self.residual_quantiles
        whole = len(quantiles) == len(QUANTILE_LEVELS) and all(map(math.isfinite, quantiles))
        if not whole or list(quantiles) != sorted(quantiles):
            raise ValueError("calibration.residual_quantiles is invalid")
        if not 0 < self.scale_known <= self.scale_new < math.inf:
            raise ValueError("calibration.scale_known and scale_new are invalid")

    def scale(self, novelty: float) -> float:
        """The expected size of a residual, decades."""
        return self.scale_known + (self.scale_new - self.scale_known) * novelty


@dataclass(frozen=True, kw_only=True)
class ConductivityCard(AnyCard):
    """The card, as it is written to card.json; its metrics are by folding.

    Attributes:
        ion: whose conductivity is predicted.
        temperature_kelvin: at which it was measured.
        descriptors: in the order of the network's numbers.
        ranges: of each descriptor in the fitted crystals, lowest and highest.
        elements: of the fitted crystals.
        most_novelty: a crystal of more is out of the domain.
        barrier_model: name and digest of the checkpoint whose percolation was fitted.
        calibration: of the distribution.
        measured_range_log10: lowest and highest log10 of the fitted values in S/cm, without the bounds; None in a card
            of an earlier release.
    """

    ion: str
    temperature_kelvin: float
    descriptors: tuple[str, ...]
    ranges: tuple[tuple[float, float], ...]
    elements: tuple[str, ...]
    most_novelty: float
    barrier_model: dict[str, str]
    calibration: ConductivityCalibration
    measured_range_log10: tuple[float, float] | None = None
    kind: str = CONDUCTIVITY_KIND


def read_conductivity_card(folder: Path) -> ConductivityCard:
    """Read and check a card.

    Raises:
        CheckpointError: it is missing, of another format or kind, or a field is missing or of the wrong kind.
    """
    content = content_of_kind(folder, CONDUCTIVITY_KIND, "conductivity")
    return checked_card(folder, content, _card)


def conductivity_card(store: Path, ions: Collection[str]) -> ConductivityCard | None:
    """The card of the first conductivity checkpoint in a folder that is for one of the ions; None without one.

    A card that cannot be read at all is skipped with a warning, since nothing says that it is of a conductivity.

    Raises:
        CheckpointError: the card of that checkpoint is damaged.
    """
    for path in sorted(store.glob(f"*/{CARD_FILE}")):
        try:
            content = card_content(path.parent)
        except CheckpointError as error:
            _log.warning("%s; it is skipped", error)
            continue
        if content.get("kind") == CONDUCTIVITY_KIND and content.get("ion") in tuple(ions):
            return read_conductivity_card(path.parent)
    return None


def _card(content: dict[str, Any]) -> ConductivityCard:
    calibration, measured = content["calibration"], content.get("measured_range_log10")
    return ConductivityCard(
        **{
            **content,
            "calibration": ConductivityCalibration(
                **{**calibration, "residual_quantiles": tuple(calibration["residual_quantiles"])}
            ),
            "descriptors": tuple(content["descriptors"]),
            "ranges": tuple(map(_pair, content["ranges"])),
            "elements": tuple(content["elements"]),
            "measured_range_log10": None if measured is None else _pair(measured),
            "citations": tuple(content["citations"]),
        }
    )


def _pair(values: Sequence[float]) -> tuple[float, float]:
    low, high = values
    return float(low), float(high)
