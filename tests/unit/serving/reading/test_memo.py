"""Readings that are kept, bounded by the memory that they take."""

from bands import rock_salt

from app.crystals.band import Band
from app.serving.reading.memo import KeptReadings
from app.serving.reading.upload_reader import ReadInput


def reading(packed: int = 0) -> ReadInput:
    return ReadInput(content=rock_salt(), warnings=(), packed=bytes(packed))


def test_a_reading_weighs_at_least_its_arrays_and_its_packed_input() -> None:
    read = reading(10_000)
    assert isinstance(read.content, Band)
    assert read.size_bytes > 10_000 + read.content.host_frac_coords.nbytes
    assert read.size_bytes - reading(0).size_bytes == 10_000


def test_the_readings_used_last_are_kept() -> None:
    one = reading(10_000)
    kept = KeptReadings(5 * one.size_bytes)
    for name in b"abcde":
        kept.put((None, bytes([name])), one)
    assert kept.get((None, b"a")) is one
    kept.put((None, b"f"), one)
    assert [kept.get((None, bytes([name]))) is one for name in b"abcdef"] == [True, False, True, True, True, True]
    for _ in range(10):
        kept.put((None, b"a"), one)  # in its own place
    assert kept.get((None, b"f")) is one


def test_a_reading_that_would_push_out_the_others_is_not_kept() -> None:
    kept = KeptReadings(100_000)
    kept.put((None, b"small"), reading())
    kept.put((None, b"large"), reading(50_000))
    assert kept.get((None, b"small")) is not None
    assert kept.get((None, b"large")) is None
