"""Migrations of the log's schema, and its current revision."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from pydantic import SecretStr
from sqlalchemy import Connection, text

from app.storage.engine import open_schema_engine

MIGRATIONS = Path(__file__).parent / "migrations"

# An advisory lock number that nothing else uses in the database: the letters "ionpath" in ASCII.
_ADVISORY_LOCK = int.from_bytes(b"ionpath", "big")


@dataclass(frozen=True, kw_only=True)
class RevisionState:
    """The revision of a database's schema.

    Attributes:
        current: the last applied revision; one that this release does not know is of a later release.
        head: the newest revision of this release.
    """

    current: str | None
    head: str


def migrate(url: SecretStr | str) -> RevisionState:
    """Apply all missing revisions; if several replicas start at once, one of them does.

    It blocks: call it in a thread from an event loop. A failure leaves the schema unchanged, and so does a release that
    finds a later one's: a revision only adds to what the release before it uses, so that an upgrade can be taken back.

    Raises:
        ValueError: the URL is not supported.
        sqlalchemy.exc.SQLAlchemyError: the database cannot be reached or refuses the change.
    """
    with _connection(url) as connection:
        if connection.dialect.name == "postgresql":
            # Held until the end of the transaction, so a replica that crashes releases it.
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _ADVISORY_LOCK})
        config = _config()
        config.attributes["connection"] = connection
        if not _is_of_a_later_release(connection):
            command.upgrade(config, "head")
        return RevisionState(current=_current(connection), head=_head())


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _is_of_a_later_release(connection: Connection) -> bool:
    known = {revision.revision for revision in ScriptDirectory.from_config(_config()).walk_revisions()}
    return (current := _current(connection)) is not None and current not in known


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _head() -> str:
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


@contextmanager
def _connection(url: SecretStr | str) -> Iterator[Connection]:
    engine = open_schema_engine(url, changes=True)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()
