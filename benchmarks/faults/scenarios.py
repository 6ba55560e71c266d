"""What breaks while callers go on: each scenario breaks one thing, waits for answers meanwhile, and repairs it.

A scenario is given the world, the traffic, and how many answers it waits for at each step, so that it takes as long as
answers take and no longer.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import redis

from benchmarks.faults.calls import PATH, Call
from benchmarks.faults.traffic import DEADLINE_S, Tally, Traffic, closed
from benchmarks.faults.world import ROLE, World

Step = Callable[[World, Traffic, int], Awaitable[None]]

#: Ill-behaved clients at once.
CLIENTS = 40
#: Redis answers so late, milliseconds.
SLOW_MS = 5_000


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One thing that breaks.

    Attributes:
        name: what happens.
        step: breaks and repairs it.
        migrated: whether the log's schema is there from the start.
        excused: kinds of problems that callers may get meanwhile.
        may_leave_unanswered: whether connections may end without a reply.
    """

    name: str
    step: Step
    migrated: bool = True
    excused: frozenset[str] = frozenset({"busy"})
    may_leave_unanswered: bool = False


async def _redis_stops(world: World, traffic: Traffic, answers: int) -> None:
    await asyncio.to_thread(world.redis.stop)
    await traffic.more(answers)
    await asyncio.to_thread(world.redis.start)


async def _redis_is_slow(world: World, traffic: Traffic, answers: int) -> None:
    with redis.Redis(port=world.redis.port) as client:
        client.execute_command("CLIENT", "PAUSE", SLOW_MS, "ALL")  # every reply comes up to five seconds late
        await traffic.more(answers)


async def _redis_restarts_empty(world: World, traffic: Traffic, answers: int) -> None:
    for _ in range(3):
        await asyncio.to_thread(world.redis.stop)
        await asyncio.to_thread(world.redis.start)
        await traffic.more(answers // 3)


async def _redis_is_out_of_memory(world: World, traffic: Traffic, answers: int) -> None:
    with redis.Redis(port=world.redis.port) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")
        await traffic.more(answers)
        client.config_set("maxmemory", "0")


async def _postgres_stops(world: World, traffic: Traffic, answers: int) -> None:
    await asyncio.to_thread(world.postgres.stop)
    await traffic.more(answers)
    await asyncio.to_thread(world.postgres.start)


async def _postgres_restarts(world: World, traffic: Traffic, answers: int) -> None:
    for _ in range(3):
        await asyncio.to_thread(world.postgres.stop)
        await asyncio.to_thread(world.postgres.start)
        await traffic.more(answers // 3)


async def _postgres_has_no_connection_left(world: World, traffic: Traffic, answers: int) -> None:
    statements = (
        f"ALTER ROLE {ROLE} CONNECTION LIMIT 0",
        f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{ROLE}'",
    )
    for statement in statements:
        await asyncio.to_thread(world.postgres.execute, statement)
    await traffic.more(answers)
    await asyncio.to_thread(world.postgres.execute, f"ALTER ROLE {ROLE} CONNECTION LIMIT -1")


async def _postgres_has_a_full_disk(world: World, traffic: Traffic, answers: int) -> None:
    """Every insert fails as it does where the disk is full."""
    function = (
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = '53100'; END $$"
    )
    trigger = "CREATE TRIGGER full_disk BEFORE INSERT ON predictions FOR EACH ROW EXECUTE FUNCTION full_disk()"
    for statement in (function, trigger):
        await asyncio.to_thread(world.execute, statement)
    await traffic.more(answers)
    await asyncio.to_thread(world.execute, "DROP TRIGGER full_disk ON predictions")


async def _a_migration_is_behind(world: World, traffic: Traffic, answers: int) -> None:
    """The service runs before the schema is there, and goes on when `ionpath migrate` has made it."""
    await traffic.more(answers)
    await asyncio.to_thread(world.migrate)


async def _workers_are_killed(world: World, traffic: Traffic, answers: int) -> None:
    for _ in range(3):
        await asyncio.to_thread(world.service.kill_workers)
        await traffic.more(answers // 3)


async def _it_is_asked_to_stop(world: World, _traffic: Traffic, _answers: int) -> None:
    status = await asyncio.to_thread(world.service.terminate)
    if status != 0:
        raise RuntimeError(f"it stopped with status {status}")
    await asyncio.to_thread(world.service.start)


async def _it_is_killed(world: World, _traffic: Traffic, _answers: int) -> None:
    await asyncio.to_thread(world.service.kill)
    await asyncio.to_thread(world.service.start)


async def _it_is_killed_with_postgres_away(world: World, traffic: Traffic, answers: int) -> None:
    """What was answered is in no database when the process dies."""
    await asyncio.to_thread(world.postgres.stop)
    await traffic.more(answers)
    await asyncio.to_thread(world.service.kill)
    await asyncio.to_thread(world.postgres.start)
    await asyncio.to_thread(world.service.start)


async def _clients_leave(world: World, traffic: Traffic, answers: int) -> None:
    """They send a call and go without waiting; what is computed for them is dropped, and a row may be left."""
    for _ in range(3):
        for _ in range(CLIENTS):
            _, writer = await asyncio.open_connection("127.0.0.1", world.service.port)
            writer.write(traffic.next_request())
            await writer.drain()
            await closed(writer)
        await traffic.more(answers // 3)


async def _clients_send_a_byte_a_second(world: World, traffic: Traffic, answers: int) -> None:
    """Until each gets 408."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n"
    dripping = [asyncio.create_task(_drip(world.service.port, head.encode())) for _ in range(CLIENTS)]
    await traffic.more(answers)
    replies = await asyncio.wait_for(asyncio.gather(*dripping), DEADLINE_S)
    if any(not reply.startswith(b"HTTP/1.1 408") for reply in replies):
        raise RuntimeError(f"not every slow client got 408: {replies}")


async def _drip(port: int, head: bytes) -> bytes:
    """Give a byte a second until the connection ends, and what was sent before."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    reply = await _while_dripping(writer, reader.read(65_536))
    with suppress(OSError):  # a byte that comes after its end is answered by a reset
        await _while_dripping(writer, reader.read())
    await closed(writer)
    return reply


async def _while_dripping(writer: asyncio.StreamWriter, work: Coroutine[None, None, bytes]) -> bytes:
    reading = asyncio.create_task(work)
    while not reading.done():
        writer.write(b" ")
        await asyncio.wait({reading}, timeout=1.0)
    return await reading


async def _clients_never_read(world: World, traffic: Traffic, answers: int) -> None:
    """They ask for megabytes of replies and take none."""
    page = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(CLIENTS):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", world.service.port)))
            connection.settimeout(0.0)
            connection.send(page * 200)
        await traffic.more(answers)


SCENARIOS = (
    Scenario(name="Redis stops", step=_redis_stops),
    Scenario(name="Redis answers 5 s late", step=_redis_is_slow),
    Scenario(name="Redis restarts empty, three times", step=_redis_restarts_empty),
    Scenario(name="Redis is out of memory", step=_redis_is_out_of_memory),
    Scenario(name="PostgreSQL stops", step=_postgres_stops),
    Scenario(name="PostgreSQL restarts, three times", step=_postgres_restarts),
    Scenario(name="PostgreSQL has no connection left", step=_postgres_has_no_connection_left),
    Scenario(name="PostgreSQL's disk is full", step=_postgres_has_a_full_disk),
    Scenario(name="a migration is behind", step=_a_migration_is_behind, migrated=False),
    Scenario(
        name="worker processes are killed, three times",
        step=_workers_are_killed,
        excused=frozenset({"busy", "reading-crashed", "reading-restarts", "preparing-crashed", "preparing-restarts"}),
    ),
    Scenario(
        name="SIGTERM, and a start",
        step=_it_is_asked_to_stop,
        excused=frozenset({"busy", "stopping"}),
        may_leave_unanswered=True,  # a kept connection ends when nothing of it is on its way
    ),
    Scenario(name="SIGKILL, and a start", step=_it_is_killed, may_leave_unanswered=True),
    Scenario(
        name="SIGKILL with PostgreSQL away, and a start",
        step=_it_is_killed_with_postgres_away,
        may_leave_unanswered=True,
    ),
    Scenario(name="clients leave", step=_clients_leave),
    Scenario(name="clients send a byte a second", step=_clients_send_a_byte_a_second),
    Scenario(name="clients never read", step=_clients_never_read),
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a scenario came to.

    Attributes:
        tally: what became of the calls.
        lost: predictions that were answered and are not in the log.
        duplicated: rows of the log beyond one a prediction.
        unasked: rows that nobody was answered and nobody left waiting for.
    """

    scenario: Scenario
    tally: Tally
    lost: int
    duplicated: int
    unasked: int

    @property
    def faults(self) -> list[str]:
        """What should not be; empty where all is well."""
        found = [*self.tally.wrong[:3]]
        found += [f"{name}: {value}" for name, value in self._counts().items() if value]
        if self.tally.unanswered and not self.scenario.may_leave_unanswered:
            found.append(f"{self.tally.unanswered} connections ended without a reply")
        return found

    def _counts(self) -> dict[str, int]:
        return {"lost": self.lost, "duplicated": self.duplicated, "unasked": self.unasked}


async def play(world: World, scenario: Scenario, calls: Iterator[Call], *, answers: int, callers: int) -> Outcome:
    """Play one scenario between two stretches of undisturbed traffic, and count the log when all is well again."""
    before = len(await asyncio.to_thread(world.logged)) if scenario.migrated else 0
    traffic = Traffic(lambda: world.service.port, calls, excused=scenario.excused)
    async with traffic.callers(callers):
        await traffic.more(answers)
        await scenario.step(world, traffic, answers)
        await traffic.more(answers)
    tally = traffic.tally
    rows = await world.logged_with(tally.answered)
    answered = set(tally.answered)
    others = len(set(rows) - answered) - before
    return Outcome(
        scenario=scenario,
        tally=tally,
        lost=len(answered - set(rows)),
        duplicated=len(rows) - len(set(rows)) + len(tally.answered) - len(answered),
        unasked=max(0, others - tally.unanswered - traffic.left),
    )
