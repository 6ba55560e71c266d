"""What docker-compose.yml starts, as processes: HAProxy with its own file, replicas, a PostgreSQL and a Redis.

Replicas are started, replaced and stopped by deploy/'s own scripts, to which `docker` is docker_stand_in.py. HAProxy
finds them as in compose: it asks a name server, here one that answers with the addresses of those that run.
"""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg
from sqlalchemy.engine import make_url
from waiting import wait_until

from benchmarks.stores import PostgresServer, free_port, public_folder, running_postgres, running_redis

REPOSITORY = Path(__file__).resolve().parent.parent
DEADLINE_S = 180.0
ROLE = DATABASE = "ionpath"


class Topology:
    """The processes.

    Args:
        folder: of the stand-in.
        postgres: the server with the log's database.
        proxy_port: where HAProxy answers.
        count_port: where it says how many replicas are ready.
        replica_port: where replicas answer, each on its address.

    Attributes:
        proxy_port: where calls go.
    """

    def __init__(
        self, folder: Path, postgres: PostgresServer, proxy_port: int, count_port: int, replica_port: int
    ) -> None:
        self._folder = folder
        self._postgres = postgres
        self._count_port = count_port
        self._replica_port = replica_port
        self.proxy_port = proxy_port

    # Scripts

    def script(self, *words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run one of deploy/'s scripts, or `docker`."""
        with self.started_script(*words, **variables) as script:
            stdout, stderr = script.communicate()
        return subprocess.CompletedProcess(words, script.returncode, stdout, stderr)

    def started_script(self, *words: str | Path, **variables: str) -> subprocess.Popen[str]:
        """Start one, in a process group of its own."""
        settings = {"STAND_IN": str(self._folder), "START_TIMEOUT_S": str(int(DEADLINE_S))} | variables
        settings["PATH"] = f"{self._folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return subprocess.Popen(
            words,
            cwd=REPOSITORY,
            env=os.environ | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def check_out(self, code: Path) -> None:
        """Make a folder with the package `app` what the next image is built from."""
        (self._folder / "context").write_text(str(code))

    # Replicas

    @property
    def replicas(self) -> dict[str, dict[str, Any]]:
        """Those that run, by id."""
        found = {path.stem: json.loads(path.read_text()) for path in (self._folder / "containers").glob("*.json")}
        return {name: replica for name, replica in sorted(found.items()) if has_not_ended(replica["pid"])}

    @property
    def code_of_replicas(self) -> list[Path]:
        """What each of them runs."""
        return [Path(replica["image"]) for replica in self.replicas.values()]

    def log_of(self, replica: str) -> str:
        """What it wrote."""
        return (self._folder / f"{replica}.log").read_text()

    @property
    def ready_count(self) -> int:
        """How many are ready for the proxy."""
        return int(httpx.get(f"http://127.0.0.1:{self._count_port}/").text)

    def scale(self, count: int) -> None:
        """Start as many as are missing, and wait until the proxy has noticed."""
        flags = ("--detach", "--no-deps", "--no-build", "--no-recreate", "--scale", f"api={count}")
        done = self.script("docker", "compose", "up", *flags, "api")
        assert done.returncode == 0, done.stderr
        # The proxy takes one that is new to the name server for ready until it has asked it twice.
        self.wait_until(lambda: all(self._is_ready(replica["address"]) for replica in self.replicas.values()))
        self.wait_until(lambda: self.ready_count == count)

    def _is_ready(self, address: str) -> bool:
        try:
            return httpx.get(f"http://{address}:{self._replica_port}/health/ready").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def kill(self, replica: str) -> None:
        """Kill all its processes at once, as when its container dies."""
        os.killpg(self.replicas[replica]["pid"], signal.SIGKILL)

    @contextmanager
    def workers_stopped(self) -> Generator[Callable[[], None]]:
        """No work of the replicas goes on, while they answer, until what is given is called."""
        leaders = {replica["pid"] for replica in self.replicas.values()}
        workers = [pid for pid in (int(path.name) for path in Path("/proc").glob("[0-9]*")) if pid not in leaders]
        workers = [pid for pid in workers if _group(pid) in leaders]

        def send(number: signal.Signals) -> None:
            for pid in workers:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

        send(signal.SIGSTOP)
        try:
            yield lambda: send(signal.SIGCONT)
        finally:
            send(signal.SIGCONT)

    def wait_until(self, holds: Callable[[], bool]) -> None:
        """Wait for it.

        Raises:
            AssertionError: it did not come to be.
        """
        wait_until(
            holds, lambda: [self.log_of(name)[-2000:] for name in self.replicas], deadline_s=DEADLINE_S, pause_s=0.1
        )

    # The log

    @property
    def database_url(self) -> str:
        """The log's database, as its owner."""
        url = make_url(self._postgres.url).set(username=ROLE, database=DATABASE)
        return url.render_as_string(hide_password=False)

    @property
    def server_url(self) -> str:
        """The server's maintenance database."""
        return self._postgres.url

    def logged(self) -> list[str]:
        """Ids of all rows of the log."""
        with psycopg.connect(self.database_url) as connection:
            return [str(row[0]) for row in connection.execute("SELECT id FROM predictions")]

    def logged_with(self, answered: list[str]) -> list[str]:
        """The log once it has all that was answered."""
        self.wait_until(lambda: set(answered) <= set(self.logged()))
        return self.logged()

    @property
    def revision(self) -> str:
        """That of the log's schema."""
        with psycopg.connect(self.database_url) as connection:
            (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone() or ("",)
            return str(revision)


def has_not_ended(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody waits for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


@contextmanager
def running_topology(code: Path, **settings: object) -> Generator[Topology]:
    """A topology of one's own without a replica; its schema is migrated.

    Args:
        code: the folder with the package `app` that the first image is built from.
        settings: what differs from the compose file's, by names without IONPATH_.
    """
    with public_folder("ionpath-topology-") as folder, running_postgres() as postgres, running_redis() as redis:
        postgres.execute(f"CREATE ROLE {ROLE} LOGIN SUPERUSER")  # as the image of PostgreSQL makes it
        postgres.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
        proxy_port, count_port, replica_port = free_port(), free_port(), free_port()
        topology = Topology(folder, postgres, proxy_port, count_port, replica_port)
        secrets = {"database_url": topology.database_url.replace("postgresql:", "postgresql+psycopg:")}
        secrets["redis_url"] = redis.url
        (folder / "secrets").mkdir()
        for name, secret in secrets.items():
            (folder / "secrets" / f"ionpath_{name}").write_text(f"{secret}\n")
        elsewhere = {
            "secrets_dir": folder / "secrets",
            "spool_dir": folder / "spool",
            "api_keys_file": "",
            "metrics_port": free_port(),
        }
        _write_engine(folder, postgres, replica_port, count_port, elsewhere | settings)
        topology.check_out(code)
        for command in (["build", "api"], ["run", "--rm", "-T", "--no-deps", "migrate"]):
            done = topology.script("docker", "compose", *command)
            assert done.returncode == 0, done.stderr
        with _name_server(topology) as name_server, _haproxy(folder, topology, count_port, replica_port, name_server):
            try:
                yield topology
            finally:
                for replica in topology.replicas:
                    topology.kill(replica)


def _write_engine(
    folder: Path, postgres: PostgresServer, replica_port: int, count_port: int, settings: dict[str, object]
) -> None:
    (folder / "images").mkdir()
    (folder / "containers").mkdir()
    with psycopg.connect(postgres.url) as connection:
        (programs,) = connection.execute("SELECT setting FROM pg_config WHERE name = 'BINDIR'").fetchone() or ("",)
    engine = {
        "compose": str(REPOSITORY / "docker-compose.yml"),
        "port": replica_port,
        "count_port": count_port,
        "environment": {f"IONPATH_{name.upper()}": str(value) for name, value in settings.items()},
        "postgres_programs": programs,
        "postgres_variables": {"PGHOST": str(make_url(postgres.url).query["host"])},
    }
    (folder / "engine.json").write_text(json.dumps(engine))
    docker = folder / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{REPOSITORY / "tests" / "docker_stand_in.py"}" "$@"\n')
    docker.chmod(0o755)


@contextmanager
def _haproxy(folder: Path, topology: Topology, count_port: int, replica_port: int, name_server: str) -> Generator[None]:
    """HAProxy with deploy/proxy/haproxy.cfg, but for addresses."""
    text = (REPOSITORY / "deploy" / "proxy" / "haproxy.cfg").read_text()
    addresses = {
        "bind :8080\n": f"bind 127.0.0.1:{topology.proxy_port}\n",
        "bind 127.0.0.1:8404\n": f"bind 127.0.0.1:{count_port}\n",
        "nameserver embedded 127.0.0.11:53\n": f"nameserver embedded {name_server}\n",
        "replicas:8000\n": f"replicas:{replica_port}\n",
    }
    for there, here in addresses.items():
        assert there in text, there
        text = text.replace(there, here)
    file = folder / "haproxy.cfg"
    file.write_text(text)
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(["haproxy", "-db", "-f", file], stdout=log, stderr=log)
        try:
            topology.wait_until(lambda: _listens(count_port) or process.poll() is not None)
            assert process.poll() is None, (folder / "haproxy.log").read_text()
            yield
        finally:
            process.terminate()
            process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def _name_server(topology: Topology) -> Generator[str]:
    """A name server (RFC 1035) that answers any question with the addresses of the replicas that run."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        ended = threading.Event()
        server.settimeout(0.2)

        def serve() -> None:
            while not ended.is_set():
                try:
                    question, client = server.recvfrom(4096)
                except TimeoutError:
                    continue
                server.sendto(_reply(question, [one["address"] for one in topology.replicas.values()]), client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            ended.set()
            thread.join()


def _reply(question: bytes, addresses: list[str]) -> bytes:
    end = question.index(b"\0", 12) + 5  # past the name, its type and its class
    (kind,) = struct.unpack("!H", question[end - 4 : end - 2])
    found = addresses if kind == 1 else []  # of type A; HAProxy asks for IPv6 first
    head = question[:2] + struct.pack("!HHHHH", 0x8180, 1, len(found), 0, 0)
    records = [struct.pack("!HHHIH4s", 0xC00C, 1, 1, 0, 4, socket.inet_aton(address)) for address in found]
    return head + question[12:end] + b"".join(records)
