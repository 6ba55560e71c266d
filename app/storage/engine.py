"""Database engines for the log, on SQLite or PostgreSQL."""

import sqlite3
import time
from typing import Any

import orjson
from pydantic import SecretStr
from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from app.storage.rows import json_text

SQLITE_WAIT_S = 10.0
CONNECT_TIMEOUT_S = 5
DEAD_PEER_MS = 15_000


def database_url(url: SecretStr | str) -> URL:
    """Read IONPATH_DATABASE_URL.

    Raises:
        ValueError: it names neither an SQLite file nor a PostgreSQL database; the message never repeats the
            URL, which may hold a password.
    """
    text = url.get_secret_value() if isinstance(url, SecretStr) else url
    forms = "sqlite+aiosqlite:///FILE or postgresql+psycopg://user:password@host/name"
    try:
        parsed = make_url(text)
    except ArgumentError:
        raise ValueError(f"IONPATH_DATABASE_URL is not a URL: expected {forms}") from None
    if parsed.drivername not in {"sqlite+aiosqlite", "postgresql+psycopg"}:
        raise ValueError(f"IONPATH_DATABASE_URL starts with {parsed.drivername!r}: expected {forms}")
    if parsed.drivername == "sqlite+aiosqlite" and parsed.database in {None, "", ":memory:"}:
        # Each connection would have an empty database of its own, and the log would end with the process.
        raise ValueError("IONPATH_DATABASE_URL names an SQLite database in memory: name a file")
    return parsed


def open_engine(url: SecretStr | str) -> AsyncEngine:
    """Create the engine of the log; it connects when first used."""
    parsed = database_url(url)
    engine = create_async_engine(parsed, pool_pre_ping=True, **_options(parsed))
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    return engine


def open_schema_engine(url: SecretStr | str, *, changes: bool) -> Engine:
    """Create a synchronous engine that reads the schema or, with `changes`, changes it in transactions."""
    parsed = database_url(url)
    on_sqlite = parsed.drivername == "sqlite+aiosqlite"
    plain = parsed.set(drivername="sqlite") if on_sqlite else parsed
    engine = create_engine(plain, poolclass=NullPool, **_options(parsed))
    if on_sqlite and changes:
        event.listen(engine, "connect", _keep_write_ahead_log)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "connect", _disable_implicit_transactions)
        # IMMEDIATE takes the write lock at once: replicas that start together migrate one after the other.
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _options(url: URL) -> dict[str, Any]:
    options: dict[str, Any] = {
        "json_serializer": json_text,
        "json_deserializer": orjson.loads,
        "hide_parameters": True,  # keeps users' input out of error messages and logs
    }
    if url.drivername == "postgresql+psycopg":
        options["connect_args"] = {
            "connect_timeout": CONNECT_TIMEOUT_S,
            "tcp_user_timeout": DEAD_PEER_MS,  # an unreachable host is detected instead of waited for
            "application_name": "ionpath",
        }
    else:
        options["connect_args"] = {"timeout": SQLITE_WAIT_S}
    return options


def _prepare_sqlite(connection: Any, _entry: ConnectionPoolEntry) -> None:
    # NORMAL: a power cut may lose the last rows, never the file.
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()


def _keep_write_ahead_log(connection: Any, _entry: ConnectionPoolEntry) -> None:
    """Set write-ahead logging, so that reads do not block on writes; the file keeps it, so it is set with the schema.

    SQLite waits for other connections at every step but this one, so waiting is done here.
    """
    gives_up = time.monotonic() + SQLITE_WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > gives_up:
                raise
            time.sleep(0.05)
        else:
            return


def _disable_implicit_transactions(connection: Any, _entry: ConnectionPoolEntry) -> None:
    # Otherwise Python's sqlite3 commits before each change of the schema.
    connection.isolation_level = None
