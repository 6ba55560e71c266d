"""Faults under load, overload and a soak: a line each, with what was sent, answered, refused, lost and duplicated.

Run it with `make faults`; `ARGS="--soak-minutes 30"` soaks for longer, `ARGS="--only overload"` plays what has the
word in its name. The exit status is 1 where something was lost, or went otherwise than it should.
"""

import argparse
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import uvloop
from rich.console import Console

from benchmarks.faults.calls import Call, distinct_calls
from benchmarks.faults.overload import Plan, overload, slow_calls
from benchmarks.faults.scenarios import SCENARIOS, Outcome, Scenario, play
from benchmarks.faults.soak import SETTINGS as SOAK_SETTINGS
from benchmarks.faults.soak import soak
from benchmarks.faults.world import running_world
from benchmarks.throughput import chosen_rows


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("IONPATH_DATA_DIR", "../shared/data")))
    parser.add_argument("--only", default="", help="play what has this in its name")
    parser.add_argument("--answers", type=int, default=300, help="answers at each step of a fault")
    parser.add_argument("--callers", type=int, default=16, help="at once, during faults")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each stretch of the overload")
    parser.add_argument("--max-wait-s", type=float, default=30.0, help="the overload's IONPATH_QUEUE_MAX_WAIT_S")
    parser.add_argument("--slow-every", type=int, default=20, help="one call of the overload in so many is slow")
    parser.add_argument("--soak-minutes", type=float, default=3.0)
    arguments = parser.parse_args()
    console = Console(width=150, soft_wrap=True)
    calls = distinct_calls(chosen_rows(arguments.data, 500))
    only: str = arguments.only
    well = True
    for scenario in SCENARIOS:
        if only in scenario.name:
            well &= report(console, played(scenario, calls, arguments.answers, arguments.callers))
    if only in "overload":
        plan = Plan(seconds=arguments.seconds, max_wait_s=arguments.max_wait_s, slow_every=arguments.slow_every)
        _raise_open_files()
        with running_world(queue_max_wait_s=plan.max_wait_s) as world:
            well &= uvloop.run(overload(world, calls, slow_calls(arguments.data), console, plan))
    if only in "soak":
        with running_world(**SOAK_SETTINGS) as world:
            well &= uvloop.run(soak(world, calls, console, minutes=arguments.soak_minutes))
    sys.exit(not well)


def _raise_open_files() -> None:
    """As many as the system allows, here and in the service: callers who wait keep a connection each."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def played(scenario: Scenario, calls: Iterator[Call], answers: int, callers: int) -> Outcome:
    """Play a scenario in a world of its own."""
    with running_world(migrated=scenario.migrated) as world:
        return uvloop.run(play(world, scenario, calls, answers=answers, callers=callers))


def report(console: Console, outcome: Outcome) -> bool:
    """Print a scenario's line, and say whether all went as it should."""
    tally = outcome.tally
    refused = ", ".join(f"{count} {kind}" for kind, count in sorted(tally.refused.items()))
    console.print(
        f"{outcome.scenario.name}: sent {tally.sent}, answered {len(tally.answered)}, refused {tally.refused_count}"
        + (f" ({refused})" if refused else "")
        + f", unanswered {tally.unanswered}, lost {outcome.lost}, duplicated {outcome.duplicated}"
    )
    for fault in outcome.faults:
        console.print(f"    {fault}", style="red")
    return not outcome.faults
