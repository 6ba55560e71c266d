"""Rows of the prediction log, and which of them PostgreSQL holds."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
from sqlalchemy import make_url

from app.storage.rows import PredictionRow

DEADLINE_S = 60.0


def make_row(**changes: Any) -> PredictionRow:
    """A row of the log with an id of its own."""
    row = PredictionRow(
        id=uuid4(),
        created_at=datetime.now(UTC),
        key_id="alice",
        status="done",
        kind="band",
        model_name="model-3",
        answer={"barrier_ev": 0.3},
        input_blob=bytes(200),
    )
    return replace(row, **changes)


def logged(url: str) -> list[UUID]:
    """Ids of every row that PostgreSQL holds, but for the empty ones of deleted predictions."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM predictions WHERE status <> 'deleted'")]
