"""A load generator: prepared HTTP requests over kept connections, with as little work of its own as can be."""

import asyncio
import json
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import uvloop


@dataclass(frozen=True, kw_only=True)
class LoadResult:
    """One run at one concurrency.

    Attributes:
        requests: how many were answered.
        seconds: of the wall.
        latencies_ms: of each request, milliseconds.
        cpu_s: of the load generator, this process.
        server_cpu_s: of the server, all its processes.
    """

    requests: int
    seconds: float
    latencies_ms: np.ndarray
    cpu_s: float
    server_cpu_s: float = 0.0

    @property
    def per_second(self) -> float:
        """Requests answered a second."""
        return self.requests / self.seconds

    def latency_ms(self, percentile: float) -> float:
        """A percentile of the latencies, milliseconds."""
        return float(np.percentile(self.latencies_ms, percentile))


def offer(port: int, path: str, bodies: list[bytes], *, concurrency: int) -> LoadResult:
    """Sends every body once, `concurrency` at a time, and waits for the answers.

    Raises:
        RuntimeError: an answer was not 200; the message holds it.
    """
    return uvloop.run(_offer(port, path, bodies, concurrency))


async def _offer(port: int, path: str, bodies: list[bytes], concurrency: int) -> LoadResult:
    queue = iter(bodies)
    latencies: list[float] = []
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    await asyncio.gather(*[_caller(port, path, queue, latencies) for _ in range(concurrency)])
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    return LoadResult(
        requests=len(latencies),
        seconds=seconds,
        latencies_ms=np.array(latencies) * 1e3,
        cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    )


async def _caller(port: int, path: str, queue: Iterator[bytes], latencies: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
    for body in queue:
        started = time.perf_counter()
        writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
        answer = await read_answer(reader)
        if answer.status != 200:
            raise RuntimeError(f"status {answer.status}: {answer.body.decode(errors='replace')}")
        latencies.append(time.perf_counter() - started)
    writer.close()
    await writer.wait_closed()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A reply: its status, its headers by their small names, its body, and whether the connection ends with it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether the server ends the connection."""
        return self.headers.get("connection") == "close"


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Read a reply that has a Content-Length.

    Raises:
        asyncio.IncompleteReadError: the connection ended before.
    """
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers["content-length"]))
    return Answer(status=int(first.split(" ", 2)[1]), headers=headers, body=body)


def body_of(row: dict[str, object]) -> bytes:
    """A line of the data set as a request body: only the fields of a JSON band."""
    fields = ("lattice_angstrom", "host_species", "host_frac_coords", "ion", "image_frac_coords")
    return json.dumps({name: row[name] for name in fields}).encode()
