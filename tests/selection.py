"""Which tests run, and in which order.

    pytest.mark.needs_data        left out where the data set is not near, with one line that says how to get it; so is
                                  what asks for the fixtures data_dir, cif_dir or case_dir
    pytest.mark.nightly           runs with --nightly alone, as `make nightly` does
    pytest.mark.one_third         cases of which one in three runs; with --nightly all do
    a_third                       a fixture: one in three of the cases that a single test goes through
    --third 0, 1 or 2             which third that is; `make test` goes on by one with every commit
    hypothesis                    tries the same examples each time; with --nightly new ones

Two processes share the tests file by file (`make test`); the files that take longest come first, so that both end at
about the same time.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import hypothesis
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
#: What each fixture reads in the folder of the data set, or beside it.
NEEDED = {"data_dir": "barriers/bands.jsonl.gz", "cif_dir": "cifs", "case_dir": "../cases/INDEX.md"}
#: Files that take half a minute or more, the longest first.
SLOW_FILES = (
    "service/test_screening.py",
    "service/test_faults_under_load.py",
    "service/test_rolling_upgrade.py",
    "service/inference/test_model.py",
    "service/test_cli.py",
    "unit/models/predictors/test_predictor.py",
    "unit/models/features/test_path.py",
    "service/test_log_spool.py",
    "service/test_acceptance.py",
    "service/test_api_keys.py",
    "service/test_properties.py",
    "unit/training/test_training.py",
    "unit/models/predictors/test_relaxation.py",
    "service/test_api_load.py",
    "service/test_api_stores.py",
    "service/test_crystals.py",
)

MARKERS = (
    "needs_data: needs the data set; tests that ask for data_dir, cif_dir or case_dir have it by themselves",
    "nightly: takes too long for every change; runs with --nightly",
    "one_third: one in three of these cases runs; with --nightly all do",
)
THIRD_OPTION = "--third"
NIGHTLY_OPTION = "--nightly"
_LEFT_OUT = "ionpath_left_out"

NEEDS_DATA = "need the data set or the folder of cases beside it"
NIGHTLY = "run in `make nightly`"
OWN_CASES = "own cases"


def data_folder() -> Path:
    """Where the data set is looked for."""
    return Path(os.environ.get("IONPATH_DATA_DIR", REPOSITORY / ".." / "shared" / "data")).resolve()


def is_worker(config: pytest.Config) -> bool:
    """Whether this is one of pytest-xdist's processes."""
    return hasattr(config, "workerinput")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ionpath")
    group.addoption(NIGHTLY_OPTION, action="store_true", help="all cases, and what takes too long for every change")
    group.addoption(THIRD_OPTION, type=int, choices=(0, 1, 2), default=0, help="of the cases that one_third marks")


def pytest_configure(config: pytest.Config) -> None:
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    for name, derandomized in (("seeded", True), ("nightly", False)):
        hypothesis.settings.register_profile(name, derandomize=derandomized)
    hypothesis.settings.load_profile("nightly" if config.getoption(NIGHTLY_OPTION) else "seeded")
    if is_worker(config):
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported: two processes share the cores


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if not NEEDED.keys().isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.needs_data)
    left_out: dict[str, list[pytest.Item]] = {
        NEEDS_DATA: _take_out(items, _lacks_data()),
        NIGHTLY: [] if config.getoption(NIGHTLY_OPTION) else _take_out(items, _is_left_to_the_night(config, items)),
    }
    config.hook.pytest_deselected(items=[item for some in left_out.values() for item in some])
    _counts(config).update({reason: len(some) for reason, some in left_out.items()})
    ranks = {REPOSITORY / "tests" / name: rank for rank, name in enumerate(SLOW_FILES)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


def _take_out(items: list[pytest.Item], chosen: Callable[[pytest.Item], bool]) -> list[pytest.Item]:
    taken = [item for item in items if chosen(item)]
    items[:] = [item for item in items if item not in set(taken)]
    return taken


def _lacks_data() -> Callable[[pytest.Item], bool]:
    lacking = {fixture for fixture, name in NEEDED.items() if not (data_folder() / name).exists()}
    return lambda item: (
        bool(lacking.intersection(getattr(item, "fixturenames", ())))
        or ("data_dir" in lacking and item.get_closest_marker("needs_data") is not None)
    )


def _is_left_to_the_night(config: pytest.Config, items: list[pytest.Item]) -> Callable[[pytest.Item], bool]:
    third = config.getoption(THIRD_OPTION)
    in_file: dict[Path, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("one_third"):
            in_file[item.path].append(item)
    others = {item for some in in_file.values() for number, item in enumerate(some) if number % 3 != third}
    return lambda item: item in others or item.get_closest_marker("nightly") is not None


def third_of(config: pytest.Config, cases: Iterable[Any]) -> list[Any]:
    """One in three of a test's own cases, as of those that `one_third` marks; with --nightly all."""
    every = list(cases)
    if config.getoption(NIGHTLY_OPTION):
        return every
    chosen = every[config.getoption(THIRD_OPTION) :: 3]
    _add_own_cases(config, len(every) - len(chosen))
    return chosen


def _add_own_cases(config: pytest.Config, count: int) -> None:
    _counts(config)[OWN_CASES] = _counts(config).get(OWN_CASES, 0) + count


def _counts(config: pytest.Config) -> dict[str, int]:
    """How many tests were left out, by reason, and how many cases of tests that ran."""
    counts: dict[str, int] = config.__dict__.setdefault(_LEFT_OUT, {})
    return counts


def pytest_sessionfinish(session: pytest.Session) -> None:
    if is_worker(session.config):
        session.config.workeroutput[_LEFT_OUT] = _counts(session.config)  # type: ignore[attr-defined] # pytest-xdist's


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Each process leaves out the same tests, and of those that it runs some cases."""
    counts = dict(getattr(node, "workeroutput", {}).get(_LEFT_OUT, {}))
    _add_own_cases(node.config, counts.pop(OWN_CASES, 0))
    _counts(node.config).update(counts)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    counts = _counts(config)
    if count := counts.get(NEEDS_DATA):
        terminalreporter.write_line(
            f"Tests left out since they {NEEDS_DATA}, which is not in {data_folder()}: {count}. `ionpath data "
            "download` gets it, IONPATH_DATA_DIR names its folder (docs/training.md, The data)."
        )
    if count := counts.get(NIGHTLY):
        third = config.getoption(THIRD_OPTION)
        terminalreporter.write_line(f"Tests left out since they {NIGHTLY}: {count} (here ran third {third} of 0 to 2).")
    if count := counts.get(OWN_CASES):
        terminalreporter.write_line(f"Cases left out of tests that ran, since they {NIGHTLY}: {count}.")
