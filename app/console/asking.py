"""Asks somebody, here or far away, for the answer to every source."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from app.console.sources import Source, Unreadable
from app.errors import IonpathError

AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of every file.

    Attributes:
        model, threshold_ev: as the HTTP call takes them.
        mechanism, max_hops, max_hop_angstrom, interstitials, include_close_hops, second_opinion: the same, of a
            crystal alone.
        with_bands: whether the bands of its hops are wanted too, as the zip of NEB folders.
        properties: asks for the crystal's bulk properties, and of the rest for `model` alone.
    """

    model: str | None
    threshold_ev: float
    mechanism: Literal["auto", "vacancy", "dilute"]
    max_hops: int | None
    max_hop_angstrom: float
    interstitials: bool = False
    include_close_hops: bool = False
    second_opinion: Literal["bvse"] | None = None
    with_bands: bool = False
    properties: bool = False


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


Call = Callable[[Source, Question], Awaitable[Reply]]


class Caller(Protocol):
    """Who answers."""

    def open(self) -> AbstractAsyncContextManager[Call]:
        """A context that gives what to call for an answer."""


async def ask(caller: Caller, sources: Sequence[Source | Unreadable], question: Question) -> list[Result]:
    """Ask for every source, some at once, results in their order; a problem stands in for its answer alone."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(call: Call, source: Source | Unreadable) -> Result:
        if isinstance(source, Unreadable):
            return _unread(source)
        async with room:
            try:
                reply = await call(source, question)
                return Result(label=source.label, answer=reply.answer, bands_zip=reply.bands_zip)
            except IonpathError as error:
                return Result(label=source.label, problem=_problem(error))

    unread = [_unread(source) for source in sources if isinstance(source, Unreadable)]
    if len(unread) == len(sources):  # no model is loaded for nothing
        return unread
    async with caller.open() as call:
        return await asyncio.gather(*(one(call, source) for source in sources))


def _unread(source: Unreadable) -> Result:
    return Result(label=source.label, problem={"detail": source.detail, "kind": "unreadable-file"})


def _problem(error: IonpathError) -> dict[str, Any]:
    fields = {"detail": error.detail, "kind": error.kind, "where": error.where, "expected": error.expected}
    return {name: value for name, value in fields.items() if value is not None}
