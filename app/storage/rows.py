"""Rows, filters and pages of the prediction log."""

import math
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal
from uuid import UUID

import orjson

from app.errors import InputError

RowStatus = Literal["queued", "running", "done", "failed"]
RowKind = Literal["band", "crystal"]

MOST_ROWS_A_PAGE = 500
UNFINISHED: tuple[Literal["queued"], Literal["running"]] = ("queued", "running")

# Nine digits: no crystal has more atoms, and int() refuses numbers with thousands of digits.
_FORMULA = re.compile(r"(?:[A-Z][a-z]?[0-9]{0,9}\s*)+")
#: Cells of more formula units are found by their whole formula alone.
_MOST_UNITS = 200
_FORMULA_PART = re.compile(r"([A-Z][a-z]?)([0-9]{0,9})")


class JsonDocument(Mapping[str, object]):
    """A JSON object that is serialised once, for the reply and the log, and parsed only on access.

    Args:
        content: to serialise.
    """

    def __init__(self, content: Mapping[str, object]) -> None:
        self.text = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)

    @cached_property
    def _parsed(self) -> dict[str, object]:
        parsed: dict[str, object] = orjson.loads(self.text)
        return parsed

    def __getitem__(self, name: str) -> object:
        return self._parsed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parsed)

    def __len__(self) -> int:
        return len(self._parsed)


def write_json(content: object) -> bytes:
    """Serialise to JSON; a JsonDocument is inserted as it is.

    Raises:
        TypeError: a value cannot be written as JSON.
    """
    return orjson.dumps(content, default=_written, option=orjson.OPT_SERIALIZE_NUMPY)


def json_text(content: object) -> str:
    """Do the same as text."""
    return write_json(content).decode()


def _written(value: object) -> object:
    if isinstance(value, JsonDocument):
        return orjson.Fragment(value.text)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


@dataclass(frozen=True, kw_only=True)
class PredictionRow:
    """One logged prediction, of any status.

    Attributes:
        id: of the prediction, one per reply.
        created_at: time of the request, with a time zone.
        key_id: the API key it belongs to; None where the service has no keys.
        status: only an asynchronous job is ever "queued" or "running".
        kind: whether a band or a crystal was sent.
        model_name: the requested checkpoint.
        model_digest: that checkpoint's digest; None before it is known.
        ion: element symbol of the migrating ion; None before the input was read.
        formula: of the input's atoms, as Band.formula writes it; None before the input was read.
        input_blob: the canonical input by pack_input; None where inputs are not stored, and in lists.
        answer: as sent to the client; None before there is one.
        error: the problem as sent to the client; None unless the status is "failed".
        threshold_ev: a good conductor has a barrier below this, eV.
        barrier_ev: the barrier answered, eV; None where there is none.
        cached: whether the whole answer came from the cache.
        request_id: of the HTTP request.
        seconds: from the request's arrival to its answer, s.
    """

    id: UUID
    created_at: datetime
    key_id: str | None
    status: RowStatus
    kind: RowKind
    model_name: str
    model_digest: str | None = None
    ion: str | None = None
    formula: str | None = None
    input_blob: bytes | None = None
    answer: Mapping[str, object] | None = None
    error: Mapping[str, object] | None = None
    threshold_ev: float | None = None
    barrier_ev: float | None = None
    cached: bool = False
    request_id: str | None = None
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class PredictionFilter:
    """A filter of rows; conditions that are None are not applied.

    Attributes:
        ion: element symbol of the migrating ion.
        formula: of the cell or of a formula unit, in any order and spacing ("LiFePO4" finds "Fe4 Li4 O16 P4").
        model_name: the checkpoint's name.
        status: of the prediction.
        kind: whether a band or a crystal was sent.
        created_after: at or after this moment; UTC if it has no time zone.
        created_before: before this moment; UTC if it has no time zone.
        barrier_below_ev: the barrier lies below this, eV.
    """

    ion: str | None = None
    formula: str | None = None
    model_name: str | None = None
    status: RowStatus | None = None
    kind: RowKind | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    barrier_below_ev: float | None = None

    def __post_init__(self) -> None:
        """Refuse values that the databases compare differently (InputError, kind "bad-filter")."""
        for name in ("ion", "formula", "model_name"):
            value = getattr(self, name)
            if value is not None and not value.isprintable():
                raise _bad_filter(name, "has characters that cannot be printed", "plain text")
        if self.barrier_below_ev is not None and not math.isfinite(self.barrier_below_ev):
            raise _bad_filter("barrier_below_ev", "is not a finite number", "a barrier in eV, such as 0.65")
        for name in ("created_after", "created_before"):
            moment = getattr(self, name)
            if moment is not None:
                object.__setattr__(self, name, _in_utc(name, moment))


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of a list, newest first.

    Attributes:
        rows: without their input_blob.
        next_cursor: where the next page starts; None on the last one.
    """

    rows: tuple[PredictionRow, ...]
    next_cursor: str | None


def _bad_filter(where: str, fault: str, expected: str) -> InputError:
    return InputError(f"{where} {fault}", kind="bad-filter", where=where, expected=expected)


def _in_utc(name: str, moment: datetime) -> datetime:
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise _bad_filter(name, "is outside the calendar", "a date between the years 1 and 9999") from error


def logged_formulas(text: str) -> tuple[str, ...]:
    """The forms in the log that a formula stands for: of one formula unit, two and so on, up to _MOST_UNITS.

    "LiFePO4" finds "Fe1 Li1 O4 P1", "Fe4 Li4 O16 P4" and so on; "Li4Fe4P4O16" finds the second, not the first. Anything
    but a plain formula (with occupancies, parentheses) stands for itself alone, as it is written.
    """
    text = text.strip()
    if not _FORMULA.fullmatch(text):
        return (text,)
    counts: Counter[str] = Counter()
    for symbol, number in _FORMULA_PART.findall(text):
        counts[symbol] += int(number or 1)
    symbols = sorted(counts)
    most = _MOST_UNITS if counts.total() else 1
    return tuple(" ".join(f"{symbol}{counts[symbol] * units}" for symbol in symbols) for units in range(1, most + 1))


def pack_input(document: Mapping[str, object]) -> bytes:
    """Compress a canonical input for input_blob."""
    return zlib.compress(write_json(document), level=6)


def unpack_input(blob: bytes) -> dict[str, object]:
    """Decompress what pack_input compressed."""
    document: dict[str, object] = orjson.loads(zlib.decompress(blob))
    return document
