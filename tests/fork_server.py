"""Runs the command line many times from one process that has imported torch, pymatgen and the app once.

Importing them takes a service or a command some three seconds of CPU, and the tests run over a hundred. A command that
is started here is a process of its own, forked before any thread runs or any setting is read: it has its own arguments,
environment, working directory, standard output and error, it takes signals, and it ends as the interpreter ends. Tests
that ask for a fresh process (`fresh=True` in `api_server`), and systems other than Linux, start a new interpreter.

This file is both sides: `start` is called by tests, and `main` runs in the process that forks.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

#: What `ionpath serve` and `ionpath predict` import, at once or later; none starts a thread or reads a setting by it.
PRELOADED = (
    "app.cli",
    "app.console.asking",
    "app.console.conductivity",
    "app.console.drawing",
    "app.console.local",
    "app.console.outputs",
    "app.console.properties",
    "app.console.remote",
    "app.console.server",
    "app.console.sources",
    "app.storage.migrate",
    "aiosqlite",
    "bvlain",
    "pymatgen.analysis.bond_valence",
    "pymatgen.analysis.ewald",
    "pymatgen.io.cif",
    "torch_geometric.utils",  # alone 2.5 s: it imports torch's compiler
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
)
MOST_BYTES = 2**17
REPLY_TIMEOUT_S = 120.0  # the first reply comes when everything is imported


class Process(Protocol):
    """What tests use of `subprocess.Popen`."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


def start(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    stdout: IO[bytes],
    stderr: IO[bytes],
    fresh: bool = False,
) -> Process:
    """Start a Python script with its arguments; standard input is empty.

    Args:
        fresh: in a new interpreter.
    """
    if fresh or sys.platform != "linux":
        return subprocess.Popen(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)
    return _server().start(command, env=env, cwd=cwd, stdout=stdout, stderr=stderr)


class ForkedProcess:
    """A process that the server forked; `subprocess.Popen` in what tests use of it.

    Args:
        reports: where the server says its process id and, at its end, its exit status.
    """

    def __init__(self, command: Sequence[str], reports: socket.socket) -> None:
        self._command = command
        self._reports = reports
        self._reports.settimeout(REPLY_TIMEOUT_S)
        self.pid = self._report()
        self._lock = threading.Lock()
        self._returncode: int | None = None

    def _report(self) -> int:
        report = self._reports.recv(64)
        if not report:
            raise RuntimeError("the fork server ended: its standard error says why")
        return int(report)

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self._returncode

    def wait(self, timeout: float | None = None) -> int:
        with self._lock:
            if self._returncode is None:
                self._reports.settimeout(timeout)
                try:
                    self._returncode = self._report()
                except (BlockingIOError, TimeoutError) as error:
                    raise subprocess.TimeoutExpired(self._command, timeout or 0.0) from error
                self._reports.close()
            return self._returncode

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The server's process, seen by the tests; it ends when they do, with whatever it has started.

    Args:
        preloaded: modules that it imports.
    """

    def __init__(self, preloaded: Sequence[str] = PRELOADED) -> None:
        self._control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        # Interrupting the tests must not end it before their fixtures have stopped their services.
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(other.fileno()), *preloaded],
            pass_fds=[other.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        other.close()

    def start(
        self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, stdout: IO[bytes], stderr: IO[bytes]
    ) -> ForkedProcess:
        _check_interpreter_variables(env)
        request = json.dumps({"command": [*map(str, command)], "env": {**env}, "cwd": str(cwd)}).encode()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, self._lock:
            socket.send_fds(self._control, [request], [stdout.fileno(), stderr.fileno(), theirs.fileno()])
        return ForkedProcess(command, ours)

    def stop(self) -> None:
        self._control.close()
        self._process.wait()


_running: list[ForkServer] = []
_running_lock = threading.Lock()


def _server() -> ForkServer:
    """The one of this test process, started when first needed."""
    with _running_lock:
        if not _running:
            _running.append(ForkServer())
            atexit.register(_running[0].stop)
        return _running[0]


def _check_interpreter_variables(env: Mapping[str, str]) -> None:
    """Refuse what the interpreter and numerical libraries read when they start: it would have no effect."""
    for name in {*env, *os.environ}:
        if name.startswith(("PYTHON", "OMP_", "MKL_", "OPENBLAS_")) and env.get(name) != os.environ.get(name):
            raise ValueError(f"{name} is read when an interpreter starts: ask for fresh=True")


# In the server's process


@dataclass(frozen=True, kw_only=True)
class _Request:
    command: list[str]
    env: dict[str, str]
    cwd: str


def main() -> None:
    """Import, then fork for each request; in a forked process, run what was requested."""
    descriptor, *preloaded = sys.argv[1:]
    for name in preloaded:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # memory stays shared with the forked processes
    request = _serve(socket.socket(fileno=int(descriptor)))
    if request is None:
        return
    os.chdir(request.cwd)
    os.environ.clear()
    os.environ.update(request.env)
    sys.argv[:] = request.command
    sys.path[0] = str(Path(request.command[0]).parent)
    runpy.run_path(request.command[0], run_name="__main__")


def _serve(control: socket.socket) -> _Request | None:
    """Fork for each request until the tests end; returns a request in its own process alone."""
    children: dict[int, tuple[int, socket.socket]] = {}  # by a descriptor that is readable when the process has ended
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not control:
                    selector.unregister(key.fd)
                    _report_end(key.fd, *children.pop(key.fd))
                    continue
                message, descriptors, _, _ = socket.recv_fds(control, MOST_BYTES, 3)
                if not message:
                    for watched, (pid, reporting) in children.items():
                        os.kill(pid, signal.SIGKILL)
                        _report_end(watched, pid, reporting)
                    return None
                stdout, stderr, reports = descriptors
                pid = os.fork()
                if pid == 0:
                    os.dup2(stdout, 1)
                    os.dup2(stderr, 2)
                    for descriptor in (*descriptors, *children):
                        os.close(descriptor)
                    for _, others in children.values():
                        others.close()
                    control.close()
                    return _Request(**json.loads(message))
                os.close(stdout)
                os.close(stderr)
                reporting = socket.socket(fileno=reports)
                reporting.send(str(pid).encode())
                watched = os.pidfd_open(pid)
                children[watched] = (pid, reporting)
                selector.register(watched, selectors.EVENT_READ)


def _report_end(watched: int, pid: int, reporting: socket.socket) -> None:
    os.close(watched)
    _, status = os.waitpid(pid, 0)
    with reporting, contextlib.suppress(OSError):  # the test does not wait for it any more
        reporting.send(str(os.waitstatus_to_exitcode(status)).encode())


if __name__ == "__main__":
    main()
