"""Runs `ionpath` as its users do: a process of its own, on a free port, configured by IONPATH_* variables."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fork_server
import httpx
from fork_server import Process
from waiting import wait_until

START_TIMEOUT_S = 120.0  # of a cold start on a machine that does much else
STOP_TIMEOUT_S = 40.0
COMMAND_TIMEOUT_S = 240.0
IONPATH = str(Path(sys.executable).parent / "ionpath")


def environment(folder: Path, **settings: object) -> dict[str, str]:
    """The shell's variables, a log in the folder, and the given IONPATH_* settings.

    The model runs in the service's process unless asked otherwise: one of its own loads torch once more.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IONPATH_")}
    ours = {"DATABASE_URL": f"sqlite+aiosqlite:///{folder / 'log.sqlite3'}", "DEVICE": "cpu", "MODEL_PROCESS": "0"}
    if "PYTEST_XDIST_WORKER" in os.environ:
        ours["TORCH_THREADS"] = "1"  # several test processes, each with its services, share the cores
    if store := os.environ.get("IONPATH_TEST_MODEL_STORE"):
        ours["MODEL_STORE"] = store
    ours |= {name.upper(): str(value) for name, value in settings.items()}
    return kept | {f"IONPATH_{name}": value for name, value in ours.items()}


class Service:
    """A running service.

    Attributes:
        url: as it printed it.
        client: a client of it, without a key.
    """

    def __init__(self, process: Process, folder: Path) -> None:
        self.process = process
        self._folder = folder
        self.url = self._printed_url()
        self.client = httpx.Client(base_url=self.url, timeout=120.0)

    @property
    def log(self) -> str:
        return (self._folder / "stderr").read_text()

    def _printed_url(self) -> str:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            words = (self._folder / "stdout").read_text().split()
            if urls := [word for word in words if word.startswith("http://")]:
                return urls[0]
            assert self.process.poll() is None, self.log
            time.sleep(0.05)
        raise AssertionError(f"not ready within {START_TIMEOUT_S} s:\n{self.log}")

    def wait_for(self, path: str, wanted: Any, **headers: str) -> dict[str, Any]:
        """Ask until the answer is as wanted."""
        body: dict[str, Any] = {}

        def as_wanted() -> bool:
            nonlocal body
            body = self.client.get(path, headers=headers).json()
            return bool(wanted(body))

        wait_until(as_wanted, lambda: body)
        return body

    def stop(self) -> int:
        """Ask it to stop, and give its exit status."""
        self.client.close()
        self.process.terminate()
        return self.process.wait(STOP_TIMEOUT_S)


@contextmanager
def running_service(folder: Path, **settings: object) -> Generator[Service, None, None]:
    """Start a service with the given settings, by their names without IONPATH_, and stop it at the end."""
    with _running(folder, settings, fresh=False) as service:
        yield service


@contextmanager
def fresh_service(folder: Path, **settings: object) -> Generator[Service, None, None]:
    """`running_service` in a new interpreter, not forked from one that has imported everything."""
    with _running(folder, settings, fresh=True) as service:
        yield service


@contextmanager
def _running(folder: Path, settings: dict[str, object], *, fresh: bool) -> Generator[Service, None, None]:
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        process = fork_server.start(
            [IONPATH, "serve", "--port", "0"],
            env=environment(folder, **settings),
            stdout=out,
            stderr=err,
            cwd=folder,
            fresh=fresh,
        )
    service = None
    try:
        service = Service(process, folder)
        yield service
    finally:
        if service is not None:
            service.client.close()
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def ionpath(folder: Path, *words: str | Path, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in a folder, as a user does in a wide terminal."""
    return _run(folder, words, settings, fresh=False)


def fresh_ionpath(folder: Path, *words: str | Path, **settings: object) -> subprocess.CompletedProcess[str]:
    """`ionpath` in a new interpreter, not forked from one that has imported everything."""
    return _run(folder, words, settings, fresh=True)


def _run(
    folder: Path, words: Sequence[str | Path], settings: dict[str, object], *, fresh: bool
) -> subprocess.CompletedProcess[str]:
    command = [IONPATH, *map(str, words)]
    variables = environment(folder, **settings) | {"COLUMNS": "500"}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = fork_server.start(command, env=variables, cwd=folder, stdout=out, stderr=err, fresh=fresh)
        try:
            status = process.wait(COMMAND_TIMEOUT_S)
        finally:
            process.kill()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, status, out.read().decode(), err.read().decode())
