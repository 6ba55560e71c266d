"""A forked command is like one in a new interpreter: what it is given, what it gives, and how it ends."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fork_server
import pytest
from fork_server import Process
from waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only there are commands forked")

Start = Callable[..., Process]


@pytest.fixture(params=[False, True], ids=["forked", "fresh"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Start:
    """A callable that starts a script with its output in files, forked or in a new interpreter."""

    def started(text: str, *words: str, **variables: str) -> Process:
        script = tmp_path / "script.py"
        script.write_text(textwrap.dedent(text))
        env = {**os.environ, **variables}
        with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
            return fork_server.start(
                [str(script), *words] if not request.param else [sys.executable, str(script), *words],
                env=env,
                cwd=tmp_path,
                stdout=out,
                stderr=err,
                fresh=request.param,
            )

    return started


def test_a_command_sees_what_it_was_given(start: Start, tmp_path: Path) -> None:
    process = start(
        """
        import json, os, sys
        seen = {"words": sys.argv[1:], "folder": os.getcwd()}
        seen |= {"color": os.environ["COLOR"], "home": "HOME" in os.environ}
        seen |= {"name": __name__, "file": __file__, "input": sys.stdin.read(), "path": sys.path[0], "pid": os.getpid()}
        seen["files"] = len(os.listdir("/proc/self/fd"))
        print(json.dumps(seen))
        """,
        "a b",
        "é",
        COLOR="red",
    )
    assert process.wait(60.0) == 0
    seen: dict[str, Any] = json.loads((tmp_path / "out").read_text())
    files = seen.pop("files")
    assert seen == {
        "words": ["a b", "é"],
        "folder": str(tmp_path),
        "color": "red",
        "home": "HOME" in os.environ,
        "name": "__main__",
        "file": str(tmp_path / "script.py"),
        "input": "",
        "path": str(tmp_path),
        "pid": process.pid,
    }
    assert files <= 6, "it holds descriptors of others"


@pytest.mark.parametrize(
    ("text", "status", "shown"),
    [
        ("import sys; sys.exit(7)", 7, ""),
        ("raise SystemExit('it is wrong')", 1, "it is wrong"),
        ("import atexit, sys; atexit.register(sys.stderr.write, 'at exit')", 0, "at exit"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import os; os._exit(3)", 3, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, ""),
    ],
)
def test_a_command_ends_as_the_interpreter_ends(
    start: Start, tmp_path: Path, text: str, status: int, shown: str
) -> None:
    process = start(text)
    assert process.wait(60.0) == status
    assert process.poll() == status
    assert shown in (tmp_path / "err").read_text()
    process.kill()  # of one that has ended, nothing happens


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 5), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_command_takes_signals(start: Start, tmp_path: Path, number: signal.Signals, status: int) -> None:
    process = start(
        """
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
        print("ready", flush=True)
        time.sleep(600)
        """
    )
    wait_until(lambda: (tmp_path / "out").read_text() == "ready\n")
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.send_signal(number)
    assert process.wait(60.0) == status


def test_commands_at_once_are_kept_apart(start: Start) -> None:
    processes = [
        start("import sys, time; time.sleep(0.2); sys.exit(int(sys.argv[1]))", str(number)) for number in (3, 4)
    ]
    assert len({process.pid for process in processes}) == 2
    assert [process.wait(60.0) for process in reversed(processes)] == [4, 3]


def test_what_an_interpreter_reads_at_its_start_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out, pytest.raises(ValueError, match=r"PYTHONHASHSEED.*fresh=True"):
        fork_server.start(["x"], env={**os.environ, "PYTHONHASHSEED": "1"}, cwd=tmp_path, stdout=out, stderr=out)


def test_no_thread_runs_where_commands_are_forked(tmp_path: Path) -> None:
    """A thread that holds a lock while its process is forked leaves the lock taken for ever.

    pyarrow, which pandas imports, brings jemalloc with a thread; jemalloc gives up its locks and that thread at a fork.
    """
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path; import os\n"
        "names = [task.read_text() for task in Path(f'/proc/{os.getppid()}/task').glob('*/comm')]\n"
        "print(len([name for name in names if name != 'jemalloc_bg_thd\\n']))"
    )
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        process = fork_server.start([str(script)], env=os.environ, cwd=tmp_path, stdout=out, stderr=err)
    assert process.wait(60.0) == 0
    assert (tmp_path / "out").read_text() == "1\n"


def test_the_server_ends_its_commands_when_the_tests_end(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import time; time.sleep(600)")
    server = fork_server.ForkServer(preloaded=())
    with (tmp_path / "out").open("wb") as out:
        process = server.start([str(script)], env=os.environ, cwd=tmp_path, stdout=out, stderr=out)
    server.stop()
    assert process.wait(60.0) == -signal.SIGKILL
