"""The card of a checkpoint that answers for bulk properties of a crystal."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.models.cards import CARD_FILE, FORMAT_VERSION, CheckpointError

#: What `kind` says in the card; a card without the word is one of barriers.
PROPERTIES_KIND = "properties"


@dataclass(frozen=True, kw_only=True)
class PropertyScale:
    """A property, and what a network's output means: -1 to 1 is its range in the fitted rows.

    Attributes:
        name, unit: as answers give them; the unit is empty for a pure number.
        low, high: of the values, or of log(1 + value) where logarithmic.
    """

    name: str
    unit: str
    low: float
    high: float
    logarithmic: bool

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"the range of {self.name} makes no sense")

    def to_target(self, values: np.ndarray) -> np.ndarray:
        """Targets of values in the property's unit; NaN stays NaN."""
        return np.asarray(2.0 * (self.judged(values) - self.low) / (self.high - self.low) - 1.0)

    def from_output(self, outputs: np.ndarray) -> np.ndarray:
        """Values in the property's unit from a network's outputs."""
        values = (np.asarray(outputs, dtype=np.float64) + 1.0) / 2.0 * (self.high - self.low) + self.low
        return np.asarray(np.expm1(values) if self.logarithmic else values)

    def judged(self, values: np.ndarray) -> np.ndarray:
        """What errors are measured on: the values, or their log(1 + value)."""
        return np.asarray(np.log1p(np.maximum(values, 0.0)) if self.logarithmic else values)


@dataclass(frozen=True, kw_only=True)
class PropertyCard:
    """The card, as it is written to card.json.

    Attributes:
        network, arguments: the network's name and keyword arguments, enough to rebuild it.
        graph: keyword arguments of app.models.graphs.GraphSpec.
        properties: in the order of the network's outputs.
        elements: of the fitted crystals.
        corpus: name, sha256, rows and how many of them were fitted.
        metrics: by property, on the test rows, with bootstrap intervals.
        training: the run's configuration, hardware and wall time.
        weights_sha256: the digest that the weights file must have.
    """

    name: str
    version: str
    description: str
    network: str
    arguments: dict[str, Any]
    graph: dict[str, Any]
    properties: tuple[PropertyScale, ...]
    elements: tuple[str, ...]
    corpus: dict[str, Any]
    metrics: dict[str, Any]
    training: dict[str, Any]
    licence: str
    citations: tuple[str, ...]
    date: str
    weights_sha256: str
    kind: str = PROPERTIES_KIND
    format_version: int = FORMAT_VERSION

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @property
    def digest(self) -> str:
        """Names this very model."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()


def answers_properties(folder: Path) -> bool:
    """Whether a checkpoint's card says that it is one of bulk properties; False where it cannot be read."""
    try:
        content = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("kind") == PROPERTIES_KIND


def read_property_card(folder: Path) -> PropertyCard:
    """Reads and checks a card.

    Raises:
        CheckpointError: it is missing, of another format or kind, or a field is missing or of the wrong kind.
    """
    path = folder / CARD_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(f"{path} is not a card of format {FORMAT_VERSION}")
    if content.get("kind") != PROPERTIES_KIND:
        raise CheckpointError(f"{path} is not the card of a model of bulk properties")
    try:
        card = PropertyCard(
            **{
                **content,
                "properties": tuple(PropertyScale(**scale) for scale in content["properties"]),
                "elements": tuple(content["elements"]),
                "citations": tuple(content["citations"]),
            }
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a whole card: {error}") from error
    if card.name != folder.name:
        raise CheckpointError(f"{path} calls itself {card.name!r}, which is not its folder's name")
    return card
