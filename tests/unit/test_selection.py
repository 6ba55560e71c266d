"""Which tests run: without the data set, by thirds, and at night."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from selection import REPOSITORY, SLOW_FILES, pytest_testnodedown, third_of

pytest_plugins = "pytester"

TESTS = """
    import pytest
    import selection

    @pytest.fixture
    def data_dir():
        return None

    @pytest.fixture
    def cif_dir():
        return None

    def test_plain(): pass
    def test_of_data(data_dir): pass
    def test_of_crystals(cif_dir): pass

    @pytest.mark.parametrize("source", ["made", pytest.param("set", marks=pytest.mark.needs_data)])
    def test_of_either(source): pass

    def test_own_cases(pytestconfig):
        assert selection.third_of(pytestconfig, range(7))
        assert selection.third_of(pytestconfig, range(3))

    @pytest.mark.nightly
    def test_long(): pass

    @pytest.mark.one_third
    @pytest.mark.parametrize("number", range(7))
    def test_case(number): pass
"""
CASES = {f"test_case[{number}]" for number in range(7)}


class Runs:
    """Runs of those tests, where a folder is that of the data set."""

    def __init__(self, pytester: pytest.Pytester, patch: pytest.MonkeyPatch, data: Path) -> None:
        self._pytester = pytester
        pytester.makepyfile(TESTS)
        patch.setenv("IONPATH_DATA_DIR", str(data))

    def run(self, *words: str) -> tuple[set[str], str]:
        """Names of the tests that ran, and what was printed."""
        result = self._pytester.runpytest_inprocess("-p", "selection", "-p", "no:cacheprovider", "-v", *words)
        lines = result.outlines
        return {line.split("::")[1].split(" ")[0] for line in lines if " PASSED" in line}, "\n".join(lines)


@pytest.fixture
def runs(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runs:
    return Runs(pytester, monkeypatch, tmp_path)


def test_without_the_data_set_one_line_says_how_to_get_it(runs: Runs, tmp_path: Path) -> None:
    ran, printed = runs.run()
    assert ran - CASES == {"test_plain", "test_own_cases", "test_of_either[made]"}
    (line,) = [line for line in printed.splitlines() if "need the data set" in line]
    for words in (f"not in {tmp_path}: 3.", "ionpath data download", "IONPATH_DATA_DIR", "docs/training.md"):
        assert words in line


def test_where_the_data_set_is_what_needs_it_runs(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "barriers").mkdir()
    (tmp_path / "barriers" / "bands.jsonl.gz").touch()
    ran, _ = runs.run()
    others = {"test_plain", "test_own_cases"}
    assert ran - CASES == others | {"test_of_data", "test_of_either[made]", "test_of_either[set]"}
    (tmp_path / "cifs").mkdir()
    assert "test_of_crystals" in runs.run()[0]
    assert runs.run("-m", "needs_data")[0] == {"test_of_data", "test_of_crystals", "test_of_either[set]"}


def test_three_thirds_are_all_cases_and_a_night_has_them_at_once(runs: Runs) -> None:
    thirds = [runs.run("--third", str(third)) for third in range(3)]
    cases = [ran & CASES for ran, _ in thirds]
    assert [len(some) for some in cases] == [3, 2, 2]
    assert set.union(*cases) == CASES
    assert "run in `make nightly`: 5 (here ran third 0 of 0 to 2)" in thirds[0][1]
    lines = [f"Cases left out of tests that ran, since they run in `make nightly`: {count}." for count in (6, 7)]
    assert [lines[0] in thirds[0][1], lines[1] in thirds[1][1], lines[1] in thirds[2][1]] == [True] * 3
    ran, printed = runs.run("--nightly")
    assert ran == CASES | {"test_plain", "test_own_cases", "test_of_either[made]", "test_long"}
    assert "make nightly" not in printed


@pytest.mark.parametrize(
    ("third", "nightly", "chosen"), [(0, False, [0, 3, 6]), (2, False, [2, 5]), (1, True, [0, 1, 2, 3, 4, 5, 6])]
)
def test_a_test_goes_through_a_third_of_its_own_cases_and_at_night_through_all(
    third: int, chosen: list[int], *, nightly: bool
) -> None:
    options = {"--third": third, "--nightly": nightly}
    config = cast("pytest.Config", SimpleNamespace(getoption=options.__getitem__))
    assert third_of(config, range(7)) == chosen


def test_own_cases_that_two_processes_left_out_are_added_and_tests_are_not() -> None:
    config = SimpleNamespace()
    for own in (4, 3):
        counts = {"run in `make nightly`": 5, "own cases": own}
        pytest_testnodedown(SimpleNamespace(config=config, workeroutput={"ionpath_left_out": counts}))
    assert config.__dict__["ionpath_left_out"] == {"run in `make nightly`": 5, "own cases": 7}


def test_the_slow_files_are_there() -> None:
    assert [name for name in SLOW_FILES if not (REPOSITORY / "tests" / name).is_file()] == []
