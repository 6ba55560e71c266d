"""The card of a checkpoint: all its metadata."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from app.models.prediction import QUANTILE_LEVELS

CARD_FILE = "card.json"
WEIGHTS_FILE = "weights.safetensors"  # a fixed name: a card cannot name another path
FORMAT_VERSION = 1


AnyCardT = TypeVar("AnyCardT", bound="AnyCard")


class CheckpointError(Exception):
    """A folder of the model store cannot be served; the message says which and why."""


@dataclass(frozen=True, kw_only=True)
class OtherModel:
    """A checkpoint that could have answered.

    Attributes:
        name: the value of `model` that selects it.
        mae_ev: its mean absolute error out of fold, random folds, sound rows, eV; None where its card has none.
        seconds_per_band: for a single band on the machine where its card was written; None where its card has none.
    """

    name: str
    mae_ev: float | None
    seconds_per_band: float | None


@dataclass(frozen=True, kw_only=True)
class TargetTransform:
    """The transform of the network's output: barrier = exp(output * scale + mean) - offset, eV."""

    offset_ev: float
    mean: float
    scale: float

    def __post_init__(self) -> None:
        _check(all(map(_finite, (self.offset_ev, self.mean, self.scale))) and self.scale > 0, "target")

    def to_output(self, barriers_ev: np.ndarray) -> np.ndarray:
        """The target outputs for barriers in eV."""
        return np.asarray((np.log(barriers_ev + self.offset_ev) - self.mean) / self.scale)

    def to_barriers_ev(self, outputs: np.ndarray) -> np.ndarray:
        """Barriers from outputs, eV; never negative, as barriers are not."""
        return np.asarray(np.maximum(np.exp(outputs * self.scale + self.mean) - self.offset_ev, 0.0))


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Errors of the network on bands it had not seen.

    Attributes:
        residual_quantiles: of (label - output) in the network's transformed units, at the levels of
            app.models.prediction.QUANTILE_LEVELS, not decreasing.
        outside_factor: the factor by which the distribution is widened for a band outside the domain.
        rows, folds: the number of out-of-fold predictions that it is based on, and their folds.
    """

    residual_quantiles: tuple[float, ...]
    outside_factor: float
    rows: int
    folds: tuple[int, ...]

    def __post_init__(self) -> None:
        quantiles = self.residual_quantiles
        whole = len(quantiles) == len(QUANTILE_LEVELS) and all(map(_finite, quantiles))
        _check(whole and list(quantiles) == sorted(quantiles), "calibration.residual_quantiles")
        _check(_finite(self.outside_factor) and self.outside_factor >= 1, "calibration.outside_factor")


@dataclass(frozen=True, kw_only=True)
class Domain:
    """The domain covered by the fitted bands.

    Attributes:
        ions, elements: all migrating ions, and all elements of hosts.
        hop_distance_angstrom, closest_approach_angstrom: the range, of the straight hop and of the ion's nearest
            host atom along it.
        vector_distance: a band whose pooled vector is farther than this from every fitted one is outside; the unit is
            the spread of the fitted vectors.
    """

    ions: tuple[str, ...]
    elements: tuple[str, ...]
    hop_distance_angstrom: tuple[float, float]
    closest_approach_angstrom: tuple[float, float]
    vector_distance: float

    def __post_init__(self) -> None:
        for bounds in (self.hop_distance_angstrom, self.closest_approach_angstrom):
            _check(len(bounds) == 2 and all(map(_finite, bounds)) and bounds[0] <= bounds[1], "domain")  # noqa: PLR2004
        _check(_finite(self.vector_distance) and self.vector_distance >= 0, "domain.vector_distance")


@dataclass(frozen=True, kw_only=True)
class AnyCard:
    """The fields that the cards of all kinds of checkpoint have.

    Attributes:
        network, arguments: the network's name and keyword arguments, enough to rebuild it.
        graph: keyword arguments of app.models.graphs.shells.GraphSpec.
        corpus: name, sha256, number of rows and of fitted rows.
        metrics: on held-out rows, with bootstrap intervals.
        training: the run's configuration, hardware and wall time.
        weights_sha256: the digest of the weights file.
    """

    name: str
    version: str
    description: str
    network: str
    arguments: dict[str, Any]
    graph: dict[str, Any]
    corpus: dict[str, Any]
    metrics: dict[str, Any]
    training: dict[str, Any]
    licence: str
    citations: tuple[str, ...]
    date: str
    weights_sha256: str
    format_version: int = FORMAT_VERSION

    def to_json(self) -> dict[str, Any]:
        """The card as plain JSON values."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @property
    def digest(self) -> str:
        """The digest of the model: of weights, calibration and everything else that changes an answer."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Card(AnyCard):
    """The card of a checkpoint of barriers, as it is written to card.json; its metrics are by folding."""

    target: TargetTransform
    calibration: Calibration
    domain: Domain
    directional: bool


def read_card(folder: Path) -> Card:
    """Read and check a card.

    Raises:
        CheckpointError: it is missing, of another format version, or a field is missing or invalid.
    """
    return checked_card(
        folder,
        card_content(folder),
        lambda content: Card(
            **{
                **content,
                "target": TargetTransform(**content["target"]),
                "calibration": _tuples(Calibration, content["calibration"]),
                "domain": _tuples(Domain, content["domain"]),
                "citations": tuple(content["citations"]),
            }
        ),
    )


def card_content(folder: Path) -> dict[str, Any]:
    """The content of a folder's card.

    Raises:
        CheckpointError: it is missing, not JSON, or of another format version.
    """
    path = folder / CARD_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(f"{path} is not a card of format {FORMAT_VERSION}")
    return content


def card_kind(folder: Path) -> str | None:
    """What a checkpoint predicts, by its card; None for barriers.

    Raises:
        CheckpointError: as card_content.
    """
    return card_content(folder).get("kind")


def content_of_kind(folder: Path, kind: str, what: str) -> dict[str, Any]:
    """The content of a card of a kind.

    Args:
        folder: of the checkpoint.
        kind: as the card states it.
        what: completes "the card of a model of".

    Raises:
        CheckpointError: as card_content, or the card is of another kind.
    """
    content = card_content(folder)
    if content.get("kind") != kind:
        raise CheckpointError(f"{folder / CARD_FILE} is not the card of a model of {what}")
    return content


def checked_card(folder: Path, content: dict[str, Any], made: Callable[[dict[str, Any]], AnyCardT]) -> AnyCardT:
    """A card from its content.

    Raises:
        CheckpointError: a field is missing or invalid, or the name is not the folder's.
    """
    path = folder / CARD_FILE
    try:
        card = made(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a whole card: {error}") from error
    if card.name != folder.name:
        raise CheckpointError(f"{path} has the name {card.name!r}, which is not its folder's name")
    return card


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _check(holds: bool, field: str) -> None:
    if not holds:
        raise ValueError(f"{field} is invalid")


def _tuples(kind: type[Any], content: dict[str, Any]) -> Any:
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in content.items()})
