"""Calls that differ from each other: bands and crystals, each strained a little further at every round."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from app.crystals.band import Band
from app.crystals.writers import band_to_extxyz
from benchmarks.load import body_of

PATH = "/predict/barrier"
BAND = "bands"
#: Two bands are the same within 0.002 angstrom; cells are some ten angstrom wide.
STRAIN = 5e-4
#: Back and forth: more strain and atoms come too close.
MOST_STRAINS = 120
#: The same of crystals, whose cells may be four angstrom wide.
CRYSTAL_STRAIN = 1e-3
MOST_CRYSTAL_STRAINS = 64
#: Every so many calls one is an uploaded file, which a process of its own reads.
UPLOAD_EVERY = 8


@dataclass(frozen=True, kw_only=True)
class Call:
    """The body of a POST to `PATH`.

    Attributes:
        name: what is sent, the same for all of its strains: the file of a crystal, or BAND.
    """

    content_type: str
    body: bytes
    name: str = BAND

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


def distinct_calls(rows: list[dict[str, Any]], *, upload_every: int = UPLOAD_EVERY) -> Iterator[Call]:
    """Calls without end; the first hundred rounds are of bands that no cache has seen.

    Args:
        rows: bands of the data set.
        upload_every: every so many calls one is an uploaded file, the others are JSON; 0: all are JSON.
    """
    rests = [_without_lattice(row) for row in rows]
    for number in count():
        row = rows[number % len(rows)]
        lattice = np.array(row["lattice_angstrom"]) * (1.0 + STRAIN * _step(number // len(rows), MOST_STRAINS))
        if upload_every and number % upload_every == upload_every - 1:
            yield _upload(row, lattice)
        else:
            body = b'{"lattice_angstrom":' + json.dumps(lattice.tolist()).encode() + rests[number % len(rows)]
            yield Call(content_type="application/json", body=body)


def crystal_calls(files: Sequence[Path], ion: str) -> Iterator[Call]:
    """Uploads of CIFs without end, each strained further at every round."""
    texts = [file.read_text() for file in files]
    for number in count():
        which = number % len(files)
        factor = 1.0 + CRYSTAL_STRAIN * _step(number // len(files), MOST_CRYSTAL_STRAINS)
        yield _crystal_upload(files[which].name, strained_cif(texts[which], factor), ion)


def mixed(calls: Iterator[Call], others: Iterator[Call], *, every: int) -> Iterator[Call]:
    """Calls of which one in so many is one of the others."""
    for number in count(1):
        yield next(others if number % every == 0 else calls)


def strained_cif(text: str, factor: float) -> str:
    """A CIF with longer or shorter cell edges, and without the volume that they had."""

    def longer(edge: re.Match[str]) -> str:
        return f"{edge[1]}{factor * float(edge[2]):.8f}"

    text = re.sub(r"(?m)^_cell_volume.*\n", "", text)
    return re.sub(r"(?m)^(_cell_length_[abc]\s+)([\d.]+)(\(\d+\))?", longer, text)


def _step(round_number: int, most: int) -> int:
    """0, 1, -1, 2, -2, ..., and again from the start after so many."""
    number = round_number % most
    return (number + 1) // 2 * (1 if number % 2 else -1)


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


def _crystal_upload(name: str, cif: str, ion: str) -> Call:
    request = httpx.Request(
        "POST", f"http://127.0.0.1{PATH}", files={"structure": (name, cif.encode())}, data={"ion": ion}
    )
    return Call(content_type=request.headers["content-type"], body=request.read(), name=name)
