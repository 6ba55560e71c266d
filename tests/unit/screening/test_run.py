"""What a run still has to do, and what an interrupt leaves of it."""

import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from app.crystals.hops.options import HopOptions
from app.crystals.limits import Limits
from app.screening.errors import ScreeningError
from app.screening.job import ConductivityChoice, Job, ModelChoice, Question
from app.screening.pieces import Output
from app.screening.rows import SCHEMAS, table_of
from app.screening.run import _selected, _Writer
from app.screening.sources.items import SourceLimits, digest_of
from app.screening.sources.opening import open_sources


def job(folder: Path, **changes: Any) -> Job:
    return Job(
        inputs=(str(folder / "in"),),
        output=folder / "out",
        question=Question(ions=("Li",), hops=HopOptions(), limits=Limits(), threshold_ev=0.65),
        model=ModelChoice(store=folder, name="default", digest="0" * 64),
        **changes,
    )


def tables(*names: str) -> dict[str, pa.Table]:
    rows: list[dict[str, Any]] = [{"id": name, "input": name, "ion": "Li"} for name in names]
    return {name: table_of(name, [] if name == "failures" else rows) for name in SCHEMAS}


def writer(output: Output, *names: str, save_every_s: float = 1e9) -> _Writer:
    return _Writer(output, len(names), {digest_of(name) for name in names}, 0.0, save_every_s)


@pytest.mark.parametrize("changes", [{}, {"limit": 2}, {"limit": 2, "shuffle": 1}, {"limit": 1, "shuffle": 1}])
def test_an_input_that_came_for_one_that_is_gone_is_still_to_do(tmp_path: Path, changes: dict[str, Any]) -> None:
    (tmp_path / "in").mkdir()
    for name in "bc":
        (tmp_path / "in" / f"{name}.cif").write_text("data_x")
    asked = job(tmp_path, **changes)
    output = Output(asked.output, asked.settings(), restart=False)
    output.done = {digest_of(f"{name}.cif") for name in "abxyz"}
    sources = open_sources(asked.inputs, SourceLimits())
    selection, firsts, total, left = _selected(sources, asked, output)
    read = [one.input for part in sources[0].parts(selection, firsts[0]) for one in part.read()]
    assert left == {digest_of(name) for name in read}
    if changes.get("limit") != 1:
        assert (read, total) == (["c.cif"], 2)


def test_a_run_of_an_older_schema_or_another_model_of_conductivity_is_refused(tmp_path: Path) -> None:
    asked = job(tmp_path)
    names = ("schema_version", "conductivity_model", "conductivity_digest")
    old = {name: value for name, value in asked.settings().items() if name not in names}
    Output(asked.output, {**old, "schema_version": 1}, restart=False).write_run(state="complete")
    model = replace(asked.model, conductivity=ConductivityChoice(name="conductivity", digest="1" * 64))
    with pytest.raises(ScreeningError) as refused:
        Output(asked.output, replace(asked, model=model).settings(), restart=False)
    assert "schema_version was 1 and is 3" in str(refused.value)
    assert "conductivity_model was None and is 'conductivity'" in str(refused.value)
    assert "--restart" in str(refused.value)


def test_what_is_gone_is_not_counted_as_done(tmp_path: Path) -> None:
    output = Output(tmp_path, {}, restart=False)
    output.done = {digest_of("gone.cif")}
    collected = writer(output, "b.cif", "c.cif")
    assert collected.done == 0
    collected.add(["b.cif", "b.cif"], tables("b.cif"))
    assert (collected.done, collected.summary().done, collected.counts()["inputs_done"]) == (1, 1, 1)
    assert collected.left == {digest_of("c.cif")}


class _Interrupting(dict[str, pa.Table]):
    """Tables that Ctrl-C or SIGTERM interrupts once the first is taken."""

    number = signal.SIGINT

    def items(self) -> Any:
        for place, one in enumerate(super().items()):
            if place == 1:
                signal.raise_signal(self.number)
            yield one


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Signals as `ionpath screen` has them."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    yield
    for number, handler in before.items():
        assert signal.signal(number, handler) is signal.default_int_handler


@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("save_every_s", [0.0, 1e9])
def test_an_interrupt_leaves_a_crystal_with_all_its_rows_once(
    tmp_path: Path, number: signal.Signals, save_every_s: float
) -> None:
    collected = writer(Output(tmp_path, {}, restart=False), "a", "b", save_every_s=save_every_s)
    interrupting = _Interrupting(tables("a"))
    interrupting.number = number
    with pytest.raises(KeyboardInterrupt):
        collected.add(["a"], interrupting)
    collected.finish("interrupted")
    again = Output(tmp_path, {}, restart=False)
    assert again.done == {digest_of("a")}
    for name, count in {"crystals": 1, "hops": 1, "failures": 0}.items():
        assert again.dataset(name).count_rows() == count


class _InterruptedOutput(Output):
    """Ctrl-C comes as soon as a piece is written."""

    def write(self, tables: Mapping[str, pa.Table]) -> None:
        super().write(tables)
        signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("interrupts")
def test_another_interrupt_does_not_stop_the_last_writing(tmp_path: Path) -> None:
    collected = writer(output := _InterruptedOutput(tmp_path, {}, restart=False), "a")
    collected.add(["a"], tables("a"))
    collected.finish("interrupted")
    assert output.run["state"] == "interrupted"
    assert Output(tmp_path, {}, restart=False).dataset("crystals").count_rows() == 1
