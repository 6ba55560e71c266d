"""Callers that go on whatever happens, and what became of each of their calls."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import httpx
import orjson

from benchmarks.faults.calls import Call
from benchmarks.load import Answer, read_answer

#: A caller whose connection broke tries again after this.
PAUSE_S = 0.02
#: A connection that lay idle for longer is not used again: the server ends it after five seconds.
IDLE_S = 4.0
#: No scenario waits longer for anything.
DEADLINE_S = 60.0


@dataclass(kw_only=True)
class Tally:
    """What became of the calls.

    Attributes:
        sent: requests written to a connection that was there.
        answered: ids of the predictions that were answered.
        refused: by kind of problem, those that were refused for load, or that a fault excuses.
        unanswered: connections that ended before a reply.
        wrong: replies that nothing excuses, with their text.
        latencies_s: of those answered, from when the call was due, or was sent again.
        waits_s: of those answered, how long the service had them wait before it began, by its Server-Timing.
        names: of the calls that were answered.
        answered_at_s: when each was, on the monotonic clock.
        refusals_s: of those refused, from when the call was sent.
    """

    sent: int = 0
    answered: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    wrong: list[str] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    answered_at_s: list[float] = field(default_factory=list)
    refusals_s: list[float] = field(default_factory=list)

    @property
    def refused_count(self) -> int:
        """All that were refused."""
        return sum(self.refused.values())


class Traffic:
    """Callers on connections of their own to a port, each with one call at a time.

    Args:
        port: where the service listens now; asked at each new connection.
        calls: what they ask, one after the other; where there are no more, callers end.
        a_second: calls that are due a second, all callers together, and who is refused goes on with another (an open
            loop, as long as there are enough callers). None lets each send as soon as the one before is answered, and
            again after Retry-After where it is refused.
        excused: kinds of problems that count as refused.

    Attributes:
        tally: what became of the calls so far.
        left: calls of clients that did not wait.
    """

    def __init__(
        self,
        port: Callable[[], int],
        calls: Iterator[Call],
        *,
        a_second: float | None = None,
        excused: frozenset[str] = frozenset({"busy"}),
    ) -> None:
        self._port = port
        self._calls = calls
        self._a_second = a_second
        self._excused = excused
        self._started_s = 0.0
        self._due = 0
        self._end = asyncio.Event()
        self._waiting: list[tuple[int, asyncio.Event]] = []
        self.tally = Tally()
        self.left = 0

    def next_request(self) -> bytes:
        """A call by a client that will not wait for the answer; counted as `left`."""
        self.left += 1
        return next(self._calls).request()

    @asynccontextmanager
    async def callers(self, count: int) -> AsyncIterator["Traffic"]:
        """Callers at work; at the end each waits for its last answer."""
        self._started_s = time.monotonic()
        tasks = [asyncio.create_task(self._call_on()) for _ in range(count)]
        try:
            yield self
        finally:
            self._end.set()
            await asyncio.gather(*tasks)

    async def more(self, count: int) -> None:
        """Wait until so many more are answered.

        Raises:
            TimeoutError: they were not, within DEADLINE_S.
        """
        reached = asyncio.Event()
        self._waiting.append((len(self.tally.answered) + count, reached))
        await asyncio.wait_for(reached.wait(), DEADLINE_S)

    async def _call_on(self) -> None:
        connection = _Connection(self._port)
        while (due_s := await self._turn()) is not None and (call := next(self._calls, None)) is not None:
            await self._see_through(connection, call, due_s)
        await connection.close()

    async def _turn(self) -> float | None:
        """Wait until a call is due, and give that time; None at the end."""
        due_s = time.monotonic()
        if self._a_second is not None:
            due_s = self._started_s + self._due / self._a_second
            self._due += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self._end.wait(), max(0.0, due_s - time.monotonic()))
        return None if self._end.is_set() else due_s

    async def _see_through(self, connection: "_Connection", call: Call, due_s: float) -> None:
        """Send a call, and in a closed loop again where it is refused."""
        request = call.request()
        while True:
            sent_s = time.monotonic()
            answer = await connection.ask(request)
            self.tally.sent += 1
            retry_after_s = self._count(call, answer, due_s, sent_s)
            if retry_after_s is None or self._a_second is not None or self._end.is_set():
                return
            await asyncio.sleep(retry_after_s)
            due_s = time.monotonic()

    def _count(self, call: Call, answer: Answer | None, due_s: float, sent_s: float) -> float | None:
        """Count a reply; of one that was refused, seconds of its Retry-After."""
        tally, now_s = self.tally, time.monotonic()
        if answer is None:
            tally.unanswered += 1
            return None
        body = orjson.loads(answer.body)
        if answer.status == httpx.codes.OK:
            tally.answered.append(body["prediction_id"])
            tally.names.append(call.name)
            tally.answered_at_s.append(now_s)
            tally.latencies_s.append(now_s - due_s)
            tally.waits_s.append(_wait_s(answer))
            for wanted, reached in self._waiting:
                if len(tally.answered) >= wanted:
                    reached.set()
            return None
        # Above capacity any refusal for load is right, whatever is full.
        is_full = answer.status == httpx.codes.TOO_MANY_REQUESTS and self._a_second is not None
        if is_full or body.get("kind") in self._excused:
            tally.refused[body["kind"]] += 1
            tally.refusals_s.append(now_s - sent_s)
            return float(answer.headers.get("retry-after", "0"))
        tally.wrong.append(f"{answer.status}: {answer.body.decode(errors='replace')}")
        return None


def _wait_s(answer: Answer) -> float:
    """Seconds of `wait;dur=...`, in which the header has milliseconds."""
    return 1e-3 * float(answer.headers["server-timing"].removeprefix("wait;dur="))


async def closed(writer: asyncio.StreamWriter) -> None:
    """Close a connection, whatever the other side did."""
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


class _Connection:
    """A connection that is kept, and opened anew where it ended."""

    def __init__(self, port: Callable[[], int]) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used_s = 0.0

    async def ask(self, request: bytes) -> Answer | None:
        """Send a request and read the reply; None where the connection ended before it came.

        Waits until something listens.
        """
        if time.monotonic() - self._used_s > IDLE_S:
            await self.close()
        reader, writer = await self._opened()
        try:
            writer.write(request)
            answer = await read_answer(reader)
        except (OSError, RuntimeError, asyncio.IncompleteReadError) as error:
            if isinstance(error, RuntimeError) and "closed" not in str(error):  # uvloop's word for one that is gone
                raise
            await self.close()
            return None
        self._used_s = time.monotonic()
        if answer.closes:
            await self.close()
        return answer

    async def close(self) -> None:
        if self._streams is not None:
            await closed(self._streams[1])
            self._streams = None

    async def _opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        deadline_s = time.monotonic() + DEADLINE_S
        while self._streams is None:
            try:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port())
            except OSError:
                if time.monotonic() > deadline_s:
                    raise
                await asyncio.sleep(PAUSE_S)
        return self._streams
