"""Has every input predicted, by this process or by a running service: a bounded number at once, results in order."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol

from app.console.sources import Input, Source, Unreadable
from app.crystals.elements import plain_symbol
from app.crystals.hops.options import USUAL, HopOptions
from app.errors import InputError, IonpathError

#: Results are printed in the order of the inputs. While a slow one holds the others back, so many go on behind it:
#: beyond that their answers would take memory without bound.
MOST_AHEAD = 256
#: How often the progress is shown even where no input was finished, seconds.
PROGRESS_EVERY_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of every file.

    Attributes:
        model, threshold_ev: as the HTTP call takes them.
        hops, second_opinion: the same, of a crystal alone.
        with_bands: whether the bands of its hops are wanted too, as the zip of NEB folders.
        properties, conductivity: asks for the crystal's bulk properties or its conductivity, and of the rest for
            `model` alone.
    """

    model: str | None
    threshold_ev: float
    hops: HopOptions = USUAL
    second_opinion: Literal["bvse"] | None = None
    with_bands: bool = False
    properties: bool = False
    conductivity: bool = False


@dataclass(frozen=True, kw_only=True)
class Result:
    """The answer to one source, or the problem in its place, and the zip of its bands where they were asked for."""

    label: str
    answer: dict[str, Any] | None = None
    problem: dict[str, Any] | None = None
    bands_zip: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a caller answers to one source."""

    answer: dict[str, Any]
    bands_zip: bytes | None = None


#: Problems of a crystal that was sent as a band, and the reverse.
_OTHER_WAY = frozenset({"single-crystal", "band-not-crystal"})
#: Problems of a folder whose files may be separate crystals rather than images of one band.
_UNRELATED_FILES = frozenset({"different-atoms", "different-cells", "unrelated-images", "nothing-moves", "mixed-sites"})

Call = Callable[[Source, Question], Awaitable[Reply]]


class StoppedError(IonpathError):
    """Nothing more can be predicted, of this input or of any other: the service is gone."""


class Caller(Protocol):
    """Predicts one input after the other."""

    @property
    def at_once(self) -> int:
        """Inputs that are worth having in progress at the same time."""

    def open(self) -> AbstractAsyncContextManager[Call]:
        """A context that gives what to call for an answer."""


class Observer(Protocol):
    """Sees what was finished."""

    def finished(self, result: Result) -> None:
        """Take a result; they come in the order of the inputs."""

    def progress(self, *, done: int, failed: int) -> None:
        """Take the number of inputs that are done, and of those among them that could not be predicted."""


async def ask(caller: Caller, inputs: Sequence[Input], question: Question, observer: Observer) -> None:
    """Have every input read and predicted, and give the results on as soon as they are there, in the inputs' order.

    An input is read when its turn comes; a problem stands in for its answer alone. Where no input can be read, no
    model is loaded and no service asked. When cancelled, what is done by then is still given on.

    Raises:
        StoppedError: nothing more can be predicted; what is done by then was given on.
    """
    for number, one in enumerate(inputs):
        source = await asyncio.to_thread(one.read)
        if isinstance(source, Source):
            async with caller.open() as call:
                run = _Run(call, question, observer, done=number)
                await run.all(source, inputs[number + 1 :], caller.at_once)
            return
        observer.finished(_unread(source))
        observer.progress(done=number + 1, failed=number + 1)


class _Run:
    """Inputs in progress, and results that wait for those before them.

    Args:
        done: inputs that could not be read, before the first that could.
    """

    def __init__(self, call: Call, question: Question, observer: Observer, *, done: int) -> None:
        self._call = call
        self._question = question
        self._observer = observer
        self._done = self._failed = done
        self._ungiven: deque[asyncio.Task[Result]] = deque()  # in the inputs' order

    async def all(self, first: Source, others: Sequence[Input], at_once: int) -> None:
        """See all through."""
        waiting = iter(others)
        working = {self._start(self._predict(first))}
        try:
            while True:
                room = max(0, min(at_once - len(working), MOST_AHEAD - len(self._ungiven)))
                working |= {self._start(self._read_and_predict(one)) for one in islice(waiting, room)}
                if not working:
                    return
                ended, working = await asyncio.wait(
                    working, timeout=PROGRESS_EVERY_S, return_when=asyncio.FIRST_COMPLETED
                )
                self._give_on(ended)
        except (asyncio.CancelledError, StoppedError):
            for task in self._ungiven:  # those behind an unfinished one as well: they would be lost otherwise
                if task.done() and not task.cancelled() and task.exception() is None:
                    self._observer.finished(task.result())
            raise
        finally:
            for task in self._ungiven:
                task.cancel()
            await asyncio.gather(*self._ungiven, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        task = asyncio.create_task(work)
        self._ungiven.append(task)
        return task

    def _give_on(self, ended: Collection[asyncio.Task[Result]]) -> None:
        self._done += len(ended)
        self._failed += sum(task.result().problem is not None for task in ended)
        while self._ungiven and self._ungiven[0].done():
            self._observer.finished(self._ungiven.popleft().result())
        self._observer.progress(done=self._done, failed=self._failed)

    async def _read_and_predict(self, one: Input) -> Result:
        source = await asyncio.to_thread(one.read)
        return await self._predict(source) if isinstance(source, Source) else _unread(source)

    async def _predict(self, source: Source) -> Result:
        try:
            reply = await self._reply(source)
        except StoppedError:
            raise
        except IonpathError as error:
            return Result(label=source.label, problem=_with_folder_hint(_problem(error), source.folder))
        return Result(label=source.label, answer=reply.answer, bands_zip=reply.bands_zip)

    async def _reply(self, source: Source) -> Reply:
        """Ask; once more as what the file turns out to be, a crystal or a band, which its name does not always say."""
        try:
            reply = await self._call(source, self._question)
        except IonpathError as error:
            other = source.other_way if error.kind in _OTHER_WAY and not self._question.properties else None
            if other is None:
                raise
            source, reply = other, await self._call(other, self._question)
        _check_ion(source, reply)
        return reply


def _check_ion(source: Source, reply: Reply) -> None:
    """Refuse the answer to a band of another ion than was asked for: a band says by itself which ion moves."""
    answered_ion = reply.answer.get("ion")
    if "band" not in source.files or not source.ion or answered_ion is None:
        return
    requested_ion = plain_symbol(source.ion, "--ion")
    if answered_ion == requested_ion:
        return
    raise InputError(
        f"The band's ion is {answered_ion}, and {requested_ion} was asked for.",
        kind="other-ion",
        where=source.label,
        expected=f"a band in which {requested_ion} hops; or no --ion, for the ion that moves",
    )


def _unread(source: Unreadable) -> Result:
    return Result(label=source.label, problem={"detail": source.detail, "kind": "unreadable-file"})


def _problem(error: IonpathError) -> dict[str, Any]:
    fields = {"detail": error.detail, "kind": error.kind, "where": error.where, "expected": error.expected}
    return {name: value for name, value in fields.items() if value is not None}


def _with_folder_hint(problem: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """Add how to predict a folder of crystals, where a folder's files are not images of one band."""
    if folder is None or problem["kind"] not in _UNRELATED_FILES:
        return problem
    many = f"a folder of many crystals with `ionpath screen {folder}` or `ionpath predict {folder}/*`"
    return problem | {"expected": "; ".join(text for text in (problem.get("expected"), many) if text)}
