"""The repository of predictions: all queries of the log's table."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import (
    ColumnElement,
    CursorResult,
    Insert,
    Row,
    case,
    delete,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    SQLAlchemyError,
    StatementError,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors import InputError, NotReadyError
from app.settings import Settings
from app.storage.cursors import Place, read_cursor, write_cursor
from app.storage.engine import open_engine
from app.storage.rows import (
    MOST_ROWS_A_PAGE,
    UNFINISHED,
    Page,
    PredictionFilter,
    PredictionRow,
    logged_formulas,
)
from app.storage.tables import predictions

OPERATION_TIMEOUT_S = 30.0
PING_TIMEOUT_S = 2.0

#: How long the tombstone of a deleted prediction is kept, so that neither a job still running nor the spool of a
#: replica that was down for some weeks can write it again.
TOMBSTONE_AGE = timedelta(days=30)

_DELETED = "deleted"
_ORDER = {"queued": 0, "running": 1, "failed": 2, "done": 3, _DELETED: 4}
_COLUMNS = tuple(field.name for field in fields(PredictionRow))
_LISTED = tuple(predictions.c[name] for name in _COLUMNS if name != "input_blob")
_PURGE_ROWS = 1_000

# The content of a tombstone: a deleted row keeps only its id, its key and its time of creation.
_TOMBSTONE: dict[str, object] = {
    "status": _DELETED,
    "kind": "",
    "model_name": "",
    "cached": False,
    **{column.name: None for column in predictions.c if column.nullable and column.name != "key_id"},
}


class UnwritableRowError(ValueError):
    """A row of a batch cannot be stored by the database; the others may be valid."""


def open_log(settings: Settings) -> "PredictionLog":
    """Create the log of IONPATH_DATABASE_URL; it connects at the first call, and `aclose` closes it.

    Raises:
        ValueError: the URL is not supported.
    """
    return PredictionLog.open(settings.database_url)


class PredictionLog:
    """The log of predictions, one row per reply.

    Every method raises NotReadyError (kind "log-unavailable") where the database cannot be reached or has no schema. A
    row belongs to one API key and is invisible to others.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._insert = _insert_statement(engine.dialect.name)
        self._tombstone = _tombstone_statement(engine.dialect.name)

    @classmethod
    def open(cls, url: SecretStr | str) -> "PredictionLog":
        """Create the log of a database URL; ValueError if it is not supported."""
        return cls(open_engine(url))

    async def aclose(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    async def ping(self) -> None:
        """Query the table within PING_TIMEOUT_S seconds; NotReadyError if that fails."""
        async with self._begin(PING_TIMEOUT_S) as connection:
            await connection.execute(select(predictions.c.id).limit(1))

    async def insert_many(self, rows: Sequence[PredictionRow]) -> None:
        """Write rows in one transaction: all or none.

        A row with an existing id replaces it if its status is further advanced, and is ignored otherwise: writing is
        idempotent, and a late batch changes nothing.

        Raises:
            UnwritableRowError: a row cannot be stored by the database.
        """
        if not rows:
            return
        try:
            async with self._begin() as connection:
                await connection.execute(self._insert, [_values(row) for row in rows])
        except (StatementError, ValueError, TypeError) as error:
            raise UnwritableRowError(str(error)) from error

    async def get(self, prediction_id: UUID, key_id: str | None) -> PredictionRow | None:
        """Return one prediction of a key, input included; None where there is none."""
        query = select(*(predictions.c[name] for name in _COLUMNS)).where(_visible(prediction_id, key_id))
        async with self._begin() as connection:
            found = (await connection.execute(query)).one_or_none()
        return None if found is None else _row(found)

    async def list(
        self,
        key_id: str | None,
        *,
        where: PredictionFilter | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Return a page of a key's predictions, newest first, without their inputs.

        Pages neither repeat nor skip a row, even with writes in between.

        Raises:
            InputError: kind "bad-cursor" or "bad-limit".
        """
        if not 1 <= limit <= MOST_ROWS_A_PAGE:
            raise InputError(
                f"limit is {limit}",
                kind="bad-limit",
                where="limit",
                expected=f"a whole number from 1 to {MOST_ROWS_A_PAGE}",
            )
        order = tuple_(predictions.c.created_at, predictions.c.id)
        query = select(*_LISTED).where(_owned(key_id), *_conditions(where or PredictionFilter()))
        if cursor is not None:
            place = read_cursor(cursor)
            query = query.where(order < tuple_(place.created_at, place.id, types=[c.type for c in _PLACE]))
        query = query.order_by(*(column.desc() for column in _PLACE)).limit(limit + 1)
        async with self._begin() as connection:
            found = (await connection.execute(query)).all()
        rows = tuple(_row(record) for record in found[:limit])
        more = len(found) > limit
        last = Place(created_at=rows[-1].created_at, id=rows[-1].id) if more else None
        return Page(rows=rows, next_cursor=None if last is None else write_cursor(last))

    async def delete(self, prediction_id: UUID, key_id: str | None) -> bool:
        """Delete the content of a prediction; False where the key has no such prediction.

        A tombstone stays for TOMBSTONE_AGE, see insert_tombstones.
        """
        statement = update(predictions).where(_visible(prediction_id, key_id)).values(_TOMBSTONE)
        async with self._begin() as connection:
            result = cast("CursorResult[Any]", await connection.execute(statement))
        return result.rowcount > 0

    async def insert_tombstones(self, prediction_ids: Iterable[UUID], key_id: str | None) -> None:
        """Delete a key's predictions, including those that are not yet written.

        An id that the log does not contain gets a tombstone as well, so that a row written later, even by another
        replica, is ignored.
        """
        now = datetime.now(UTC)
        tombstones = [{"id": number, "key_id": key_id, "created_at": now} for number in prediction_ids]
        if tombstones:
            async with self._begin() as connection:
                await connection.execute(self._tombstone, [{**one, **_TOMBSTONE} for one in tombstones])

    async def fail(self, prediction_ids: Iterable[UUID], error: Mapping[str, object]) -> None:
        """Mark abandoned predictions as failed; finished ones are left unchanged."""
        unfinished = predictions.c.id.in_(tuple(prediction_ids)) & predictions.c.status.in_(UNFINISHED)
        statement = update(predictions).where(unfinished).values(status="failed", error=dict(error))
        async with self._begin() as connection:
            await connection.execute(statement)

    async def delete_older_than(self, moment: datetime) -> int:
        """Delete all keys' predictions older than a moment; returns their number."""
        return await self._purge(predictions.c.created_at < moment)

    async def purge_tombstones(self) -> int:
        """Delete tombstones older than TOMBSTONE_AGE; returns their number."""
        before = datetime.now(UTC) - TOMBSTONE_AGE
        return await self._purge(predictions.c.status == _DELETED, predictions.c.created_at < before)

    async def _purge(self, *conditions: ColumnElement[bool]) -> int:
        """Delete in steps, each in its own transaction, so that writers are not blocked for long."""
        some = select(predictions.c.id).where(*conditions).limit(_PURGE_ROWS).scalar_subquery()
        statement = delete(predictions).where(predictions.c.id.in_(some))
        total = 0
        while True:
            async with self._begin() as connection:
                result = cast("CursorResult[Any]", await connection.execute(statement))
            total += result.rowcount
            if result.rowcount < _PURGE_ROWS:
                return total

    @asynccontextmanager
    async def _begin(self, timeout_s: float = OPERATION_TIMEOUT_S) -> AsyncIterator[AsyncConnection]:
        try:
            async with asyncio.timeout(timeout_s), self._engine.begin() as connection:
                yield connection
        except (SQLAlchemyError, TimeoutError, OSError) as error:
            if _is_about_a_row(error):
                raise
            raise NotReadyError(
                "the prediction log is not available: its database is not reachable or has not been migrated",
                kind="log-unavailable",
            ) from error


_PLACE = (predictions.c.created_at, predictions.c.id)


def _is_about_a_row(error: Exception) -> bool:
    """Whether an error is due to the values of a row, not to the database."""
    if isinstance(error, DBAPIError):
        return isinstance(error, DataError | IntegrityError)
    return isinstance(error, StatementError)  # a value that its column's type cannot convert


def _owned(key_id: str | None) -> ColumnElement[bool]:
    mine = predictions.c.key_id.is_(None) if key_id is None else predictions.c.key_id == key_id
    return mine & (predictions.c.status != _DELETED)


def _visible(prediction_id: UUID, key_id: str | None) -> ColumnElement[bool]:
    return (predictions.c.id == prediction_id) & _owned(key_id)


def _conditions(where: PredictionFilter) -> list[ColumnElement[bool]]:
    conditions = [
        predictions.c[name] == value
        for name in ("ion", "model_name", "status", "kind")
        if (value := getattr(where, name)) is not None
    ]
    if where.formula is not None:
        conditions.append(predictions.c.formula.in_({where.formula, *logged_formulas(where.formula)}))
    if where.created_after is not None:
        conditions.append(predictions.c.created_at >= where.created_after)
    if where.created_before is not None:
        conditions.append(predictions.c.created_at < where.created_before)
    if where.barrier_below_ev is not None:
        conditions.append(predictions.c.barrier_ev < where.barrier_below_ev)
    return conditions


def _values(row: PredictionRow) -> dict[str, object]:
    return {name: getattr(row, name) for name in _COLUMNS}


def _row(record: Row[Any]) -> PredictionRow:
    return PredictionRow(**record._mapping)  # noqa: SLF001 - SQLAlchemy's public name for a row as a mapping


def _progress(status: ColumnElement[str]) -> ColumnElement[int]:
    return case(_ORDER, value=status)


def _upsert(dialect: str) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(predictions) if dialect == "postgresql" else sqlite.insert(predictions)


def _insert_statement(dialect: str) -> Insert:
    statement = _upsert(dialect)
    kept = {"id", "key_id", "created_at"}
    return statement.on_conflict_do_update(
        index_elements=[predictions.c.id],
        set_={name: statement.excluded[name] for name in _COLUMNS if name not in kept},
        where=_progress(statement.excluded.status) > _progress(predictions.c.status),
    )


def _tombstone_statement(dialect: str) -> Insert:
    statement = _upsert(dialect)
    return statement.on_conflict_do_update(
        index_elements=[predictions.c.id],
        set_={name: statement.excluded[name] for name in _TOMBSTONE},
        where=predictions.c.key_id.is_not_distinct_from(statement.excluded.key_id),
    )
