"""One service with a PostgreSQL and a Redis of its own: started, stopped, killed, and its log counted."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
from sqlalchemy.engine import make_url

from benchmarks.faults.traffic import DEADLINE_S
from benchmarks.servers import family, quiet
from benchmarks.stores import PostgresServer, RedisServer, free_port, public_folder, running_postgres, running_redis

#: A cold start loads torch twice, on a machine that may do much else.
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 60.0
#: Whom the service is for PostgreSQL.
ROLE = "ionpath_app"


class ServiceProcess:
    """`ionpath serve` with given settings; a later start has the same settings, on another port.

    Args:
        folder: where its output goes and its spool is.
        settings: by their names without IONPATH_.
        popen: starts it; `subprocess.Popen`, or what has its signature.
    """

    def __init__(self, folder: Path, settings: dict[str, object], popen: Callable[..., Any]) -> None:
        self._folder = folder
        self._settings = settings
        self._popen = popen
        self._process: Any = None
        self.port = 0

    @property
    def pid(self) -> int:
        """Its process."""
        return int(self._process.pid)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it wrote to standard error since it was first started."""
        return (self._folder / "stderr").read_text()

    def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            RuntimeError: it ended, or was not ready in time.
        """
        self.port = free_port()
        variables = {f"IONPATH_{name.upper()}": str(value) for name, value in self._settings.items()}
        command = [str(Path(sys.executable).parent / "ionpath"), "serve", "--port", str(self.port)]
        with (self._folder / "stderr").open("ab") as err:
            self._process = self._popen(
                command, env=quiet() | variables, stdout=subprocess.DEVNULL, stderr=err, cwd=self._folder
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"the service ended with status {self._process.returncode}: {self.log[-3000:]}")
            try:
                if httpx.get(f"{self.url}/health/live").status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise RuntimeError(f"the service did not answer within {START_TIMEOUT_S} s: {self.log[-3000:]}")

    def terminate(self) -> int:
        """Ask it to stop and wait for that; its exit status."""
        self._process.terminate()
        return int(self._process.wait(STOP_TIMEOUT_S))

    def kill(self) -> None:
        """Kill it, and nothing that it started."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """Make sure that it is gone."""
        if self._process is not None and self._process.poll() is None:
            try:
                self.terminate()
            except subprocess.TimeoutExpired:
                self.kill()

    def kill_workers(self) -> int:
        """Kill every process that reads or prepares for it; how many there were."""
        members = family(self.pid)
        parents = {int(fields[1]) for fields in members.values()}
        leaves = [
            pid
            for pid, fields in members.items()
            if pid not in parents
            and int(fields[1]) != self.pid  # its own children serve the forks, and hold semaphores
        ]
        for pid in leaves:
            os.kill(pid, signal.SIGKILL)
        return len(leaves)

    @property
    def memory_mib(self) -> float:
        """Resident memory of all its processes, what they share counted once, MiB."""
        return sum(_proportional_kib(pid) for pid in family(self.pid)) / 1024

    @property
    def open_files(self) -> int:
        """File descriptors of its main process."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))


def _proportional_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it ended meanwhile
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


@dataclass(frozen=True, kw_only=True)
class World:
    """A service that runs, and what it needs."""

    service: ServiceProcess
    postgres: PostgresServer
    redis: RedisServer
    database_url: str

    def execute(self, statement: str) -> None:
        """Run a statement in the log's database, as its superuser."""
        self.postgres.execute(statement, database=self._superuser_url)

    def migrate(self) -> None:
        """Bring the log's schema up to date, as an operator does."""
        command = [str(Path(sys.executable).parent / "ionpath"), "migrate"]
        subprocess.run(command, env=quiet() | {"IONPATH_DATABASE_URL": self.database_url}, check=True)

    @property
    def _superuser_url(self) -> str:
        url = make_url(self.postgres.url).set(database=make_url(self.database_url).database)
        return url.render_as_string(hide_password=False)

    def logged(self) -> list[str]:
        """Ids of all rows in the log, whatever they hold."""
        with psycopg.connect(self._superuser_url) as connection:
            return [str(row[0]) for row in connection.execute("SELECT id FROM predictions")]

    async def logged_with(self, answered: list[str]) -> list[str]:
        """The log once it has all that was answered, or what it has at the deadline."""
        deadline = time.monotonic() + DEADLINE_S
        wanted = set(answered)
        while True:
            rows = await asyncio.to_thread(self.logged)
            if wanted <= set(rows) or time.monotonic() > deadline:
                return rows
            await asyncio.sleep(0.1)


@contextmanager
def running_world(
    *, migrated: bool = True, popen: Callable[..., Any] = subprocess.Popen, **settings: object
) -> Iterator[World]:
    """A world of one's own, gone at the end; `popen` starts its service."""
    with public_folder("ionpath-faults-") as folder, running_postgres() as postgres, running_redis() as redis:
        postgres.execute(f"CREATE ROLE {ROLE} LOGIN")  # no superuser, whom no limit on connections holds
        database_url = make_url(postgres.new_database()).set(username=ROLE).render_as_string(hide_password=False)
        postgres.execute(f"ALTER DATABASE {make_url(database_url).database} OWNER TO {ROLE}")
        defaults: dict[str, object] = {
            "database_url": database_url,
            "redis_url": redis.url,
            "migrate_on_start": int(migrated),
            "log_level": "warning",
            "body_timeout_s": 5,
        }
        service = ServiceProcess(folder, defaults | settings, popen)
        try:
            service.start()
            yield World(service=service, postgres=postgres, redis=redis, database_url=database_url)
        finally:
            service.end()
