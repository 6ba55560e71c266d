"""A band on its way to the model, and what is asked of a model."""

import asyncio
import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.crystals.band import Band
from app.models.prediction import Prediction


class BatchPredictor(Protocol):
    """What the batcher asks of a model; its graphs are opaque here."""

    @property
    def name(self) -> str:
        """The checkpoint's name, by which figures are kept."""

    @property
    def preparation(self) -> Any:
        """What prepares a band apart from the model; None where the model's worker does."""

    def graph(self, band: Band) -> Any:
        """Prepare a band."""

    def cost(self, graph: Any) -> int:
        """How much a prepared band costs, in line-graph edges."""

    def predict(self, graphs: Sequence[Any]) -> list[Prediction]:
        """Predict prepared bands in order."""


class Stage(enum.Enum):
    """Where an item is."""

    WAITING = enum.auto()
    PREPARING = enum.auto()
    READY = enum.auto()
    TAKEN = enum.auto()
    DROPPED = enum.auto()


class Turn(enum.Enum):
    """Bands of their own and the hops of crystals take turns, so that neither waits behind all of the other."""

    BAND = enum.auto()
    HOP = enum.auto()
    JOB = enum.auto()


@dataclass(kw_only=True, eq=False, slots=True)
class WorkItem:
    """One band on its way.

    Attributes:
        cost: line-graph edges, an estimate until the band is prepared.
        graph: the prepared band; None until it is prepared, or where the model's worker prepares it.
        seconds: CPU time that it took so far.
        began_s: when it was first taken to be prepared or run, on the monotonic clock; None while it waits.
        request_id: for the log.
    """

    predictor: BatchPredictor
    band: Band
    future: asyncio.Future[Prediction]
    cost: int
    admitted_at: float
    turn: Turn = Turn.BAND
    request_id: str | None = None
    stage: Stage = Stage.WAITING
    graph: Any = None
    seconds: float = 0.0
    began_s: float | None = None
