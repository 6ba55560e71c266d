"""API keys: hashes only in the file, rotation without a restart, errors that never repeat a secret."""

import hashlib
import hmac
import io
import logging
import os
from pathlib import Path
from typing import Literal

import pytest
import structlog

from app.api.keys import ApiKeys, KeysFileError, new_key
from app.main import configure_logging
from app.settings import Settings


def _write(path: Path, *lines: str) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    stamp = getattr(_write, "stamp", 10**18) + 10**9  # the clock of a file may stand still between two writes
    os.utime(path, ns=(stamp, stamp))
    _write.stamp = stamp  # type: ignore[attr-defined] # a counter of this helper's own


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return tmp_path / "keys.txt"


def test_a_key_is_known_by_its_hash_alone(keys_file: Path) -> None:
    alice, line = new_key("alice", note="her laptop: the new one")
    _write(keys_file, "# who may call", "", line)
    assert alice not in keys_file.read_text()
    assert line.split(":")[1] == hashlib.sha256(alice.encode()).hexdigest()
    keys = ApiKeys.load(keys_file)
    assert keys.identify(alice) == "alice"


@pytest.mark.parametrize("presented", ["", "ionpath_", "alice", "ключ", "\udcff", "x" * 100_000])
def test_other_keys_are_unknown(keys_file: Path, presented: str) -> None:
    _write(keys_file, new_key("alice")[1])
    assert ApiKeys.load(keys_file).identify(presented) is None


def test_the_hash_itself_is_no_key(keys_file: Path) -> None:
    _, line = new_key("alice")
    _write(keys_file, line)
    assert ApiKeys.load(keys_file).identify(line.split(":")[1]) is None


def test_keys_are_random_and_256_bits() -> None:
    keys = {new_key("alice")[0] for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key.removeprefix("ionpath_")) == 43 for key in keys)


def test_rotation_needs_no_restart_and_may_overlap(keys_file: Path) -> None:
    old, old_line = new_key("alice")
    new, new_line = new_key("alice")
    _write(keys_file, old_line)
    keys = ApiKeys.load(keys_file)
    assert keys.identify(new) is None
    _write(keys_file, old_line, new_line)
    assert keys.identify(old) == keys.identify(new) == "alice"
    _write(keys_file, new_line)
    assert keys.identify(old) is None
    assert keys.identify(new) == "alice"


def test_a_replaced_file_is_noticed(keys_file: Path) -> None:
    alice, alice_line = new_key("alice")
    bob, bob_line = new_key("bob")
    _write(keys_file, alice_line)
    keys = ApiKeys.load(keys_file)
    _write(keys_file.with_suffix(".new"), bob_line)
    keys_file.with_suffix(".new").replace(keys_file)
    assert keys.identify(alice) is None
    assert keys.identify(bob) == "bob"


@pytest.mark.parametrize("fault", ["missing", "malformed", "binary"])
def test_a_file_that_breaks_later_keeps_the_keys_known_before(keys_file: Path, fault: str) -> None:
    alice, line = new_key("alice")
    _write(keys_file, line)
    keys = ApiKeys.load(keys_file)
    if fault == "missing":
        keys_file.unlink()
    elif fault == "malformed":
        _write(keys_file, line[:40])
    else:
        keys_file.write_bytes(b"\xff\xfe\x00")
    assert keys.identify(alice) == "alice"
    _write(keys_file, "# nobody")
    assert keys.identify(alice) is None


def test_a_file_without_keys_lets_nobody_in(keys_file: Path) -> None:
    _write(keys_file, "# nobody yet")
    assert ApiKeys.load(keys_file).identify("anything") is None


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("ionpath_supersecret", "line 2: expected the key's SHA-256"),
        ("alice:ionpath_supersecret", "line 2: expected the key's SHA-256"),
        ("al ice:supersecret", "line 2: expected a key id"),
        (":supersecret", "line 2: expected a key id"),
    ],
)
def test_a_malformed_line_is_named_but_not_repeated(keys_file: Path, line: str, says: str) -> None:
    _write(keys_file, "# keys", line)
    with pytest.raises(KeysFileError, match=says) as caught:
        ApiKeys.load(keys_file)
    assert "supersecret" not in str(caught.value)


def test_one_key_with_two_owners_is_refused(keys_file: Path) -> None:
    _, line = new_key("alice")
    _write(keys_file, line, line.replace("alice", "bob"))
    with pytest.raises(KeysFileError, match="have the same key"):
        ApiKeys.load(keys_file)


def test_a_missing_file_is_refused_at_the_start(keys_file: Path) -> None:
    with pytest.raises(KeysFileError, match="No such file"):
        ApiKeys.load(keys_file)


@pytest.mark.parametrize("key_id", ["", "a:b", "a b", "-a", "a" * 65, "a\n"])
def test_an_id_that_cannot_stand_in_the_file_is_refused(key_id: str) -> None:
    with pytest.raises(ValueError, match="a key id has"):
        new_key(key_id)


def test_a_note_of_two_lines_is_refused() -> None:
    with pytest.raises(ValueError, match="one line"):
        new_key("alice", note="a\nmallory:" + "0" * 64)


def test_no_repr_shows_a_hash_or_a_key(keys_file: Path) -> None:
    alice, line = new_key("alice")
    _write(keys_file, line)
    keys = ApiKeys.load(keys_file)
    keys.identify(alice)
    shown = repr(keys) + repr(keys._entries) + repr(vars(keys))
    assert "alice" in shown
    for secret in (alice, line.split(":")[1], repr(bytes.fromhex(line.split(":")[1]))):
        assert secret not in shown


def test_every_line_is_compared_in_constant_time(keys_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (alice, alice_line), (_, bob_line), (_, carol_line) = (new_key(name) for name in ("alice", "bob", "carol"))
    _write(keys_file, alice_line, bob_line, carol_line)
    keys, compared = ApiKeys.load(keys_file), []
    compare = hmac.compare_digest

    def counted(left: bytes, right: bytes) -> bool:
        compared.append(left)
        return compare(left, right)

    monkeypatch.setattr("app.api.keys.hmac.compare_digest", counted)
    assert keys.identify(alice) == "alice"
    assert len(compared) == 3, "the first line that fits does not end it"


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_logged_fault_shows_no_variables(
    log_format: Literal["json", "text"], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    root, defaults = logging.getLogger(), structlog.get_config()
    before, level = root.handlers[:], root.level
    try:
        configure_logging(Settings(log_format=log_format))
        _fail_with("ionpath_" + "secret")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        structlog.configure(**defaults)
    assert "a fault of ours" in written.getvalue()
    assert "ionpath_secret" not in written.getvalue()


def _fail_with(key: str) -> None:
    try:
        int(f"a fault of ours with {len(key)} characters")
    except ValueError:
        structlog.get_logger("test").exception("unexpected")
