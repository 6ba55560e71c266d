"""Through how many files of `app/` the way of one band goes, and how often it changes from one file to another.

Run it with `python -m benchmarks.path_files`. `POST /predict/barrier` with a JSON band goes through a service in this
process, without a network; before those that are counted, others warm it up. Counted are calls of Python functions of
`app/` (`sys.setprofile`; a coroutine that goes on is a call), from before the request until its row is in the log: in
the thread of the event loop, in the other threads of the service's process, and in its worker processes. A change of
file is a call whose file is not that of the call before it in its thread. The script knows the HTTP interface and the
names of files, and nothing else of the service. `--settings IONPATH_MODEL_PROCESS=0` runs the model in the service's
process, for as long as there is such a setting.
"""

import argparse
import asyncio
import logging
import os
import tempfile
import threading
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import httpx
import structlog
from rich.console import Console
from rich.table import Table

from benchmarks.faults.calls import PATH, Call, distinct_calls
from benchmarks.path_probe import FOLDER_VARIABLE, Probe, make_flag
from benchmarks.servers import REPOSITORY
from benchmarks.throughput import chosen_rows

#: Enough for every worker process to have had one, and for tables of the model to be made.
WARM_UP = 24
COUNTED = 9
#: After an answer: its row is in the log by then, seconds.
LOGGED_S = 0.5

LOOP, THREADS, WORKERS = "event loop", "other threads of the service", "worker processes"


@dataclass(frozen=True, kw_only=True)
class Way:
    """Files in the order of their calls, by where they ran: those of each thread after one another."""

    files: dict[str, list[str]]

    def distinct(self, *places: str) -> set[str]:
        """The files that were gone through in these places, or anywhere."""
        return {file for place in places or self.files for file in self.files[place]}

    def changes(self, *places: str) -> int:
        """How often a call went to another file than the one before."""
        return sum(len(self.files[place]) - 1 for place in places or self.files if self.files[place])


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("IONPATH_DATA_DIR", "../shared/data")))
    parser.add_argument("--list", action="store_true", help="name the files")
    parser.add_argument("--settings", nargs="*", default=(), metavar="IONPATH_NAME=VALUE", help="of the service")
    arguments = parser.parse_args()
    calls = distinct_calls(chosen_rows(arguments.data, 100), upload_every=0)
    with tempfile.TemporaryDirectory() as folder:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
        _set_up(Path(folder), arguments.settings)
        ways = asyncio.run(_counted(list(islice(calls, WARM_UP + COUNTED)), Path(folder)))
    console = Console(width=110)
    console.print(table_of(ways))
    console.print(f"lines of app/serving: {lines_of('app/serving')}, of app: {lines_of('app')}")
    if arguments.list:
        for place in ways[0].files:
            console.print(f"{place}: {', '.join(sorted(ways[0].distinct(place)))}", soft_wrap=True)


def _set_up(folder: Path, settings: Sequence[str]) -> None:
    """Set the service's variables, and have Python record each process that it starts."""
    for name in [name for name in os.environ if name.startswith("IONPATH_")]:
        del os.environ[name]
    os.environ |= {
        "IONPATH_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/log.sqlite3",
        "IONPATH_SPOOL_DIR": f"{folder}/spool",
        "IONPATH_LOG_LEVEL": "warning",
        FOLDER_VARIABLE: str(folder),
        "PYTHONPATH": os.pathsep.join((str(folder), str(REPOSITORY))),
    }
    os.environ |= dict(setting.split("=", 1) for setting in settings)
    make_flag(folder)
    hook = "from benchmarks.path_probe import install_where_wanted\n\ninstall_where_wanted()\n"
    (folder / "sitecustomize.py").write_text(hook)


async def _counted(calls: Sequence[Call], folder: Path) -> list[Way]:
    """The way of each call after those that warm up."""
    probe = Probe(folder, REPOSITORY)
    probe.install()
    from app.main import create_app  # noqa: PLC0415 - its threads and processes start where the probe sees them

    ways: list[Way] = []
    app = create_app()
    async with app.router.lifespan_context(app) as state:

        async def with_state(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state or {})}, receive, send)

        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(with_state), base_url="http://127.0.0.1", timeout=300.0
        ) as client:
            for number, call in enumerate(calls):
                if number == WARM_UP:
                    await asyncio.sleep(LOGGED_S)
                probe.recording = number >= WARM_UP
                response = await client.post(PATH, content=call.body, headers={"Content-Type": call.content_type})
                response.raise_for_status()
                if probe.recording:
                    await asyncio.sleep(LOGGED_S)
                    probe.recording = False
                    ways.append(_taken(folder))
    return ways


def _taken(folder: Path) -> Way:
    """What was recorded, and no longer is in the files."""
    files: dict[str, list[str]] = {LOOP: [], THREADS: [], WORKERS: []}
    for path in sorted(folder.glob("*.calls")):
        threads: dict[str, list[str]] = {}
        for line in path.read_text().splitlines():
            thread, file = line.split(" ", 1)
            threads.setdefault(thread, []).append(file)
        os.truncate(path, 0)
        for thread, called in threads.items():
            own = path.stem == str(os.getpid())
            place = (LOOP if thread == str(threading.get_native_id()) else THREADS) if own else WORKERS
            files[place] += [file for file, _ in groupby(called)]
    return Way(files=files)


def table_of(ways: Sequence[Way]) -> Table:
    """Files and changes of file in each place, of the band in the middle by its changes."""
    way = sorted(ways, key=lambda one: one.changes())[len(ways) // 2]
    table = Table(title=f"the way of one band: the middle one of {len(ways)}")
    for heading in ("where", "files of app/", "changes of file"):
        table.add_column(heading, justify="left" if heading == "where" else "right")
    for place in (LOOP, THREADS, WORKERS):
        table.add_row(place, str(len(way.distinct(place))), str(way.changes(place)))
    table.add_section()
    for name, places in (("the service's process", (LOOP, THREADS)), ("all", (LOOP, THREADS, WORKERS))):
        table.add_row(name, str(len(way.distinct(*places))), str(way.changes(*places)))
    return table


def lines_of(folder: str) -> int:
    """Lines of the Python files of a folder of the repository."""
    return sum(len(file.read_text().splitlines()) for file in (REPOSITORY / folder).rglob("*.py"))


if __name__ == "__main__":
    main()
