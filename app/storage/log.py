"""The repository of predictions: everything that is asked of the log's table is asked here."""

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
    or_,
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
    normal_formula,
)
from app.storage.tables import predictions

OPERATION_TIMEOUT_S = 30.0
PING_TIMEOUT_S = 2.0

#: A deleted prediction leaves its id behind this long, so that a job still running cannot write it again, nor the
#: spool of a replica that was down for some weeks.
GRAVE_AGE = timedelta(days=30)

_DELETED = "deleted"
_ORDER = {"queued": 0, "running": 1, "failed": 2, "done": 3, _DELETED: 4}
_COLUMNS = tuple(field.name for field in fields(PredictionRow))
_LISTED = tuple(predictions.c[name] for name in _COLUMNS if name != "input_blob")
_PURGE_ROWS = 1_000

# What a deleted row keeps: its id, its key and when it was made.
_WIPED: dict[str, object] = {
    "status": _DELETED,
    "kind": "",
    "model_name": "",
    "cached": False,
    **{column.name: None for column in predictions.c if column.nullable and column.name != "key_id"},
}


class UnwritableRowError(ValueError):
    """A row among those given holds what the database cannot; the others may be fine."""


def open_log(settings: Settings) -> "PredictionLog":
    """Make the log of IONPATH_DATABASE_URL; nothing is connected before the first call, `aclose` ends it.

    Raises:
        ValueError: the URL is of no known form.
    """
    return PredictionLog.open(settings.database_url)


class PredictionLog:
    """The log of predictions, one row a reply.

    Every method raises NotReadyError (kind "log-unavailable") where the database cannot be reached or has
    no schema. A row belongs to one API key: asked with another, it is not there.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._insert = _insert_statement(engine.dialect.name)
        self._bury = _bury_statement(engine.dialect.name)

    @classmethod
    def open(cls, url: SecretStr | str) -> "PredictionLog":
        """Make the log of a database URL; ValueError where it is of no known form."""
        return cls(open_engine(url))

    async def aclose(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    async def ping(self) -> None:
        """Ask the table itself, within PING_TIMEOUT_S seconds; NotReadyError where it does not answer."""
        async with self._begin(PING_TIMEOUT_S) as connection:
            await connection.execute(select(predictions.c.id).limit(1))

    async def insert_many(self, rows: Sequence[PredictionRow]) -> None:
        """Write rows in one transaction: all or none.

        A row whose id is there already takes the new one's content where its status is further on, and is
        left alone otherwise: writing a batch twice, or late, changes nothing.

        Raises:
            UnwritableRowError: a row holds what the database cannot.
        """
        if not rows:
            return
        try:
            async with self._begin() as connection:
                await connection.execute(self._insert, [_values(row) for row in rows])
        except (StatementError, ValueError, TypeError) as error:
            raise UnwritableRowError(str(error)) from error

    async def get(self, prediction_id: UUID, key_id: str | None) -> PredictionRow | None:
        """Give one prediction of a key, its input included; None where there is none."""
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
        """Give a page of a key's predictions, newest first, without their inputs.

        Pages neither repeat nor skip a row, whatever is written in between.

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
        """Wipe a prediction: its input, answer and everything said of it; False where the key has none such.

        Its bare id stays for GRAVE_AGE, see `bury`.
        """
        statement = update(predictions).where(_visible(prediction_id, key_id)).values(_WIPED)
        async with self._begin() as connection:
            result = cast("CursorResult[Any]", await connection.execute(statement))
        return result.rowcount > 0

    async def bury(self, prediction_ids: Iterable[UUID], key_id: str | None) -> None:
        """Delete a key's predictions, those too that are still on their way to the log.

        For an id that the log does not hold, an empty row is left, and whatever comes for it later is not
        written, from another replica neither.
        """
        now = datetime.now(UTC)
        graves = [{"id": number, "key_id": key_id, "created_at": now} for number in prediction_ids]
        if graves:
            async with self._begin() as connection:
                await connection.execute(self._bury, [{**grave, **_WIPED} for grave in graves])

    async def fail(self, prediction_ids: Iterable[UUID], error: Mapping[str, object]) -> None:
        """Give predictions that nobody works on any more their end; those that have one keep it."""
        unfinished = predictions.c.id.in_(tuple(prediction_ids)) & predictions.c.status.in_(UNFINISHED)
        statement = update(predictions).where(unfinished).values(status="failed", error=dict(error))
        async with self._begin() as connection:
            await connection.execute(statement)

    async def delete_older_than(self, moment: datetime) -> int:
        """Delete every key's predictions made before a moment; gives their number."""
        return await self._purge(predictions.c.created_at < moment)

    async def delete_graves(self) -> int:
        """Delete the bare ids of predictions deleted, once older than GRAVE_AGE; gives their number."""
        before = datetime.now(UTC) - GRAVE_AGE
        return await self._purge(predictions.c.status == _DELETED, predictions.c.created_at < before)

    async def _purge(self, *conditions: ColumnElement[bool]) -> int:
        """Delete in steps, each its own transaction, so that writers never wait long."""
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
                "the prediction log cannot be used now: its database is away or has not been migrated",
                kind="log-unavailable",
            ) from error


_PLACE = (predictions.c.created_at, predictions.c.id)


def _is_about_a_row(error: Exception) -> bool:
    """Whether the values given are at fault, not the database."""
    if isinstance(error, DBAPIError):
        return isinstance(error, DataError | IntegrityError)
    return isinstance(error, StatementError)  # a value that its column's type could not write


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
        exact = predictions.c.formula == where.formula
        conditions.append(or_(exact, predictions.c.formula == normal_formula(where.formula)))
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


def _bury_statement(dialect: str) -> Insert:
    statement = _upsert(dialect)
    return statement.on_conflict_do_update(
        index_elements=[predictions.c.id],
        set_={name: statement.excluded[name] for name in _WIPED},
        where=predictions.c.key_id.is_not_distinct_from(statement.excluded.key_id),
    )
