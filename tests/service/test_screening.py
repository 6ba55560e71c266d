"""`ionpath screen` as it is typed: stopped in every way and gone on with, each input has its rows exactly once."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest
from api_server import IONPATH, Service, environment, fresh_ionpath, ionpath
from made_crystals import crystal_of, layered_oxide, olivine, repeated, rock_salt
from nbclient import NotebookClient
from waiting import wait_until

from app.crystals.crystal import Crystal
from app.crystals.hops.options import HopOptions
from app.crystals.limits import Limits
from app.crystals.writers import crystal_to_cif
from app.models.cards.card import read_card
from app.models.cards.conductivity_card import conductivity_card
from app.screening.attempts import CountedAttempts
from app.screening.job import ConductivityChoice, ModelChoice, Question
from app.screening.rows import CHANCE_COLUMN
from app.screening.screener import Screener
from app.screening.sources.items import Item
from app.settings import Settings

#: Longer than any of the others takes on a busy machine, and shorter than the poisonous one ever needs.
TIMEOUT_S = 1.2
#: Ray starts within seconds, on a machine that has the cores for it.
PATIENCE_S = 280.0
POISON = "poison.cif"
OPTIONS = ("--timeout-s", str(TIMEOUT_S), "--max-hops", "2000")
TABLES = ("crystals", "hops", "failures")


def crystals() -> dict[str, Crystal]:
    """Some eighty files: oxides and salts of several sizes, in folders.

    Two workers have up to 32 at once, which a run that is stopped may just have finished: after two stops there are
    inputs left.
    """
    made = {f"oxides/{k:02d}.cif": layered_oxide(a=2.80 + 0.002 * k) for k in range(40)}
    made |= {f"salts/{k:02d}.cif": rock_salt(a=5.0 + 0.007 * k) for k in range(40)}
    return made | {"olivine.cif": olivine()}


def poison() -> Crystal:
    """1,920 atoms without any symmetry: 3 s to find its hops, and 20 s to predict 2,000 of them."""
    crystal = repeated(rock_salt(), (6, 5, 8))
    moved = np.random.default_rng(0).uniform(-0.002, 0.002, (len(crystal.sites), 3))
    sites = zip(crystal.sites, moved, strict=True)
    return crystal_of(
        crystal.lattice_angstrom,
        [(site.species[0][0], tuple(np.array(site.frac_coords) + shift)) for site, shift in sites],
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The crystals, a poisonous one and two that cannot be read."""
    folder = tmp_path_factory.mktemp("crystals")
    for name, crystal in {**crystals(), POISON: poison()}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(crystal_to_cif(crystal, Path(name).stem))
    (folder / "cut.cif").write_text(crystal_to_cif(olivine(), "cut")[:300])
    (folder / "empty.cif").write_text("")
    return folder


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The tables of a screening."""

    crystals: pd.DataFrame
    hops: pd.DataFrame
    failures: pd.DataFrame


def tables(output: Path) -> Tables:
    return Tables(**{name: pd.read_parquet(output / f"{name}.parquet") for name in TABLES})


class Screening:
    """`ionpath screen` in the background."""

    def __init__(self, folder: Path, output: Path, *words: str) -> None:
        command = [IONPATH, "screen", folder, "--ion", "Li", "--output", output, "--save-every-s", "0.1"]
        command += [*OPTIONS, "--workers", "2", *words]
        self.output = output
        self._stderr = output.with_suffix(".stderr")
        with self._stderr.open("ab") as stderr:
            self.process = subprocess.Popen(
                [str(word) for word in command], env=environment(output.parent), stderr=stderr, start_new_session=True
            )
        self.family = psutil.Process(self.process.pid)

    @property
    def done(self) -> int:
        """Inputs of which the rows are written."""
        with contextlib.suppress(OSError, ValueError):
            return int(json.loads((self.output / "run.json").read_text()).get("counts", {}).get("inputs_done", 0))
        return 0

    @property
    def said(self) -> str:
        return self._stderr.read_text()

    def wait_for(self, holds: Callable[[], object]) -> None:
        wait_until(lambda: holds() or self.process.poll() is not None, lambda: self.said, deadline_s=PATIENCE_S)
        assert self.process.poll() is None, self.said

    def wait(self) -> int:
        return self.process.wait(PATIENCE_S)

    def children(self) -> list[psutil.Process]:
        return list(self.family.children(recursive=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one screening, which the first tests stop, and of which the later ones look at the rows."""
    return tmp_path_factory.mktemp("screened") / "out"


@pytest.fixture(scope="module")
def screened(folder: Path, output: Path) -> Screening:
    """The screening, gone on with after every stop to its end, while one of its workers is killed."""
    with Screening(folder, output) as last:
        last.wait_for(lambda: any(map(_is_worker, last.children())))
        next(filter(_is_worker, last.children())).kill()
        assert last.wait() == 0, last.said
    return last


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGINT, 130),
        (signal.SIGKILL, -signal.SIGKILL),
        pytest.param(signal.SIGTERM, 130, marks=pytest.mark.one_third),  # differs from Ctrl-C in its number alone
    ],
)
def test_a_stop_leaves_nothing_running_and_says_how_to_go_on(
    folder: Path, output: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    if number == signal.SIGTERM:  # a run of its own: the shared one is to have inputs left
        output = tmp_path / "out"
    with Screening(folder, output) as run:
        before = run.done
        run.wait_for(lambda: run.done > before)
        children = {child: _title(child) for child in run.children()}
        listening = {place.laddr.ip for child in children for place in _listening(child)}
        assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, listening
        run.process.send_signal(number)
        assert run.wait() == status, run.said
    if number != signal.SIGKILL:
        assert run.said.splitlines()[-1].endswith("The same command goes on.")
        assert json.loads((output / "run.json").read_text())["state"] == "interrupted"
    # Ray's agents, which only report on the machine, take a minute or two to see that they are alone.
    working = [child for child, title in children.items() if "Agent" not in title]
    _, alive = psutil.wait_procs(working, timeout=60)
    assert not alive, alive


def _listening(process: psutil.Process) -> list[Any]:
    with contextlib.suppress(psutil.Error):
        return [one for one in process.net_connections() if one.status == psutil.CONN_LISTEN]
    return []


def _is_worker(process: psutil.Process) -> bool:
    """Whether a process predicts just now; Ray names it after what it does."""
    return re.search(r"_Worker.*\.submit", _title(process)) is not None


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def test_every_input_has_its_rows_exactly_once(screened: Screening) -> None:
    found = tables(screened.output)
    assert not found.crystals.duplicated(["id", "ion"]).any()
    assert not found.hops.duplicated(["id", "ion", "hop"]).any()
    kinds = dict(zip(found.failures.id, found.failures.kind, strict=True))
    assert kinds == {POISON: "took-too-long", "cut.cif": "unreadable-cif", "empty.cif": "empty-file"}
    assert len(found.failures) == 3
    assert set(found.crystals.id) == set(crystals())
    run = json.loads((screened.output / "run.json").read_text())
    assert run["state"] == "complete"
    assert run["counts"] == {
        "inputs_done": len(crystals()) + 3,
        "crystals": len(crystals()),
        "failures": 3,
        "failures_by_kind": {"took-too-long": 1, "unreadable-cif": 1, "empty-file": 1},
    }
    assert run["settings"]["ions"] == ["Li"]
    assert {"ionpath", "ray", "torch"} <= set(run["versions"])


def test_rows_are_those_of_an_undisturbed_run(screened: Screening, folder: Path) -> None:
    store = Settings().model_store
    card = conductivity_card(store, ("Li",))
    assert card is not None
    model = ModelChoice(
        store=store,
        name="default",
        digest=read_card(store / "default").digest,
        device="cpu",
        conductivity=ConductivityChoice(name=card.name, digest=card.digest),
    )
    hops = HopOptions(max_hops=2000, max_orderings=Settings().max_orderings)
    question = Question(ions=("Li",), hops=hops, limits=Limits(), threshold_ev=0.65)
    screener = Screener(question, model, CountedAttempts())
    try:
        names = sorted(crystals())
        items = [Item(input=name, name=Path(name).name, content=(folder / name).read_bytes()) for name in names]
        undisturbed = screener.screen(items)
    finally:
        screener.close()
    found = tables(screened.output)
    _same(found.crystals, undisturbed.crystals, ["id"])
    _same(found.hops, undisturbed.hops, ["id", "hop"])


def _same(found: pd.DataFrame, rows: Sequence[dict[str, Any]], key: list[str]) -> None:
    left = found.sort_values(key).drop(columns="seconds", errors="ignore").reset_index(drop=True)
    right = pd.DataFrame(list(rows)).sort_values(key).reindex(columns=left.columns).reset_index(drop=True)
    for name in left.columns:
        for ours, theirs in zip(left[name], right[name], strict=True):
            if isinstance(ours, float):
                assert ours == pytest.approx(theirs, abs=1e-5, nan_ok=True), name
            else:
                assert _plain(ours) == _plain(theirs), name


def _plain(value: Any) -> Any:
    """Lists as lists, and nothing as None."""
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(one) for one in value]
    return None if value is None or value is pd.NA or value != value else value  # noqa: PLR0124 # NaN


def test_figures_are_those_of_predict(screened: Screening, folder: Path, tmp_path: Path, service: Service) -> None:
    names = ["oxides/03.cif", "salts/07.cif", "olivine.cif"]
    paths = [folder / name for name in names]
    done = ionpath(tmp_path, "predict", *paths, "--ion", "Li", "--url", service.url, "--json")
    others = ionpath(tmp_path, "predict", *paths, "--conductivity", "--url", service.url, "--json")
    conductivities = others.stdout.splitlines()
    found = tables(screened.output)
    for name, line in zip(names, done.stdout.splitlines(), strict=True):
        answer = json.loads(line)
        (row,) = found.crystals[found.crystals.id == name].to_dict("records")
        for dimension, barrier in answer["percolation_ev"].items():
            if barrier is None:
                assert np.isnan(row[f"percolation_{dimension}_ev"])
                continue
            assert row[f"percolation_{dimension}_ev"] == pytest.approx(barrier, abs=1e-4)
            path = answer["percolation"][dimension]
            assert row[f"percolation_{dimension}_low_ev"] == pytest.approx(path["interval_ev"]["low"], abs=1e-4)
            assert list(row[f"bottleneck_hops_{dimension}"]) == [one + 1 for one in path["bottleneck_hops"]]
        for dimension, barrier in answer["bond_valence"]["percolation_ev"].items():
            found_ev = row[f"bond_valence_{dimension}_ev"]
            assert np.isnan(found_ev) if barrier is None else found_ev == pytest.approx(barrier, abs=1e-4)
        ranking_ev = np.nan if answer["ranking_ev"] is None else answer["ranking_ev"]
        assert row["ranking_ev"] == pytest.approx(ranking_ev, abs=1e-4, nan_ok=True)
        assert row["probability"] == pytest.approx(answer["good_conductor"]["probability"], abs=1e-4)
        assert row["in_domain"] == answer["in_domain"]["verdict"]
        assert list(row["warnings"]) == answer["warnings"]
        conductivity = json.loads(conductivities[names.index(name)])
        low, high = conductivity["interval_log10"]["low"], conductivity["interval_log10"]["high"]
        asked = (conductivity["log10_conductivity_s_per_cm"], low, high, conductivity["probability_above"]["1e-4"])
        columns = ("log10_conductivity_s_per_cm", "log10_conductivity_low", "log10_conductivity_high", CHANCE_COLUMN)
        assert [row[column] for column in columns] == pytest.approx(asked, abs=1e-4)
        assert row["conductivity_in_domain"] == conductivity["in_domain"]["verdict"]
        assert list(row["conductivity_reasons"]) == conductivity["in_domain"]["reasons"]
        hops = found.hops[found.hops.id == name].sort_values("hop")
        expected = [np.nan if hop["barrier_ev"] is None else hop["barrier_ev"] for hop in answer["hops"]]
        assert list(hops.barrier_ev) == pytest.approx(expected, abs=1e-4, nan_ok=True)


@pytest.mark.one_third
def test_no_more_parts_are_read_at_once_than_there_are_workers(repository: Path, tmp_path: Path) -> None:
    """Ray would start a process for each: in a screening of many archives they took the memory."""
    script = repository / "tests" / "slow_parts.py"
    ran = subprocess.run(
        [sys.executable, script, tmp_path], env=environment(tmp_path), stdout=subprocess.PIPE, text=True, check=True
    )
    assert ran.stdout.split() == ["2", "8"], "at the same time, and inputs that are done"


def test_a_run_that_is_complete_does_nothing_more(screened: Screening, folder: Path, tmp_path: Path) -> None:
    words = ("screen", folder, "--ion", "Li", "--output", screened.output, *OPTIONS)
    before = sorted(path.name for path in screened.output.rglob("*"))
    done = fresh_ionpath(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    count = len(crystals()) + 3
    assert f"Done: {count} of {count} inputs" in done.stderr
    assert sorted(path.name for path in screened.output.rglob("*")) == before
    other = fresh_ionpath(tmp_path, *words, "--threshold-ev", "0.5")
    assert other.returncode == 2
    assert "threshold_ev was 0.65 and is 0.5" in other.stderr


@pytest.mark.one_third
def test_a_short_run_says_what_was_passed_by_and_nothing_of_rays(tmp_path: Path) -> None:
    """One batch for two workers, of which Ray warns: the user can do nothing about it."""
    given = tmp_path / "in"
    given.mkdir()
    text = crystal_to_cif(rock_salt(), "salt")
    for name in ("a.cif", "b_POSCAR", "c.cif.txt", "README.md", "table.csv"):
        (given / name).write_text(text)
    words = ("screen", given, "--ion", "Li", "--output", tmp_path / "out", "--max-hops", "1", "--workers", "2")
    done = fresh_ionpath(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert "Done: 3 of 3 inputs" in done.stderr
    assert "2 files were passed by, as their names are not those of crystals: README.md, table.csv." in done.stderr
    assert "Warning" not in done.stderr
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (run["files_passed_by"], run["first_passed_by"]) == (2, ["README.md", "table.csv"])


@pytest.mark.one_third
def test_the_notebook_runs(repository: Path, tmp_path: Path) -> None:
    """With four crystals of the fifty: every cell, and what it leaves."""
    notebook: Any = nbformat.read(repository / "examples" / "screening.ipynb", as_version=4)  # type: ignore[no-untyped-call] # it has no annotations
    variables = {"SCREENING_COUNT": "4", "SCREENING_FOLDER": str(tmp_path), "SCREENING_EXAMPLES": "."}
    path = f"{Path(IONPATH).parent}{os.pathsep}{os.environ['PATH']}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**environment(tmp_path), **variables, "PATH": path}.items():
            patch.setenv(name, value)
        NotebookClient(notebook, timeout=240, resources={"metadata": {"path": repository / "examples"}}).execute()
    shown = pd.read_parquet(tmp_path / "screened" / "crystals.parquet")
    assert len(shown) == 4
    assert shown.percolation_1d_ev.notna().all()
    assert (tmp_path / "screened" / "report.html").exists()
    assert list((tmp_path / "bands").rglob("00/POSCAR"))
