"""The parsing pool: what it reads, and what a reader that misbehaves can do to others (nothing)."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from structlog.testing import capture_logs

from app.crystals.band import Band
from app.crystals.limits import Limits
from app.crystals.readers import File, read_json_band
from app.crystals.writers import band_to_cif_end_points, band_to_extxyz, band_to_poscar_zip
from app.errors import BusyError, FormatError, InputError, IonpathError, TooLargeError
from app.serving import parsing
from app.serving.reading.pool import ParsePool, ParseSettings, Reader
from app.serving.reading.upload_reader import CrystalInput, ReadInput, ReadOptions, read_or_refuse
from app.serving.reading.uploads import (
    BandFileUpload,
    CrystalUpload,
    EndPointsUpload,
    JsonBandUpload,
    StoredUpload,
    Upload,
)
from app.storage.rows import unpack_input

pytestmark = pytest.mark.anyio

DEADLINE_S = 30.0
OPTIONS = ReadOptions(limits=Limits())

LI2O = """Li2O
1.0
4.62 0 0
0 4.62 0
0 0 4.62
O Li
4 8
Direct
0 0 0
0 .5 .5
.5 0 .5
.5 .5 0
.25 .25 .25
.25 .25 .75
.25 .75 .25
.25 .75 .75
.75 .25 .25
.75 .25 .75
.75 .75 .25
.75 .75 .75
"""


def misbehave(upload: Upload, options: ReadOptions) -> ReadInput | IonpathError:
    """Do to the worker what a file's name says; read what has another name."""
    assert isinstance(upload, BandFileUpload)
    name = upload.file.name
    if name.startswith("hang"):
        Path(upload.file.content.decode()).touch()
        while True:
            pass
    if name == "die":
        os._exit(9)
    if name == "eat":
        return read_or_refuse(upload, options, read=lambda *_: bytearray(6 * 2**30))  # type: ignore[arg-type] # it never returns one
    if name == "odd":
        return read_or_refuse(upload, options, read=odd)
    return read_or_refuse(upload, options)


class UnpicklableError(Exception):
    def __init__(self, *, lock: object) -> None:
        super().__init__()
        self.lock = lock


def odd(_upload: Upload, _options: ReadOptions) -> ReadInput:
    raise UnpicklableError(lock=threading.Lock())


@asynccontextmanager
async def open_pool(
    reader: Reader = read_or_refuse, *, timeout_s: float = DEADLINE_S, waiting_mib: int = 64, wait_s: float = DEADLINE_S
) -> AsyncIterator[ParsePool]:
    limits = ParseSettings(
        workers=1, timeout_s=timeout_s, memory_mib=4096, waiting_mib=waiting_mib, kept_mib=16, wait_s=wait_s
    )
    pool = ParsePool(limits, reader)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop()


def band_file(content: str | bytes, name: str = "band.xyz") -> BandFileUpload:
    return BandFileUpload(file=File(name=name, content=content.encode() if isinstance(content, str) else content))


@pytest.fixture(scope="module")
def row(data_rows: list[dict[str, Any]]) -> dict[str, Any]:
    return next(row for row in data_rows if row["sound"] and len(row["host_species"]) < 60)


@pytest.fixture(scope="module")
def band(row: dict[str, Any]) -> Band:
    return read_json_band(row, Limits()).band


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.005)


async def test_every_way_of_sending_a_band_is_read_to_the_same_hop(row: dict[str, Any], band: Band) -> None:
    initial, final = band_to_cif_end_points(band)
    uploads: list[Upload] = [
        JsonBandUpload(payload=orjson.dumps(row)),
        band_file(band_to_extxyz(band)),
        band_file(band_to_poscar_zip(band), "neb.zip"),
        EndPointsUpload(
            initial=File(name="a.cif", content=initial.encode()), final=File(name="b.cif", content=final.encode())
        ),
    ]
    async with open_pool() as pool:
        for upload in uploads:
            read = await pool.read(upload, OPTIONS, key_id=None)
            assert isinstance(read.content, Band)
            assert read.formula == band.formula
            assert read.ion == band.ion
            assert read.content.hop_distance_angstrom == pytest.approx(band.hop_distance_angstrom, abs=2e-3)


async def test_a_crystal_is_read_with_its_hops() -> None:
    upload = CrystalUpload(file=File(name="POSCAR", content=LI2O.encode()), ion="Li")
    async with open_pool() as pool:
        read = await pool.read(upload, OPTIONS, key_id=None)
    assert isinstance(read.content, CrystalInput)
    assert read.formula == "Li8 O4"
    assert read.content.search.hops[0].distance_angstrom == pytest.approx(2.31)
    assert read.packed is not None
    assert unpack_input(read.packed)["ion"] == "Li"


async def test_the_input_is_kept_only_where_it_is_asked_for(row: dict[str, Any]) -> None:
    upload = JsonBandUpload(payload=orjson.dumps(row))
    async with open_pool() as pool:
        kept = await pool.read(upload, OPTIONS, key_id=None)
        left = await pool.read(upload, ReadOptions(limits=Limits(), keep_input=False), key_id=None)
    assert kept.packed is not None
    assert np.allclose(np.array(unpack_input(kept.packed)["host_frac_coords"]), row["host_frac_coords"])
    assert left.packed is None
    assert left.digest == kept.digest


async def test_an_error_of_a_reader_arrives_with_all_its_fields() -> None:
    async with open_pool() as pool:
        with pytest.raises(InputError) as here:
            await pool.read(JsonBandUpload(payload=b'{"ion": "Li"}'), OPTIONS, key_id=None)
        with pytest.raises(InputError) as there:
            await pool.read(band_file('{"ion": "Li"}', "band.json"), OPTIONS, key_id=None)
    assert here.value.kind == there.value.kind
    assert here.value.where is not None


async def test_the_same_file_is_read_once_a_key(band: Band) -> None:
    upload = band_file(band_to_extxyz(band))
    async with open_pool() as pool:
        first = await pool.read(upload, OPTIONS, key_id="alice")
        assert await pool.read(upload, OPTIONS, key_id="alice") is first
        assert await pool.read(upload, OPTIONS, key_id="bob") is not first
        other = ReadOptions(limits=Limits(), max_hop_angstrom=4.0)
        assert await pool.read(upload, other, key_id="alice") is not first


async def test_a_stored_input_is_rebuilt_as_it_was_read(row: dict[str, Any]) -> None:
    crystal = CrystalUpload(file=File(name="POSCAR", content=LI2O.encode()), ion="Li")
    asked = ReadOptions(limits=Limits(), max_hop_angstrom=3.5, mechanism="dilute", max_hops=2)
    async with open_pool() as pool:
        for upload in (JsonBandUpload(payload=orjson.dumps(row)), crystal):
            first = await pool.read(upload, asked, key_id=None)
            assert first.packed is not None
            again = await pool.read(StoredUpload(packed=first.packed), OPTIONS, key_id=None)
            assert again.digest == first.digest
            assert len(again.bands) == len(first.bands) > 0
            for one, other in zip(again.bands, first.bands, strict=True):
                assert np.array_equal(one.host_frac_coords, other.host_frac_coords)
                assert np.array_equal(one.image_frac_coords, other.image_frac_coords)


def tell_process(_upload: Upload, _options: ReadOptions) -> IonpathError:
    return InputError(str(os.getpid()))


async def test_a_large_json_band_is_read_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "LARGEST_JSON_HERE_BYTES", 100)
    here = str(os.getpid())
    async with open_pool(tell_process) as pool:
        for size, is_here in ((100, True), (101, False)):
            with pytest.raises(InputError) as told:
                await pool.read(JsonBandUpload(payload=b" " * size), OPTIONS, key_id=None)
            assert (told.value.detail == here) == is_here


@pytest.mark.parametrize("bound", ["IONPATH_READING_MIB", "JSON bands wait"])
async def test_json_that_waits_to_be_read_is_bounded(
    bound: str, row: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if bound == "JSON bands wait":
        monkeypatch.setattr(parsing, "WAITING_JSON", 1)
    may_read = threading.Event()

    def read_when_told(upload: Upload, options: ReadOptions) -> ReadInput | IonpathError:
        assert may_read.wait(DEADLINE_S)
        return read_or_refuse(upload, options)

    large = JsonBandUpload(payload=orjson.dumps(row).ljust(600_000 if bound.startswith("IONPATH") else 1))
    async with open_pool(read_when_told, waiting_mib=1) as pool:
        first = asyncio.create_task(pool.read(large, OPTIONS, key_id=None))
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match=bound) as busy:
            await pool.read(large, OPTIONS, key_id=None)
        assert busy.value.retry_after_s > 0.0
        may_read.set()
        await first
        assert (await pool.read(large, OPTIONS, key_id=None)).ion == row["ion"]


async def test_a_large_file_is_neither_hashed_nor_kept(band: Band, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "LARGEST_KEPT_BYTES", 10)
    upload = band_file(band_to_extxyz(band))
    async with open_pool() as pool:
        first = await pool.read(upload, OPTIONS, key_id=None)
        assert await pool.read(upload, OPTIONS, key_id=None) is not first


async def test_a_reader_that_never_returns_is_killed_and_others_are_read(band: Band, tmp_path: Path) -> None:
    async with open_pool(misbehave, timeout_s=0.5) as pool:
        with pytest.raises(InputError, match="IONPATH_PARSE_TIMEOUT_S") as hung:
            await pool.read(band_file(str(tmp_path / "began"), "hang"), OPTIONS, key_id=None)
        assert hung.value.kind == "reading-took-too-long"
        assert (await pool.read(band_file(band_to_extxyz(band)), OPTIONS, key_id=None)).ion == band.ion


async def test_a_client_that_leaves_stops_its_reader(band: Band, tmp_path: Path) -> None:
    async with open_pool(misbehave) as pool:
        task = asyncio.create_task(pool.read(band_file(str(tmp_path / "began"), "hang"), OPTIONS, key_id=None))
        await until((tmp_path / "began").exists)
        task.cancel()
        async with asyncio.timeout(DEADLINE_S):
            assert (await pool.read(band_file(band_to_extxyz(band)), OPTIONS, key_id=None)).ion == band.ion
        assert task.cancelled()


async def test_a_reader_that_dies_takes_one_request_with_it(band: Band) -> None:
    async with open_pool(misbehave) as pool:
        with capture_logs() as lines, pytest.raises(InputError) as died:
            await pool.read(band_file("", "die"), OPTIONS, key_id=None, request_id="r-7")
        assert died.value.kind == "reading-crashed"
        assert [(line["event"], line["request_id"]) for line in lines] == [("reading-process-died", "r-7")]
        assert (await pool.read(band_file(band_to_extxyz(band)), OPTIONS, key_id=None)).ion == band.ion


async def test_a_reader_that_eats_memory_is_refused() -> None:
    async with open_pool(misbehave) as pool:
        with pytest.raises(TooLargeError, match="IONPATH_PARSE_MEMORY_MIB"):
            await pool.read(band_file("", "eat"), OPTIONS, key_id=None)


async def test_whatever_a_library_raises_becomes_a_problem(band: Band) -> None:
    async with open_pool(misbehave) as pool:
        with pytest.raises(FormatError, match="UnpicklableError"):
            await pool.read(band_file("", "odd"), OPTIONS, key_id=None)
        assert (await pool.read(band_file(band_to_extxyz(band)), OPTIONS, key_id=None)).ion == band.ion


async def test_a_process_killed_from_outside_is_replaced(band: Band) -> None:
    async with open_pool() as pool:
        assert pool.trouble is None
        assert pool._pool is not None
        (pid,) = pool._pool._pool_manager.worker_manager.workers
        os.kill(pid, signal.SIGKILL)
        await until(lambda: pool.trouble is not None)
        assert (await pool.read(band_file(band_to_extxyz(band)), OPTIONS, key_id=None)).ion == band.ion
        assert pool.trouble is None


async def test_no_more_uploads_wait_than_are_read_in_time(
    band: Band, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parsing, "LEAST_WAITING_PER_WORKER", 2)
    async with open_pool(misbehave, wait_s=1e-6) as pool:

        def hanging(number: int) -> BandFileUpload:
            return band_file(str(tmp_path / f"began-{number}"), f"hang-{number}")

        await pool.read(band_file(band_to_extxyz(band)), OPTIONS, key_id=None)  # now it knows how long one takes
        tasks = [asyncio.create_task(pool.read(hanging(number), OPTIONS, key_id=None)) for number in range(2)]
        await until((tmp_path / "began-0").exists)
        with pytest.raises(BusyError, match="IONPATH_QUEUE_WAIT_S"):
            await pool.read(hanging(2), OPTIONS, key_id=None)
        tasks.append(asyncio.create_task(pool.read(hanging(3), OPTIONS, key_id=None, promised=True)))
        await until(lambda: pool._waiting == 3)  # a place was kept for it
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_how_long_reading_takes_is_measured_without_the_wait(band: Band) -> None:
    async with open_pool() as pool:
        files = [band_file(band_to_extxyz(band) + " " * number, f"{number}.xyz") for number in range(24)]
        started = time.monotonic()
        await asyncio.gather(*[pool.read(file, OPTIONS, key_id=None) for file in files])
        assert pool._read_s < (time.monotonic() - started) / len(files) * 2


async def test_uploads_that_wait_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "WAITING_PER_WORKER", 2)
    async with open_pool(misbehave) as pool:
        tasks = [
            asyncio.create_task(
                pool.read(band_file(str(tmp_path / f"began-{number}"), f"hang-{number}"), OPTIONS, key_id=None)
            )
            for number in range(2)
        ]
        await until((tmp_path / "began-0").exists)
        with pytest.raises(BusyError) as busy:
            await pool.read(band_file(str(tmp_path / "began-2"), "hang-2"), OPTIONS, key_id=None)
        assert busy.value.retry_after_s > 0.0
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
