"""What is asked, by whom, and the row that is logged of it."""

import time
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal
from uuid import UUID

from app.crystals.band import Band
from app.crystals.hops.options import USUAL, HopOptions
from app.errors import IonpathError
from app.models.predictors.predictor import Predictor
from app.serving.answers.as_json import error_to_json
from app.serving.answers.types import Answer, Status
from app.serving.cache import CacheScope
from app.serving.inference.admission import AdmittedWork
from app.serving.reading.upload_reader import ReadInput
from app.serving.reading.uploads import Upload
from app.storage.rows import JsonDocument, PredictionRow


@dataclass(frozen=True, kw_only=True)
class PredictionRequest:
    """What is asked, by whom.

    Attributes:
        upload: what was sent.
        model: the checkpoint's name; None asks the default one.
        threshold_ev: a good conductor has a barrier below it, eV.
        hops: for a crystal, which hops are searched for.
        second_opinion: for a crystal, another method that is asked as well.
        conductivity: whether a crystal's conductivity is predicted as well: "required" refuses what has none.
        key_id: of the API key; None where there are no keys.
        request_id: of the HTTP request, for the log.
        work: its share of the waiting work, where it was admitted before it was read.
    """

    upload: Upload
    model: str | None
    threshold_ev: float
    key_id: str | None
    request_id: str
    hops: HopOptions = USUAL
    second_opinion: Literal["bvse"] | None = None
    conductivity: Literal["required", "where-known"] | None = None
    work: AdmittedWork | None = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request that has been read.

    Attributes:
        request: what was asked.
        prediction_id: its own, whatever is answered.
        created_at: when it came.
        started_s: the same on the monotonic clock, seconds.
        predictor: the checkpoint that answers.
        read: what was sent.
        later: whether it is answered later, as a job.
    """

    request: PredictionRequest
    prediction_id: UUID
    created_at: datetime
    started_s: float
    predictor: Predictor
    read: ReadInput
    later: bool

    @property
    def scope(self) -> CacheScope:
        """Whose cached answers may be given."""
        return CacheScope(
            key_id=self.request.key_id,
            model_name=self.predictor.name,
            model_digest=self.predictor.digest,
            directional=self.predictor.card.directional,
        )

    def row(
        self,
        status: Status,
        *,
        answer: Answer | None = None,
        document: JsonDocument | None = None,
        error: IonpathError | None = None,
    ) -> PredictionRow:
        """The row that is logged of it, with its answer (and its JSON) or its error where there is one."""
        row = PredictionRow(
            id=self.prediction_id,
            created_at=self.created_at,
            key_id=self.request.key_id,
            status=status,
            kind="band" if isinstance(self.read.content, Band) else "crystal",
            model_name=self.predictor.name,
            model_digest=self.predictor.digest,
            ion=self.read.ion,
            formula=self.read.formula,
            input_blob=self.read.packed,
            threshold_ev=self.request.threshold_ev,
            request_id=self.request.request_id,
            seconds=time.monotonic() - self.started_s,
            error=None if error is None else error_to_json(error),
        )
        if answer is None:
            return row
        barrier_ev = None if answer.prediction is None else answer.prediction.barrier_ev
        return replace(row, answer=document, barrier_ev=barrier_ev, cached=answer.cached)
