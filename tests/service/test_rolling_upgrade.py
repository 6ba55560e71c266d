"""A deployment under load: a replica is killed, upgrades succeed and fail, and nobody who calls notices."""

import asyncio
import os
import re
import shutil
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy.engine import make_url
from topology import Topology, running_topology

from benchmarks.faults.calls import PATH, Call, distinct_calls
from benchmarks.faults.traffic import Tally, Traffic

ANSWERS = 200
CALLERS = 8
#: Far fewer than two replicas answer: the cores are for those that start.
A_SECOND = 20.0
MIGRATION = '''"""{words}."""

import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{last}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("predictions", sa.Column("note", sa.Text()))
    {then}
'''

pytestmark = pytest.mark.skipif(
    shutil.which("haproxy") is None and "CI" not in os.environ, reason="HAProxy is not there: apt-get install haproxy"
)


def copied(repository: Path, folder: Path) -> Path:
    """The code, to be changed; with what is compiled of it, which its replicas need not compile again."""
    being_written = shutil.ignore_patterns("*.pyc.*")  # by what else runs now, and gone before it could be copied
    shutil.copytree(repository / "app", folder / "app", ignore=being_written)
    (folder / "examples").symlink_to(repository / "examples")
    return folder


def release(repository: Path, folder: Path, *, then: str) -> Path:
    """The code with a migration more."""
    copied(repository, folder)
    versions = folder / "app" / "storage" / "migrations" / "versions"
    last = max(path.stem.removeprefix("v")[:4] for path in versions.glob("v*.py"))
    (versions / "v9999_note.py").write_text(MIGRATION.format(words="A note", last=last, then=then))
    return folder


@pytest.fixture(scope="module")
def topology(store: Path, repository: Path) -> Iterator[Topology]:
    settings = {
        "model_store": store,
        "torch_threads": 1,
        "prepare_processes": 1,
        "model_process": 0,
        "drain_notice_s": 2,
        "second_opinion_timeout_s": 300,
    }
    with running_topology(repository, **settings) as topology:
        yield topology


@pytest.fixture
def two(topology: Topology) -> Topology:
    """Two replicas."""
    topology.scale(2)
    return topology


@pytest.fixture(scope="module")
def calls(data_rows: list[dict[str, Any]]) -> Iterator[Call]:
    return distinct_calls([row for row in data_rows if row["sound"] and len(row["host_species"]) < 60][:40])


def under_load(
    topology: Topology,
    calls: Iterator[Call],
    step: Callable[[], Awaitable[None]],
    *,
    a_second: float | None,
    answers: int = ANSWERS,
) -> Tally:
    """Calls before, while and after something happens, at least so many of them."""

    async def play() -> Tally:
        traffic = Traffic(lambda: topology.proxy_port, calls, a_second=a_second, excused=frozenset())
        async with traffic.callers(CALLERS):
            await traffic.more(answers // 4)
            await step()
            await traffic.more(max(answers // 4, answers - len(traffic.tally.answered)))
        return traffic.tally

    return asyncio.run(play())


def check_all_answered(topology: Topology, tally: Tally, before: list[str], *, more_rows: int = 0) -> None:
    """Every call was answered, and each answer is one row; `more_rows` may be of answers that nobody got."""
    assert tally.wrong == []
    assert tally.unanswered == 0
    assert len(tally.answered) == tally.sent >= ANSWERS
    rows = topology.logged_with(tally.answered)
    assert len(rows) == len(set(rows))
    assert len(set(tally.answered)) == len(tally.answered)
    assert 0 <= len(set(rows) - set(before)) - len(tally.answered) <= more_rows


async def run(topology: Topology, *words: str) -> tuple[int, str]:
    done = await asyncio.to_thread(topology.script, *words)
    return done.returncode, done.stdout + done.stderr


def test_an_upgrade_whose_migration_fails_changes_nothing(
    two: Topology, calls: Iterator[Call], repository: Path, tmp_path: Path
) -> None:
    replicas, before, revision = two.replicas, two.logged(), two.revision
    two.check_out(release(repository, tmp_path, then='op.add_column("nowhere", sa.Column("note", sa.Text()))'))
    said: list[tuple[int, str]] = []

    async def upgrade() -> None:
        said.append(await run(two, "deploy/upgrade"))

    tally = under_load(two, calls, upgrade, a_second=A_SECOND)
    ((status, text),) = said
    assert status == 1, text
    assert "The migration failed; nothing was replaced." in text
    assert two.replicas == replicas
    assert two.revision == revision
    check_all_answered(two, tally, before)


@pytest.mark.nightly
def test_an_upgrade_whose_replicas_do_not_start_leaves_the_others(
    two: Topology, repository: Path, tmp_path: Path
) -> None:
    replicas = two.replicas
    two.check_out(copied(repository, tmp_path))
    (tmp_path / "app" / "main.py").write_text("raise RuntimeError('a bad release')\n")
    done = two.script("deploy/upgrade")
    assert done.returncode == 1
    assert "0 replicas were replaced" in done.stderr
    assert "a bad release" in done.stderr, "the end of its log"
    assert two.replicas == replicas
    two.scale(2)  # an image's name stands for what runs, so that one that is started anew is of it


@pytest.mark.nightly
def test_an_upgrade_waits_for_jobs(two: Topology, repository: Path) -> None:
    """Held up in the second opinion, which is computed by a worker after the job was accepted."""
    two.check_out(repository)
    replicas = two.replicas
    structure = (repository / "examples" / "LiFePO4.cif").read_bytes()
    with httpx.Client(base_url=f"http://127.0.0.1:{two.proxy_port}", timeout=60) as client:
        accepted = client.post(
            PATH,
            files={"structure": ("LiFePO4.cif", structure)},
            data={"ion": "Li"},
            params={"second_opinion": "bvse"},
            headers={"Prefer": "respond-async"},
        )
        with two.workers_stopped() as go_on:
            assert accepted.status_code == httpx.codes.ACCEPTED, accepted.text
            done = two.script("deploy/upgrade", JOBS_TIMEOUT_S="0")
            assert done.returncode == 1, done.stderr
            assert "Unfinished jobs: 1. Stopping" in done.stderr
            assert "nothing was changed" in done.stderr
            assert "INTERRUPT_JOBS=1" in done.stderr
            assert two.replicas == replicas
            with two.started_script("deploy/upgrade") as script:
                assert script.stderr is not None
                assert "Unfinished jobs: 1. Waiting" in script.stderr.readline()
                go_on()
                _, text = script.communicate()
        assert script.returncode == 0, text
        assert len(two.replicas) == len(replicas)
        assert not two.replicas.keys() & replicas.keys()
        assert client.get(accepted.headers["location"]).json()["status"] == "done"


def test_an_upgrade_is_noticed_by_nobody(
    two: Topology, calls: Iterator[Call], repository: Path, tmp_path: Path
) -> None:
    before = two.logged()
    later = release(repository, tmp_path, then="pass")
    two.check_out(later)
    said: list[tuple[int, str]] = []

    async def upgrade() -> None:
        said.append(await run(two, "deploy/upgrade"))

    tally = under_load(two, calls, upgrade, a_second=A_SECOND)
    ((status, text),) = said
    assert status == 0, text
    assert two.code_of_replicas == [later] * 2
    assert two.revision == "9999"
    check_all_answered(two, tally, before)


@pytest.mark.nightly
def test_a_backup_is_restored_while_the_service_runs(two: Topology, calls: Iterator[Call], tmp_path: Path) -> None:
    file = tmp_path / "log.dump"

    async def nothing() -> None:
        pass

    under_load(two, calls, nothing, a_second=None, answers=20)
    backed_up = set(two.logged())
    done = two.script("deploy/backup", file)
    assert done.returncode == 0, done.stderr
    assert file.stat().st_mode & 0o077 == 0
    assert two.script("deploy/backup", file).returncode == 1, "an earlier backup is not overwritten"
    with psycopg.connect(two.database_url, autocommit=True) as connection:
        connection.execute("DELETE FROM predictions")  # what the backup is for
    cut = tmp_path / "cut.dump"
    cut.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    done = two.script("deploy/restore", cut)
    assert done.returncode == 1
    assert "is no whole backup" in done.stderr
    assert not two.logged()
    said: list[tuple[int, str]] = []

    async def restore() -> None:
        said.append(await run(two, "deploy/restore", str(file)))

    tally = under_load(two, calls, restore, a_second=A_SECOND)
    ((status, text),) = said
    assert status == 0, text
    assert tally.wrong == []
    assert tally.unanswered == 0
    rows = two.logged()
    assert backed_up <= set(rows)
    (kept,) = re.findall(r"in the database (ionpath_until_\w+)", text)
    kept_url = make_url(two.database_url).set(database=kept).render_as_string(hide_password=False)
    with psycopg.connect(kept_url) as connection:
        written_before = [str(row[0]) for row in connection.execute("SELECT id FROM predictions")]
    two.wait_until(lambda: set(tally.answered) <= {*two.logged(), *written_before})
    rows = [*two.logged(), *written_before]
    assert len(rows) == len(set(rows))


def takes_connections(topology: Topology) -> dict[str, bool]:
    """Of each database, but for those that PostgreSQL has of its own."""
    with psycopg.connect(topology.server_url) as connection:
        found = connection.execute("SELECT datname, datallowconn FROM pg_database WHERE datname LIKE 'ionpath%'")
        return dict(found.fetchall())


def backup(topology: Topology, file: Path) -> Path:
    done = topology.script("deploy/backup", file)
    assert done.returncode == 0, done.stderr
    return file


def test_a_restore_that_fails_leaves_the_log_open(topology: Topology, tmp_path: Path) -> None:
    """A database with a session in it cannot be renamed."""
    file = backup(topology, tmp_path / "log.dump")
    rows, databases = set(topology.logged()), takes_connections(topology)
    restored_url = make_url(topology.database_url).set(database="ionpath_restored")
    with topology.started_script("deploy/restore", file) as script:
        topology.wait_until(lambda: "ionpath_restored" in takes_connections(topology))
        with psycopg.connect(restored_url.render_as_string(hide_password=False)):
            _, text = script.communicate()
    assert script.returncode == 1, text
    assert "being accessed by other users" in text
    assert "every database takes connections again" in text
    assert takes_connections(topology) == databases | {"ionpath": True, "ionpath_restored": True}
    assert rows <= set(topology.logged())


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_restore_that_is_stopped_leaves_the_log_open(
    topology: Topology, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    """With the log closed and the renaming waiting for a lock."""
    file = backup(topology, tmp_path / "log.dump")
    rows = set(topology.logged())
    with topology.started_script("deploy/restore", file) as script:
        topology.wait_until(lambda: not takes_connections(topology)["ionpath"])
        with psycopg.connect(topology.server_url) as connection:
            connection.execute("LOCK TABLE pg_database IN EXCLUSIVE MODE")
            topology.wait_until(lambda: renaming_waits(topology))
            os.killpg(script.pid, number)  # as Ctrl-C does: everything that the script runs
        _, text = script.communicate()
    assert script.returncode == status, text
    assert takes_connections(topology)["ionpath"], text
    assert rows <= set(topology.logged())


def renaming_waits(topology: Topology) -> bool:
    with psycopg.connect(topology.server_url) as connection:
        query = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'ALTER DATABASE%RENAME%' AND wait_event_type = 'Lock'"
        return connection.execute(query).fetchone() is not None


def test_a_replica_is_killed_and_nobody_notices(two: Topology, calls: Iterator[Call]) -> None:
    before = two.logged()

    async def kill() -> None:
        two.kill(next(iter(two.replicas)))

    tally = under_load(two, calls, kill, a_second=None)
    # What the killed one had recorded and not yet sent was asked again of the other.
    check_all_answered(two, tally, before, more_rows=CALLERS)
    two.wait_until(lambda: two.ready_count == 1)


@pytest.mark.nightly
def test_the_only_replica_is_taken_back_and_nobody_notices(
    topology: Topology, calls: Iterator[Call], repository: Path
) -> None:
    """By the image that ran before the upgrade of the test above; it works with the later schema."""
    assert len(topology.replicas) == 1, "it goes on from what the tests above leave"
    (image,) = topology.code_of_replicas
    before, revision = topology.logged(), topology.revision
    said: list[tuple[int, str]] = []

    async def go_back() -> None:
        said.append(await run(topology, "deploy/upgrade", "--back"))

    tally = under_load(topology, calls, go_back, a_second=A_SECOND)
    ((status, text),) = said
    assert status == 0, text
    check_all_answered(topology, tally, before)
    assert image != repository
    assert topology.code_of_replicas == [repository]
    status, text = asyncio.run(run(topology, "docker", "compose", "run", "--rm", "-T", "--no-deps", "migrate"))
    assert (status, topology.revision) == (0, revision), "a later release's schema is left alone"
    assert "of a later release" in text
