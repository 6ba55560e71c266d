"""The card of a checkpoint that predicts bulk properties of a crystal."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.models.cards.card import AnyCard, checked_card, content_of_kind

#: The value of `kind` in the card; a card without `kind` is one of barriers.
PROPERTIES_KIND = "properties"


@dataclass(frozen=True, kw_only=True)
class PropertyScale:
    """A property and its scaling: outputs of -1 to 1 are its range in the fitted rows.

    Attributes:
        name, unit: as in answers; the unit is empty for a dimensionless number.
        low, high: of the values, or of log(1 + value) where logarithmic.
    """

    name: str
    unit: str
    low: float
    high: float
    logarithmic: bool

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"the range of {self.name} is invalid: low must be less than high, and both finite")

    def to_target(self, values: np.ndarray) -> np.ndarray:
        """Targets of values in the property's unit; NaN stays NaN."""
        return np.asarray(2.0 * (self.judged(values) - self.low) / (self.high - self.low) - 1.0)

    def from_output(self, outputs: np.ndarray) -> np.ndarray:
        """Values in the property's unit from a network's outputs."""
        values = (np.asarray(outputs, dtype=np.float64) + 1.0) / 2.0 * (self.high - self.low) + self.low
        return np.asarray(np.expm1(values) if self.logarithmic else values)

    def judged(self, values: np.ndarray) -> np.ndarray:
        """The values that errors are measured on: the values themselves, or log(1 + value)."""
        return np.asarray(np.log1p(np.maximum(values, 0.0)) if self.logarithmic else values)


@dataclass(frozen=True, kw_only=True)
class PropertyCard(AnyCard):
    """The card, as it is written to card.json; its metrics are by property, on the test rows.

    Attributes:
        properties: in the order of the network's outputs.
        elements: of the fitted crystals.
    """

    properties: tuple[PropertyScale, ...]
    elements: tuple[str, ...]
    kind: str = PROPERTIES_KIND


def read_property_card(folder: Path) -> PropertyCard:
    """Read and check a card.

    Raises:
        CheckpointError: it is missing, of another format or kind, or a field is missing or of the wrong kind.
    """
    content = content_of_kind(folder, PROPERTIES_KIND, "bulk properties")
    return checked_card(
        folder,
        content,
        lambda content: PropertyCard(
            **{
                **content,
                "properties": tuple(PropertyScale(**scale) for scale in content["properties"]),
                "elements": tuple(content["elements"]),
                "citations": tuple(content["citations"]),
            }
        ),
    )
