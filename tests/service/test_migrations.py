"""The log's schema changes while the release before still runs: each revision adds to what that one uses."""

from collections.abc import Callable, Iterator
from pathlib import Path

import alembic.command
import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from typer.testing import CliRunner

from app.cli import cli
from app.storage import migrate as migrating
from app.storage.migrate import MIGRATIONS, migrate

REVISIONS = [revision.revision for revision in ScriptDirectory(str(MIGRATIONS)).walk_revisions()][::-1]

Schema = dict[str, list[sa.engine.interfaces.ReflectedColumn]]


def schema(connection: sa.Connection) -> Schema:
    inspector = sa.inspect(connection)
    return {name: inspector.get_columns(name) for name in inspector.get_table_names()}


def breaks(before: Schema, after: Schema) -> list[str]:
    """What the release before could not work with."""
    found = [f"the table {table} is gone" for table in before.keys() - after.keys()]
    for table in before.keys() & after.keys():
        old, new = ({column["name"]: column for column in columns[table]} for columns in (before, after))
        found += [f"{table}.{name} is gone" for name in old.keys() - new.keys()]
        found += [
            f"{table}.{name} is of another type"
            for name in old.keys() & new.keys()
            if str(old[name]["type"]) != str(new[name]["type"])
        ]
        demanded = {name for name, column in new.items() if not column["nullable"] and column["default"] is None}
        optional = {name for name, column in old.items() if column["nullable"] or column["default"] is not None}
        found += [
            f"{table}.{name} must be written" for name in sorted(demanded & (optional | (new.keys() - old.keys())))
        ]
    return found


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sa.Connection]:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'log.sqlite3'}", poolclass=sa.NullPool)
    with engine.connect() as connection:
        yield connection


def upgrade(connection: sa.Connection, revision: str) -> None:
    config = migrating._config()  # to stop at each revision
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, revision)
    connection.commit()


def test_each_revision_leaves_the_release_before_it_working(connection: sa.Connection) -> None:
    upgrade(connection, REVISIONS[0])
    for revision in REVISIONS[1:]:
        before = schema(connection)
        upgrade(connection, revision)
        assert not breaks(before, schema(connection)), revision


CHANGES: dict[str, tuple[Callable[[Operations], object], list[str]]] = {
    "a column": (lambda op: op.add_column("log", sa.Column("note", sa.Text())), []),
    "a column with a default": (
        lambda op: op.add_column("log", sa.Column("note", sa.Text(), nullable=False, server_default="")),
        [],
    ),
    "a table": (lambda op: op.create_table("more", sa.Column("id", sa.Integer(), primary_key=True)), []),
    "no table": (lambda op: op.drop_table("log"), ["the table log is gone"]),
    "no column": (lambda op: op.drop_column("log", "ion"), ["log.ion is gone"]),
    "another name": (lambda op: op.execute("ALTER TABLE log RENAME ion TO kation"), ["log.ion is gone"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_would_break_the_release_before_is_found(connection: sa.Connection, change: str) -> None:
    operations = Operations(MigrationContext.configure(connection))
    columns = (sa.Column("id", sa.Integer(), primary_key=True), sa.Column("ion", sa.Text()))
    operations.create_table("log", *columns)
    before = schema(connection)
    step, expected = CHANGES[change]
    step(operations)
    assert breaks(before, schema(connection)) == expected


def test_a_column_that_must_be_written_would_break_it() -> None:
    text = {"name": "ion", "type": sa.Text(), "nullable": True, "default": None}
    before: Schema = {"log": [text]}  # type: ignore[list-item] # a reflected column without its other fields
    after: Schema = {"log": [text | {"nullable": False}, text | {"name": "note", "nullable": False}]}  # type: ignore[list-item] # as above
    assert breaks(before, after) == ["log.ion must be written", "log.note must be written"]
    number: Schema = {"log": [text | {"type": sa.Integer()}]}  # type: ignore[list-item] # as above
    assert breaks(before, number) == ["log.ion is of another type"]


def test_a_release_that_is_taken_back_leaves_a_later_schema_alone(connection: sa.Connection, tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'log.sqlite3'}"
    head = migrate(url).head
    connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    connection.commit()
    before = schema(connection)
    state = migrate(url)
    assert (state.current, state.head) == ("9999", head)
    assert not breaks(before, schema(connection))
    done = CliRunner().invoke(cli, ["migrate"], env={"IONPATH_DATABASE_URL": url})
    assert done.exit_code == 0
    assert "(revision 9999) is of a later release" in done.stdout
