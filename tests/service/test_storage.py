"""The prediction log keeps its promises alike on SQLite and PostgreSQL."""

import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import SecretStr

from app.errors import InputError, NotReadyError
from app.settings import Settings
from app.storage.engine import open_schema_engine
from app.storage.log import PredictionLog, UnwritableRowError, open_log
from app.storage.migrate import migrate
from app.storage.rows import PredictionFilter, PredictionRow, pack_input, unpack_input
from app.storage.tables import metadata

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 3, 4, 12, 0, 0, 123456, tzinfo=UTC)


#: Filters, and which rows of test_filters each one shows.
FILTERS = (
    (PredictionFilter(ion="Mg"), {"mg"}),
    (PredictionFilter(formula="Mg4 O4"), {"mg"}),
    (PredictionFilter(formula="O4Mg4"), {"mg"}),
    (PredictionFilter(formula="MgO"), {"mg"}),
    (PredictionFilter(formula="Mg8O8"), set[str]()),
    (PredictionFilter(model_name="model-4"), {"model-4"}),
    (PredictionFilter(status="failed"), {"failed"}),
    (PredictionFilter(kind="crystal"), {"crystal"}),
    (PredictionFilter(barrier_below_ev=0.2), {"low"}),
    (PredictionFilter(created_after=NOON + timedelta(hours=1)), {"late"}),
    (PredictionFilter(created_after=datetime(2026, 3, 4, 13, 0)), {"late"}),  # noqa: DTZ001 - no zone is the point
    (PredictionFilter(created_before=NOON), {"early"}),
    (PredictionFilter(ion="Mg", kind="crystal"), set[str]()),
)


def make_row(**changes: Any) -> PredictionRow:
    row = PredictionRow(
        id=uuid4(),
        created_at=NOON,
        key_id="alice",
        status="done",
        kind="band",
        model_name="model-3",
        model_digest="sha256:1",
        ion="Li",
        formula="Fe4 Li4 O16 P4",
        input_blob=pack_input({"ion": "Li", "image_frac_coords": [[0.1, 0.2, 1.0 / 3.0]]}),
        answer={"barrier_ev": 0.1 + 0.2, "a": None, "Z": "Å\u0000", "hops": [{"offset": [0, -1, 0]}]},
        threshold_ev=0.65,
        barrier_ev=0.1 + 0.2,
        cached=True,
        request_id="r-1",
        seconds=0.0123,
    )
    return replace(row, **changes)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'log.sqlite3'}"
    make: Callable[[], str] = request.getfixturevalue("new_postgres_database")
    return make()


@pytest.fixture
async def log(empty_url: str) -> AsyncIterator[PredictionLog]:
    migrate(empty_url)
    log = open_log(Settings(database_url=SecretStr(empty_url)))
    yield log
    await log.aclose()


class TestMigrations:
    def test_an_empty_database_is_brought_to_the_head_and_stays_there(self, empty_url: str) -> None:
        first = migrate(SecretStr(empty_url))
        assert first.current == first.head
        assert migrate(empty_url) == first

    def test_replicas_that_start_together_migrate_once(self, empty_url: str) -> None:
        program = "import sys; from app.storage.migrate import migrate; print(migrate(sys.argv[1]).current)"
        replicas = [
            subprocess.Popen(
                [sys.executable, "-c", program, empty_url],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for _ in range(3)
        ]
        assert [replica.communicate(timeout=60)[0].strip() for replica in replicas] == [migrate(empty_url).head] * 3

    def test_the_revisions_make_the_tables_of_the_code(self, empty_url: str) -> None:
        migrate(empty_url)
        engine = open_schema_engine(empty_url, changes=False)
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, metadata) == []
        engine.dispose()

    def test_sqlite_keeps_a_write_ahead_log(self, tmp_path: Path) -> None:
        migrate(f"sqlite+aiosqlite:///{tmp_path / 'log.sqlite3'}")
        with closing(sqlite3.connect(tmp_path / "log.sqlite3")) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)

    @pytest.mark.parametrize(
        "url",
        ["sqlite://", "sqlite+aiosqlite://", "sqlite+aiosqlite:///:memory:", "mysql://u:hush@h/d", "hush"],
    )
    def test_other_urls_are_refused_without_being_repeated(self, url: str) -> None:
        with pytest.raises(ValueError, match="IONPATH_DATABASE_URL") as caught:
            PredictionLog.open(url)
        assert "hush" not in str(caught.value)


class TestRows:
    async def test_a_row_comes_back_as_it_was(self, log: PredictionLog) -> None:
        row = make_row()
        await log.insert_many([row])
        found = await log.get(row.id, "alice")
        assert found == row
        assert found.answer is not None
        assert list(found.answer) == ["barrier_ev", "a", "Z", "hops"]
        assert found.created_at.utcoffset() == timedelta(0)
        assert found.input_blob is not None
        assert unpack_input(found.input_blob)["image_frac_coords"] == [[0.1, 0.2, 1.0 / 3.0]]

    async def test_a_job_without_an_answer_yet_comes_back_as_it_was(self, log: PredictionLog) -> None:
        row = PredictionRow(
            id=uuid4(), created_at=NOON, key_id=None, status="queued", kind="crystal", model_name="model-3"
        )
        await log.insert_many([row])
        assert await log.get(row.id, None) == row

    async def test_moments_of_other_zones_are_the_same_moments(self, log: PredictionLog) -> None:
        elsewhere = datetime.fromisoformat("2026-03-04T20:00:00+08:00")
        row = make_row(created_at=elsewhere)
        await log.insert_many([row])
        found = await log.get(row.id, "alice")
        assert found is not None
        assert found.created_at == elsewhere

    async def test_a_key_sees_its_own_rows_alone(self, log: PredictionLog) -> None:
        rows = [make_row(key_id=key_id) for key_id in ("alice", "bob", None)]
        await log.insert_many(rows)
        for row in rows:
            for key_id in ("alice", "bob", None):
                found = await log.get(row.id, key_id)
                assert (found == row) == (row.key_id == key_id)
                assert found is None or found == row
                page = await log.list(key_id)
                assert {listed.key_id for listed in page.rows} == {key_id}
        assert not await log.delete(rows[0].id, "bob")
        assert not await log.delete(rows[0].id, None)
        assert await log.get(rows[0].id, "alice") == rows[0]

    async def test_writing_twice_changes_nothing(self, log: PredictionLog) -> None:
        rows = [make_row() for _ in range(5)]
        await log.insert_many(rows)
        await log.insert_many([*rows, make_row()])
        assert len((await log.list("alice")).rows) == 6

    async def test_a_status_only_goes_forward(self, log: PredictionLog) -> None:
        queued = make_row(status="queued", answer=None, barrier_ev=None)
        running = replace(queued, status="running")
        done = make_row(id=queued.id)
        await log.insert_many([queued, running, done])
        assert await log.get(queued.id, "alice") == done
        await log.insert_many([running, queued, make_row(id=queued.id, status="failed", error={"kind": "x"})])
        assert await log.get(queued.id, "alice") == done

    async def test_a_row_that_cannot_be_written_takes_none_with_it_half_way(self, log: PredictionLog) -> None:
        good, bad = make_row(), make_row(answer={"structure": object()})
        with pytest.raises(UnwritableRowError):
            await log.insert_many([good, bad])
        assert await log.get(good.id, "alice") is None

    async def test_no_rows_are_no_work(self, log: PredictionLog) -> None:
        await log.insert_many([])
        await log.insert_tombstones([], "alice")
        assert not (await log.list("alice")).rows


class TestJobsWithoutAProcess:
    async def test_those_that_have_no_end_are_failed_and_keep_their_input(self, log: PredictionLog) -> None:
        lost = [make_row(status=status, answer=None, barrier_ev=None) for status in ("queued", "running")]
        ended = [make_row(status="done"), make_row(status="failed", error={"kind": "mixed-sites"})]
        await log.insert_many([*lost, *ended])
        await log.fail([row.id for row in (*lost, *ended)], {"kind": "interrupted"})
        for row in lost:
            expected = replace(row, status="failed", error={"kind": "interrupted"})
            assert await log.get(row.id, "alice") == expected
        assert [await log.get(row.id, "alice") for row in ended] == ended
        await log.insert_many([replace(lost[0], status="done")])  # it was only slow
        assert (await log.list("alice", where=PredictionFilter(status="failed"))).rows[0].id != lost[0].id


class TestLists:
    async def test_pages_hold_every_row_once_newest_first(self, log: PredictionLog) -> None:
        moments = [NOON + timedelta(microseconds=number // 3) for number in range(20)]  # with ties
        rows = [make_row(created_at=moment) for moment in moments]
        await log.insert_many(rows)
        listed: list[PredictionRow] = []
        cursor = None
        while True:
            page = await log.list("alice", limit=4, cursor=cursor)
            assert len(page.rows) <= 4
            listed.extend(page.rows)
            await log.insert_many([make_row(created_at=NOON + timedelta(days=1))])  # newer: on no later page
            cursor = page.next_cursor
            if cursor is None:
                break
        expected = sorted(rows, key=lambda row: (row.created_at, row.id), reverse=True)
        assert [row.id for row in listed] == [row.id for row in expected]
        assert all(row.input_blob is None for row in listed)

    async def test_a_page_that_ends_the_list_has_no_cursor(self, log: PredictionLog) -> None:
        await log.insert_many([make_row() for _ in range(3)])
        assert (await log.list("alice", limit=3)).next_cursor is None
        assert (await log.list("nobody")).rows == ()

    async def test_filters(self, log: PredictionLog) -> None:
        rows = {
            "mg": make_row(ion="Mg", formula="Mg4 O4"),
            "model-4": make_row(model_name="model-4"),
            "failed": make_row(status="failed", barrier_ev=None, error={"kind": "mixed-sites"}),
            "crystal": make_row(kind="crystal"),
            "low": make_row(barrier_ev=0.19),
            "late": make_row(created_at=NOON + timedelta(hours=2)),
            "early": make_row(created_at=NOON - timedelta(microseconds=1)),
        }
        await log.insert_many(list(rows.values()))
        names = {row.id: name for name, row in rows.items()}
        for where, expected in FILTERS:
            page = await log.list("alice", where=where)
            assert {names[row.id] for row in page.rows} == expected, where

    async def test_limits_out_of_range_are_refused(self, log: PredictionLog) -> None:
        for limit in (0, -1, 501):
            with pytest.raises(InputError) as caught:
                await log.list("alice", limit=limit)
            assert caught.value.kind == "bad-limit"


class TestDeletion:
    async def test_a_deleted_row_is_gone_with_all_it_said(self, log: PredictionLog, empty_url: str) -> None:
        row, other = make_row(), make_row()
        await log.insert_many([row, other])
        assert await log.delete(row.id, "alice")
        assert await log.get(row.id, "alice") is None
        assert [listed.id for listed in (await log.list("alice")).rows] == [other.id]
        assert not await log.delete(row.id, "alice")
        engine = open_schema_engine(empty_url, changes=False)
        with engine.connect() as connection:
            left = connection.exec_driver_sql("SELECT * FROM predictions WHERE status = 'deleted'").mappings().one()
        engine.dispose()
        said = {name for name, value in left.items() if value}
        assert said == {"id", "created_at", "key_id", "status"}

    async def test_what_still_comes_for_a_deleted_row_is_not_written(self, log: PredictionLog) -> None:
        running = make_row(status="running")
        await log.insert_many([running])
        assert await log.delete(running.id, "alice")
        on_its_way = make_row()
        await log.insert_tombstones([on_its_way.id], "alice")
        await log.insert_many([replace(running, status="done"), on_its_way])
        assert (await log.list("alice")).rows == ()

    async def test_a_key_buries_its_own_rows_alone(self, log: PredictionLog) -> None:
        mine, theirs, nobodys = make_row(), make_row(key_id="bob"), make_row(key_id=None)
        await log.insert_many([mine, theirs, nobodys])
        await log.insert_tombstones([mine.id, theirs.id], "alice")
        await log.insert_tombstones([nobodys.id], None)
        assert await log.get(mine.id, "alice") is None
        assert await log.get(nobodys.id, None) is None
        assert await log.get(theirs.id, "bob") == theirs

    async def test_old_rows_are_deleted_in_steps(self, log: PredictionLog, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.storage.log._PURGE_ROWS", 3)
        old = [make_row(created_at=NOON - timedelta(days=1), key_id=key_id) for key_id in ("a", "b", None) * 3]
        young = make_row()
        await log.insert_many([*old, young])
        assert await log.delete_older_than(NOON) == 9
        assert await log.delete_older_than(NOON) == 0
        assert await log.get(young.id, "alice") == young

    async def test_the_ids_of_deleted_rows_go_after_a_month(self, log: PredictionLog) -> None:
        old, fresh = make_row(), make_row(created_at=datetime.now(UTC))
        await log.insert_many([old, fresh])
        await log.delete(old.id, "alice")
        await log.delete(fresh.id, "alice")
        assert await log.purge_tombstones() == 1
        await log.insert_many([fresh])
        assert await log.get(fresh.id, "alice") is None


class TestTrouble:
    async def test_a_database_without_the_schema_is_not_ready(self, empty_url: str) -> None:
        log = PredictionLog.open(empty_url)
        for call in (log.ping(), log.insert_many([make_row()]), log.get(UUID(int=1), None)):
            with pytest.raises(NotReadyError) as caught:
                await call
            assert caught.value.kind == "log-unavailable"
        await log.aclose()

    async def test_a_database_that_is_away_is_not_ready(
        self, new_postgres_database: Callable[[], str], postgres_outage: Callable[[str], Any]
    ) -> None:
        url = new_postgres_database()
        migrate(url)
        log = PredictionLog.open(url)
        await log.ping()
        with postgres_outage(url):
            for call in (log.ping(), log.list("alice")):
                with pytest.raises(NotReadyError):
                    await call
        await log.ping()
        await log.aclose()

    async def test_a_server_that_never_answers_is_not_ready(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.storage.log.PING_TIMEOUT_S", 0.2)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            log = PredictionLog.open(f"postgresql+psycopg://u:p@127.0.0.1:{silent.getsockname()[1]}/d")
            with pytest.raises(NotReadyError):
                await log.ping()
            await log.aclose()
