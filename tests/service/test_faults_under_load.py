"""The faults of `make faults`, with fewer calls: nobody is answered wrongly, and no row is lost or there twice.

One in three runs in `make test`, every one in `make nightly`.
"""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import fork_server
import pytest
from fork_server import Process

from benchmarks.faults.calls import Call, distinct_calls
from benchmarks.faults.scenarios import SCENARIOS, Scenario, play
from benchmarks.faults.world import World, running_world

pytestmark = pytest.mark.one_third

ANSWERS = 12
CALLERS = 6


def forked(command: list[str], *, env: dict[str, str], cwd: Path, stderr: IO[bytes], **_: object) -> Process:
    """`subprocess.Popen`, as the world calls it, of a process that need not import everything anew."""
    ours = {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}  # the fork server's
    others = {name: value for name, value in env.items() if not name.startswith("PYTHON")}
    return fork_server.start(command, env=others | ours, cwd=cwd, stdout=stderr, stderr=stderr)


@pytest.fixture(scope="module")
def calls(composed_rows: list[dict[str, Any]]) -> Iterator[Call]:
    small = [row for row in composed_rows if len(row["host_species"]) < 60]
    return distinct_calls([row for row in small if not row["strain"]])  # it strains them itself


@pytest.fixture(scope="module")
def world(store: Path) -> Iterator[World]:
    """What one scenario leaves behind is what the next one finds."""
    with running_world(popen=forked, model_store=store, torch_threads=1) as world:
        yield world


@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if one.migrated], ids=lambda one: one.name)
def test_a_fault_under_load(scenario: Scenario, world: World, calls: Iterator[Call]) -> None:
    check(world, scenario, calls)


@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if not one.migrated], ids=lambda one: one.name)
def test_a_service_without_its_schema(scenario: Scenario, store: Path, calls: Iterator[Call]) -> None:
    with running_world(migrated=False, popen=forked, model_store=store, torch_threads=1) as world:
        check(world, scenario, calls)


def check(world: World, scenario: Scenario, calls: Iterator[Call]) -> None:
    outcome = asyncio.run(play(world, scenario, calls, answers=ANSWERS, callers=CALLERS))
    assert outcome.faults == [], world.service.log[-3000:]
    assert len(outcome.tally.answered) >= 2 * ANSWERS
    assert (outcome.lost, outcome.duplicated) == (0, 0)
