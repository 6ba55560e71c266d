"""Pagination cursors of the list of predictions: opaque to callers, a position in the order of rows."""

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from app.errors import InputError

_MICROSECONDS_BYTES = 8
_LENGTH = _MICROSECONDS_BYTES + 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Place:
    """The position of the last row of a page; the next page starts after it."""

    created_at: datetime
    id: UUID


def write_cursor(place: Place) -> str:
    """Encode a position as URL-safe text, exact to the microsecond."""
    since = place.created_at - _EPOCH
    microseconds = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    packed = microseconds.to_bytes(_MICROSECONDS_BYTES, "big", signed=True) + place.id.bytes
    return base64.urlsafe_b64encode(packed).decode()


def read_cursor(text: str) -> Place:
    """Decode a cursor of write_cursor.

    Raises:
        InputError: kind "bad-cursor", for any other text.
    """
    try:
        packed = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
        if len(packed) != _LENGTH:
            raise _bad_cursor()
        microseconds = int.from_bytes(packed[:_MICROSECONDS_BYTES], "big", signed=True)
        seconds, rest = divmod(microseconds, 1_000_000)
        created_at = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)
    except (UnicodeEncodeError, binascii.Error, OverflowError, ValueError, OSError) as error:
        raise _bad_cursor() from error
    return Place(created_at=created_at, id=UUID(bytes=packed[_MICROSECONDS_BYTES:]))


def _bad_cursor() -> InputError:
    return InputError(
        "the cursor is not one of this service",
        kind="bad-cursor",
        where="cursor",
        expected="next_cursor of an earlier page, unchanged; or no cursor, for the first page",
    )
