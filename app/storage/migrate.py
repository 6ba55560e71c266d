"""Brings the log's schema up to date and says where it stands."""

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

# Any number that nobody else locks in the same database; the letters "ionpath" in ASCII.
_ADVISORY_LOCK = int.from_bytes(b"ionpath", "big")


@dataclass(frozen=True, kw_only=True)
class RevisionState:
    """Where a database's schema stands.

    Attributes:
        current: the newest revision applied.
        head: the newest revision that this release knows.
    """

    current: str | None
    head: str


def migrate(url: SecretStr | str) -> RevisionState:
    """Apply every revision that is missing; where several replicas start at once, one does the work.

    It blocks: an event loop calls it in a thread. A failure leaves the schema as it was.

    Raises:
        ValueError: the URL is of no known form.
        sqlalchemy.exc.SQLAlchemyError: the database cannot be reached or refuses the change.
    """
    with _connection(url) as connection:
        if connection.dialect.name == "postgresql":
            # Until the end of the transaction, so a replica that dies half way lets the next one in.
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _ADVISORY_LOCK})
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        current = MigrationContext.configure(connection).get_current_revision()
        return RevisionState(current=current, head=_head())


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
