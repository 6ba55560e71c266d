"""A band on its way to the model, the place of one that is yet to be read, and what is asked of the model."""

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

    def graph(self, band: Band) -> Any:
        """Prepare a band; runs in a preparing thread."""

    def cost(self, graph: Any) -> int:
        """How much a prepared band costs, in line-graph edges."""

    def predict(self, graphs: Sequence[Any]) -> list[Prediction]:
        """Predict prepared bands in order; runs in the model's thread."""


class Stage(enum.Enum):
    """Where an item is."""

    WAITING = enum.auto()
    PREPARING = enum.auto()
    READY = enum.auto()
    TAKEN = enum.auto()
    DROPPED = enum.auto()


@dataclass(kw_only=True, eq=False, slots=True)
class WorkItem:
    """One band on its way; `cost` is an estimate until the item is READY, `request_id` is for the log.

    `alone`: no other was on its way when it began to be prepared.
    """

    predictor: BatchPredictor
    band: Band
    future: asyncio.Future[Prediction]
    cost: int
    admitted_at: float
    request_id: str | None = None
    stage: Stage = Stage.WAITING
    graph: Any = None
    alone: bool = False


@dataclass(kw_only=True, eq=False, slots=True)
class Place:
    """Room for one whose band is being read; without cost once it was used or given back.

    `promised`: it was kept for one who was told to come back.
    """

    cost: int
    promised: bool = False
