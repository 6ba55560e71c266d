"""Servers that a benchmark starts as their users do, each a process of its own on a free port, and what they use."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.stores import free_port

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that runs: its port and its process."""

    port: int
    pid: int


@contextlib.contextmanager
def ionpath(**settings: str) -> Iterator[Server]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).parent / "ionpath"), "serve", "--port", str(port)]
        variables = {
            "IONPATH_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/log.sqlite3",
            "IONPATH_LOG_LEVEL": "warning",
        }
        with running(command, variables | settings, f"http://127.0.0.1:{port}/health/ready") as pid:
            yield Server(port=port, pid=pid)


@contextlib.contextmanager
def running(command: list[str], variables: dict[str, str], probe: str) -> Iterator[int]:
    """A server's process id, from its first good answer to its end."""
    process = subprocess.Popen(command, env=quiet() | variables, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_until_ready(process, probe)
        yield process.pid
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with contextlib.suppress(ProcessLookupError):  # workers that outlive their server would disturb what is next
            os.killpg(process.pid, signal.SIGKILL)


def wait_until_ready(process: subprocess.Popen[bytes], probe: str) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode}")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(probe).status_code == httpx.codes.OK:
                return
        time.sleep(0.1)
    raise RuntimeError(f"{probe} did not answer within 90 s")


def quiet() -> dict[str, str]:
    """The shell's variables without its IONPATH_* settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IONPATH_")}
    return kept | {"PYTHONWARNINGS": "ignore", "PYTHONPATH": str(REPOSITORY)}


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and of all that descend from it, seconds; of Linux alone, 0 elsewhere."""
    ticks = sum(int(fields[11]) + int(fields[12]) for fields in family(pid).values())
    return ticks / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> dict[int, list[str]]:
    """A process and all that descend from it, each with the fields of its /proc/PID/stat that follow its name."""
    fields: dict[int, list[str]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            fields[int(stat.parent.name)] = stat.read_text().rpartition(")")[2].split()
    members = {pid}
    grown = True
    while grown:
        children = {child for child, of_child in fields.items() if int(of_child[1]) in members} - members
        members |= children
        grown = bool(children)
    return {member: fields[member] for member in members if member in fields}
