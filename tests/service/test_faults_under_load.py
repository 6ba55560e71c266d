"""The faults of `make faults`, with fewer calls: nobody is answered wrongly, and no row is lost or there twice.

One in three runs in `make test`, every one in `make nightly`.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.faults.calls import Call, distinct_calls
from benchmarks.faults.scenarios import SCENARIOS, Scenario, play
from benchmarks.faults.world import World, running_world

pytestmark = pytest.mark.one_third

ANSWERS = 12
CALLERS = 6


@pytest.fixture(scope="module")
def calls(data_rows: list[dict[str, Any]]) -> Iterator[Call]:
    return distinct_calls([row for row in data_rows if row["sound"] and len(row["host_species"]) < 60][:40])


@pytest.fixture(scope="module")
def world(store: Path) -> Iterator[World]:
    """What one scenario leaves behind is what the next one finds."""
    with running_world(model_store=store, torch_threads=1) as world:
        yield world


@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if one.migrated], ids=lambda one: one.name)
def test_a_fault_under_load(scenario: Scenario, world: World, calls: Iterator[Call]) -> None:
    check(world, scenario, calls)


@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if not one.migrated], ids=lambda one: one.name)
def test_a_service_without_its_schema(scenario: Scenario, store: Path, calls: Iterator[Call]) -> None:
    with running_world(migrated=False, model_store=store, torch_threads=1) as world:
        check(world, scenario, calls)


def check(world: World, scenario: Scenario, calls: Iterator[Call]) -> None:
    outcome = asyncio.run(play(world, scenario, calls, answers=ANSWERS, callers=CALLERS))
    assert outcome.faults == [], world.service.log[-3000:]
    assert len(outcome.tally.answered) >= 2 * ANSWERS
    assert (outcome.lost, outcome.duplicated) == (0, 0)
