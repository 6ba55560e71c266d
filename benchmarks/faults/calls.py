"""Calls that differ from each other: bands of the data set, each strained a little further at every round."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
import numpy as np

from app.crystals.band import Band
from app.crystals.writers import band_to_extxyz
from benchmarks.load import body_of

PATH = "/predict/barrier"
#: Two bands are the same within 0.002 angstrom; cells are some ten angstrom wide.
STRAIN = 5e-4
#: Back and forth: more strain and atoms come too close.
MOST_STRAINS = 120
#: Every so many calls one is an uploaded file, which a process of its own reads.
UPLOAD_EVERY = 8


@dataclass(frozen=True, kw_only=True)
class Call:
    """The body of a POST to `PATH`, and what it is."""

    content_type: str
    body: bytes

    def request(self, key: str | None = None) -> bytes:
        """The whole request of HTTP/1.1, over a connection that is kept."""
        lines = [
            f"POST {PATH} HTTP/1.1",
            "Host: 127.0.0.1",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            *([f"Authorization: Bearer {key}"] if key else []),
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


def distinct_calls(rows: list[dict[str, Any]]) -> Iterator[Call]:
    """Calls without end; the first hundred rounds are of bands that no cache has seen."""
    rests = [_without_lattice(row) for row in rows]
    for number in count():
        row = rows[number % len(rows)]
        step = (number // len(rows)) % MOST_STRAINS - MOST_STRAINS // 2
        lattice = np.array(row["lattice_angstrom"]) * (1.0 + STRAIN * step)
        if number % UPLOAD_EVERY == UPLOAD_EVERY - 1:
            yield _upload(row, lattice)
        else:
            body = b'{"lattice_angstrom":' + json.dumps(lattice.tolist()).encode() + rests[number % len(rows)]
            yield Call(content_type="application/json", body=body)


def _without_lattice(row: dict[str, Any]) -> bytes:
    """The end of a JSON band, from the comma after its lattice."""
    fields = json.loads(body_of(row))
    del fields["lattice_angstrom"]
    return b"," + json.dumps(fields).encode()[1:]


def _upload(row: dict[str, Any], lattice_angstrom: np.ndarray) -> Call:
    band = Band(
        lattice_angstrom=lattice_angstrom,
        host_species=tuple(row["host_species"]),
        host_frac_coords=np.array(row["host_frac_coords"]),
        ion=row["ion"],
        image_frac_coords=np.array(row["image_frac_coords"]),
    )
    files = {"band": ("band.extxyz", band_to_extxyz(band).encode())}
    request = httpx.Request("POST", f"http://127.0.0.1{PATH}", files=files)
    return Call(content_type=request.headers["content-type"], body=request.read())
