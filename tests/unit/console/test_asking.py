"""Inputs in progress: how many, in which order results come, and what is left of a run that ends early."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.console.asking import MOST_AHEAD, Call, Question, Reply, Result, StoppedError, ask
from app.console.printing import problem_line
from app.console.sources import Input, Source
from app.errors import InputError

QUESTION = Question(model=None, threshold_ev=0.65)


def inputs_of(labels: Sequence[str], loaded: list[str] | None = None) -> list[Input]:
    def load(label: str) -> Source:
        if loaded is not None:
            loaded.append(label)
        if label.startswith("missing"):
            raise FileNotFoundError(2, "No such file or directory", label)
        return Source(label=label, files={}, ion=None)

    return [Input(label=label, load=lambda label=label: load(label)) for label in labels]  # type: ignore[misc] # of lambdas


@dataclass
class Seen:
    """What the command line is given."""

    results: list[Result] = field(default_factory=list)
    counts: list[tuple[int, int]] = field(default_factory=list)

    def finished(self, result: Result) -> None:
        self.results.append(result)

    def progress(self, *, done: int, failed: int) -> None:
        self.counts.append((done, failed))

    @property
    def labels(self) -> list[str]:
        return [result.label for result in self.results]


class Turns:
    """Answers with the label: `slow` once it may, `bad` with a problem, and `last` ends all."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.opened = 0
        self.working = 0
        self.most_working = 0
        self.answered = 0
        self.others_done = asyncio.Event()
        self.reached = asyncio.Event()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Call]:
        self.opened += 1
        yield self._call

    async def _call(self, source: Source, _question: Question) -> Reply:
        self.working += 1
        self.most_working = max(self.most_working, self.working)
        try:
            await asyncio.sleep(0.01)
            if source.label == "slow":
                await self.others_done.wait()
            if source.label == "bad":
                raise InputError("it is no crystal")
            if source.label == "last":
                raise StoppedError("the service is gone")
            return Reply(answer={"of": source.label})
        finally:
            self.working -= 1
            self.answered += 1
            if self.answered == MOST_AHEAD - 1:
                self.reached.set()


def test_a_bounded_number_is_in_progress_and_results_come_in_order() -> None:
    labels = [f"file-{number}" for number in range(50)]
    turns, seen = Turns(at_once=4), Seen()
    asyncio.run(ask(turns, inputs_of(labels), QUESTION, seen))
    assert seen.labels == labels
    assert 1 < turns.most_working <= 4
    assert seen.counts[-1] == (50, 0)


def test_inputs_are_read_when_their_turn_comes() -> None:
    class Loaded(list[str]):
        """Files that were read; notes how far each was ahead of the results."""

        ahead = 0

        def append(self, label: str) -> None:
            super().append(label)
            self.ahead = max(self.ahead, len(self) - len(seen.results))

    loaded = Loaded()

    async def run() -> None:
        turns = Turns(at_once=3)
        inputs = inputs_of(["slow", *(f"file-{number}" for number in range(600))], loaded)
        asking = asyncio.create_task(ask(turns, inputs, QUESTION, seen))
        await turns.reached.wait()  # those behind a slow one go on
        assert seen.results == []
        turns.others_done.set()
        await asking

    seen = Seen()
    asyncio.run(run())
    assert len(seen.results) == 601
    assert loaded.ahead == MOST_AHEAD, "not without bound"


def test_a_problem_stands_in_for_one_answer_alone() -> None:
    turns, seen = Turns(at_once=2), Seen()
    asyncio.run(ask(turns, inputs_of(["missing-1", "file", "bad", "missing-2", "other"]), QUESTION, seen))
    assert seen.labels == ["missing-1", "file", "bad", "missing-2", "other"]
    assert [result.problem is not None for result in seen.results] == [True, False, True, True, False]
    assert seen.counts[-1] == (5, 3)


def test_where_nothing_can_be_read_nothing_is_loaded() -> None:
    turns, seen = Turns(at_once=2), Seen()
    asyncio.run(ask(turns, inputs_of(["missing-1", "missing-2"]), QUESTION, seen))
    assert seen.labels == ["missing-1", "missing-2"]
    assert turns.opened == 0


def test_what_was_done_is_given_on_where_a_run_ends_early() -> None:
    turns, seen = Turns(at_once=3), Seen()
    with pytest.raises(StoppedError, match="the service is gone"):
        asyncio.run(ask(turns, inputs_of(["slow", "file-1", "file-2", "file-3", "last", "never"]), QUESTION, seen))
    assert seen.labels == ["file-1", "file-2", "file-3"]
    assert turns.working == 0


class OneWay:
    """Reads a file one way alone, and says so where it is sent the other."""

    at_once = 1

    def __init__(self, way: str) -> None:
        self.way = way
        self.asked: list[str] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Call]:
        yield self._call

    async def _call(self, source: Source, _question: Question) -> Reply:
        (field_name,) = source.files
        self.asked.append(field_name)
        if field_name != self.way:
            kind = "single-crystal" if self.way == "structure" else "band-not-crystal"
            raise InputError("sent the other way", kind=kind)
        return Reply(answer={"way": field_name, **source.texts})


@pytest.mark.parametrize(
    ("sent", "way", "ion", "answer"),
    [
        ("band", "structure", "Li", {"way": "structure", "ion": "Li", "cell": "3,4,5"}),
        ("structure", "band", "Li", {"way": "band", "cell": "3,4,5"}),
        ("structure", "band", None, {"way": "band", "cell": "3,4,5"}),
        ("band", "structure", None, None),  # of a crystal the ion must be named
    ],
)
def test_a_file_is_asked_once_more_as_what_it_turns_out_to_be(
    sent: str, way: str, ion: str | None, answer: dict[str, str] | None
) -> None:
    source = Source(label="file.xyz", files={sent: ("file.xyz", b"")}, ion=ion, cell="3,4,5")
    caller, seen = OneWay(way), Seen()
    asyncio.run(ask(caller, [Input(label="file.xyz", load=lambda: source)], QUESTION, seen))
    assert [result.answer for result in seen.results] == [answer]
    assert caller.asked == ([sent, way] if answer else [sent])


@pytest.mark.parametrize("sent", ["band", "structure"])  # the second is a band under a crystal's name
@pytest.mark.parametrize(
    ("asked", "kind"), [("Li", None), ("Li+", None), (None, None), ("Na", "other-ion"), ("li", "unknown-element")]
)
def test_a_band_of_another_ion_is_no_answer(sent: str, asked: str | None, kind: str | None) -> None:
    class OfLithium(OneWay):
        async def _call(self, source: Source, question: Question) -> Reply:
            await super()._call(source, question)
            return Reply(answer={"ion": "Li"})

    source = Source(label="band.xyz", files={sent: ("band.xyz", b"")}, ion=asked)
    seen = Seen()
    asyncio.run(ask(OfLithium("band"), [Input(label="band.xyz", load=lambda: source)], QUESTION, seen))
    (result,) = seen.results
    assert (result.problem or {}).get("kind") == kind
    if kind == "other-ion":
        assert result.problem is not None
        assert result.problem["detail"] == "The band's ion is Li, and Na was asked for."


@pytest.mark.parametrize(
    "kind",
    ["different-atoms", "different-cells", "unrelated-images", "nothing-moves", "mixed-sites", "no-images"],
)
@pytest.mark.parametrize("folder", [None, Path("some/crystals")])
def test_of_a_folder_that_is_no_band_it_is_said_how_many_crystals_are_predicted(kind: str, folder: Path | None) -> None:
    class NoBand(OneWay):
        async def _call(self, _source: Source, _question: Question) -> Reply:
            raise InputError("no band", kind=kind, expected="the same atoms")

    source, seen = Source(label="crystals", files={"band": ("crystals", b"")}, ion="Li", folder=folder), Seen()
    asyncio.run(ask(NoBand("band"), [Input(label="crystals", load=lambda: source)], QUESTION, seen))
    says = "the same atoms; a folder of many crystals with `ionpath screen some/crystals` or `ionpath predict some/crys"
    assert (says in problem_line(seen.results[0]).plain) == (folder is not None and kind != "no-images")
