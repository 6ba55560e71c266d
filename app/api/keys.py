"""API keys: a text file of hashes, one line a key, read again whenever it changes.

    # key_id:SHA-256 of the key, hexadecimal[:note]
    alice:3c9e (64 digits in all) 51d7:Alice's laptop

A key is 256 random bits, so a plain SHA-256 suffices: slow, salted hashes protect secrets that people choose,
which can be guessed; one of 2**256 cannot, and each request would pay for the slowness. Two lines may
share a key_id: the old and the new key of one user while a key is replaced.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import structlog

KEY_BYTES = 32
KEY_PREFIX = "ionpath_"  # makes a leaked key recognisable to secret scanners

_KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")

_log = structlog.get_logger(__name__)


class KeysFileError(ValueError):
    """The keys file cannot be read; the message names the line, never what stands in it."""


@dataclass(frozen=True, kw_only=True)
class _Entry:
    key_id: str
    digest: bytes = field(repr=False)


class ApiKeys:
    """The keys that may call, as the file has them now.

    A change takes effect with the next request, without a restart. Where the changed file cannot be read, the
    keys known before stay and an error is logged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = _stamp(path)
        self._entries = _read(path)

    @classmethod
    def load(cls, path: Path) -> "ApiKeys":
        """Read a keys file; a file without keys rejects every caller.

        Raises:
            KeysFileError: the file is missing, unreadable or malformed.
        """
        return cls(path)

    def identify(self, key: str) -> str | None:
        """Give the id of a key that was presented; None where it is unknown.

        Every line is compared, each in constant time, so the time taken reveals nothing about the keys.
        """
        self._reload()
        digest = _digest(key)
        found = None
        for entry in self._entries:
            if hmac.compare_digest(entry.digest, digest):
                found = entry.key_id
        return found

    def _reload(self) -> None:
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._entries = _read(self._path)
        except KeysFileError as error:
            _log.error("api_keys_unreadable", problem=str(error), kept=len(self._entries))
        else:
            _log.info("api_keys_reloaded", keys=len(self._entries))


def new_key(key_id: str, *, note: str = "") -> tuple[str, str]:
    """Make a key: what its user is given, once, and the line for the keys file.

    Raises:
        ValueError: the id or the note cannot stand in the file.
    """
    if not _KEY_ID.fullmatch(key_id):
        raise ValueError("a key id has 1 to 64 letters, digits, dots, dashes or underscores, a letter or digit first")
    if not note.isprintable():
        raise ValueError("a note is one line of printable text")
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    line = f"{key_id}:{_digest(key).hex()}"
    return key, f"{line}:{note}" if note else line


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What changes when the file does, replaced files and mounted secrets included."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: Path) -> tuple[_Entry, ...]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise KeysFileError(f"the API keys file {path} cannot be read: {reason}") from None
    entries = [
        _entry(line.strip(), f"{path}, line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    owners: dict[bytes, str] = {}
    for entry in entries:
        if owners.setdefault(entry.digest, entry.key_id) != entry.key_id:
            raise KeysFileError(f"{path}: {entry.key_id!r} and {owners[entry.digest]!r} have the same key")
    return tuple(entries)


def _entry(line: str, where: str) -> _Entry:
    key_id, _, rest = line.partition(":")
    digest = rest.partition(":")[0].strip()
    if not _KEY_ID.fullmatch(key_id):
        raise KeysFileError(f"{where}: expected a key id, then a colon (`ionpath keys new` makes such lines)")
    if not _SHA256.fullmatch(digest):
        raise KeysFileError(f"{where}: expected the key's SHA-256, 64 hexadecimal digits (never the key itself)")
    return _Entry(key_id=key_id, digest=bytes.fromhex(digest))
