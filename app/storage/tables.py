"""The tables of the prediction log, the same on SQLite and PostgreSQL."""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Double,
    Index,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    Uuid,
)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment with its time zone; SQLite, which has no time zones, stores it in UTC as text that sorts by time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert the moment to UTC, without a zone if the database has none."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment in the log needs a time zone")
        in_utc = value.astimezone(UTC)
        return in_utc.replace(tzinfo=None) if dialect.name == "sqlite" else in_utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Read the moment back in UTC, whatever the zone of the database's session."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


metadata = MetaData()

# JSON, not PostgreSQL's JSONB: JSONB sorts the keys, and answers must be returned unchanged.
_DOCUMENT = JSON(none_as_null=True)

predictions = Table(
    "predictions",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("key_id", Text),
    Column("status", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("model_name", Text, nullable=False),
    Column("model_digest", Text),
    Column("ion", Text),
    Column("formula", Text),
    Column("input_digest", Text),  # no longer written; goes with a later release, since older ones still write it
    Column("input_blob", LargeBinary),
    Column("answer", _DOCUMENT),
    Column("error", _DOCUMENT),
    Column("threshold_ev", Double),
    Column("barrier_ev", Double),
    Column("cached", Boolean, nullable=False),
    Column("request_id", Text),
    Column("seconds", Double),
    Index("ix_predictions_key_id_created_at_id", "key_id", "created_at", "id"),
    Index("ix_predictions_created_at", "created_at"),
)
