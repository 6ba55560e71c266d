"""The reading pool: what it reads, and what a reader that misbehaves can do to others (nothing)."""

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from band_files import band_to_cif_end_points, band_to_poscar_zip
from structlog.testing import capture_logs
from waiting import until

from app.crystals.band import Band
from app.crystals.hops.options import HopOptions
from app.crystals.limits import Limits
from app.crystals.readers import File, read_json_band
from app.crystals.writers import band_to_extxyz
from app.errors import FormatError, InputError, IonpathError, NotReadyError, TooLargeError
from app.serving.reading import pool as module
from app.serving.reading.pool import Reader, ReadingPool, ReadSettings
from app.serving.reading.upload_reader import CrystalInput, ReadInput, ReadOptions, read_or_refuse
from app.serving.reading.uploads import (
    BandFileUpload,
    BulkUpload,
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
    name = upload.file.name if isinstance(upload, BandFileUpload | CrystalUpload) else ""
    if name == "hang":
        assert isinstance(upload, BandFileUpload | CrystalUpload)
        Path(upload.file.content.decode()).touch()
        while True:  # a limit of processor time ends it; what only waits has three times as long
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
    reader: Reader = read_or_refuse, *, timeout_s: float = DEADLINE_S, workers: int = 1
) -> AsyncIterator[ReadingPool]:
    pool = ReadingPool(ReadSettings(workers=workers, timeout_s=timeout_s, memory_mib=4096, kept_mib=16), reader)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop()
        assert not ours()


def ours() -> list[int | None]:
    names = {"read-crystals", "read-bands", "second-opinion"}
    return [child.pid for child in multiprocessing.active_children() if child.name in names]


async def read_by(
    pool: ReadingPool, upload: Upload, options: ReadOptions = OPTIONS, key_id: str | None = None
) -> ReadInput:
    return (await pool.read(upload, options, key_id=key_id)).read


def band_file(content: str | bytes, name: str = "band.xyz") -> BandFileUpload:
    return BandFileUpload(file=File(name=name, content=content.encode() if isinstance(content, str) else content))


@pytest.fixture(scope="module")
def row(composed_rows: list[dict[str, Any]]) -> dict[str, Any]:
    return next(row for row in composed_rows if len(row["host_species"]) < 60)


@pytest.fixture(scope="module")
def band(row: dict[str, Any]) -> Band:
    return read_json_band(row, Limits()).band


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
            read = await read_by(pool, upload)
            assert isinstance(read.content, Band)
            assert read.formula == band.formula
            assert read.ion == band.ion
            assert read.content.hop_distance_angstrom == pytest.approx(band.hop_distance_angstrom, abs=2e-3)


async def test_a_crystal_is_read_with_its_hops() -> None:
    upload = CrystalUpload(file=File(name="POSCAR", content=LI2O.encode()), ion="Li")
    async with open_pool() as pool:
        read = await read_by(pool, upload)
    assert isinstance(read.content, CrystalInput)
    assert read.formula == "Li8 O4"
    assert read.content.search.hops[0].distance_angstrom == pytest.approx(2.31)
    assert read.packed is not None
    assert unpack_input(read.packed)["ion"] == "Li"


async def test_the_input_is_kept_only_where_it_is_asked_for(row: dict[str, Any]) -> None:
    upload = JsonBandUpload(payload=orjson.dumps(row))
    async with open_pool() as pool:
        kept = await read_by(pool, upload)
        left = await read_by(pool, upload, ReadOptions(limits=Limits(), keep_input=False))
    assert kept.packed is not None
    assert np.allclose(np.array(unpack_input(kept.packed)["host_frac_coords"]), row["host_frac_coords"])
    assert left.packed is None


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
        timed = await pool.read(upload, OPTIONS, key_id="alice")
        first = timed.read
        again = await pool.read(upload, OPTIONS, key_id="alice")
        assert again.read is first
        assert timed.seconds > again.seconds == 0.0
        assert await read_by(pool, upload, key_id="bob") is not first
        other = ReadOptions(limits=Limits(), hops=HopOptions(max_hop_angstrom=4.0))
        assert await read_by(pool, upload, other, key_id="alice") is not first


async def test_a_stored_input_is_rebuilt_as_it_was_read(row: dict[str, Any]) -> None:
    crystal = CrystalUpload(file=File(name="POSCAR", content=LI2O.encode()), ion="Li")
    asked = ReadOptions(limits=Limits(), hops=HopOptions(max_hop_angstrom=3.5, mechanism="dilute", max_hops=2))
    async with open_pool() as pool:
        for upload in (JsonBandUpload(payload=orjson.dumps(row)), crystal):
            first = await read_by(pool, upload, asked)
            assert first.packed is not None
            again = await read_by(pool, StoredUpload(packed=first.packed))
            assert len(again.bands) == len(first.bands) > 0
            for one, other in zip(again.bands, first.bands, strict=True):
                assert np.array_equal(one.host_frac_coords, other.host_frac_coords)
                assert np.array_equal(one.image_frac_coords, other.image_frac_coords)


def tell_process(_upload: Upload, _options: ReadOptions) -> IonpathError:
    return InputError(str(os.getpid()))


async def test_a_large_json_band_is_read_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_JSON_HERE_BYTES", 100)
    here = str(os.getpid())
    async with open_pool(tell_process) as pool:
        for size, is_here in ((100, True), (101, False)):
            with pytest.raises(InputError) as refused:
                await pool.read(JsonBandUpload(payload=b" " * size), OPTIONS, key_id=None)
            assert (refused.value.detail == here) == is_here


async def test_a_large_file_is_neither_hashed_nor_kept(band: Band, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_KEPT_BYTES", 10)
    upload = band_file(band_to_extxyz(band))
    async with open_pool() as pool:
        first = await read_by(pool, upload)
        assert await read_by(pool, upload) is not first


async def test_a_reader_that_never_returns_is_killed_and_others_are_read(band: Band, tmp_path: Path) -> None:
    async with open_pool(misbehave, timeout_s=2.0) as pool:  # the next reader imports its libraries within it
        with pytest.raises(InputError, match="IONPATH_PARSE_TIMEOUT_S") as hung:
            await pool.read(band_file(str(tmp_path / "began"), "hang"), OPTIONS, key_id=None)
        assert hung.value.kind == "reading-took-too-long"
        assert (await read_by(pool, band_file(band_to_extxyz(band)))).ion == band.ion


async def test_a_client_that_leaves_stops_its_reader(band: Band, tmp_path: Path) -> None:
    async with open_pool(misbehave) as pool:
        task = asyncio.create_task(pool.read(band_file(str(tmp_path / "began"), "hang"), OPTIONS, key_id=None))
        await until((tmp_path / "began").exists)
        task.cancel()
        async with asyncio.timeout(DEADLINE_S):
            assert (await read_by(pool, band_file(band_to_extxyz(band)))).ion == band.ion
        assert task.cancelled()


async def test_a_reader_that_dies_takes_one_request_with_it(band: Band) -> None:
    async with open_pool(misbehave) as pool:
        with capture_logs() as lines, pytest.raises(InputError) as crashed:
            await pool.read(band_file("", "die"), OPTIONS, key_id=None, request_id="r-7")
        assert crashed.value.kind == "reading-crashed"
        assert [line["request_id"] for line in lines if line["event"] == "reading-worker-crashed"] == ["r-7"]
        assert (await read_by(pool, band_file(band_to_extxyz(band)))).ion == band.ion


async def test_a_reader_that_eats_memory_is_refused() -> None:
    async with open_pool(misbehave) as pool:
        with pytest.raises(TooLargeError, match="IONPATH_PARSE_MEMORY_MIB"):
            await pool.read(band_file("", "eat"), OPTIONS, key_id=None)


async def test_whatever_a_library_raises_becomes_a_problem(band: Band) -> None:
    async with open_pool(misbehave) as pool:
        with pytest.raises(FormatError, match="UnpicklableError"):
            await pool.read(band_file("", "odd"), OPTIONS, key_id=None)
        assert (await read_by(pool, band_file(band_to_extxyz(band)))).ion == band.ion


async def test_workers_killed_from_outside_are_replaced_unnoticed(band: Band) -> None:
    async with open_pool(workers=2) as pool:
        for pid in ours():
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        await until(lambda: not ours())
        assert (await read_by(pool, band_file(band_to_extxyz(band)))).ion == band.ion
        assert (
            await read_by(pool, CrystalUpload(file=File(name="POSCAR", content=LI2O.encode()), ion="Li"))
        ).ion == "Li"
        assert pool.trouble is None


def crystal_that_hangs(began: Path) -> CrystalUpload:
    return CrystalUpload(file=File(name="hang", content=str(began).encode()), ion="Li")


async def test_a_band_is_not_behind_crystals(row: dict[str, Any], band: Band, tmp_path: Path) -> None:
    async with open_pool(misbehave) as pool:
        slow = [
            asyncio.create_task(pool.read(crystal_that_hangs(tmp_path / f"{number}"), OPTIONS, key_id=None))
            for number in range(3)
        ]
        await until((tmp_path / "0").exists)
        initial, final = band_to_cif_end_points(band)
        end_points = EndPointsUpload(
            initial=File(name="a.cif", content=initial.encode()), final=File(name="b.cif", content=final.encode())
        )
        json_band = JsonBandUpload(payload=orjson.dumps(row))
        async with asyncio.timeout(DEADLINE_S):
            for upload in (band_file(band_to_extxyz(band)), end_points, json_band):
                assert (await read_by(pool, upload)).ion == band.ion
        assert not any(task.done() for task in slow)
        await cancelled(slow)


async def test_as_many_crystals_are_read_at_once_as_there_are_workers(tmp_path: Path) -> None:
    async with open_pool(misbehave, workers=2) as pool:
        tasks = [
            asyncio.create_task(pool.read(crystal_that_hangs(tmp_path / f"{number}"), OPTIONS, key_id=None))
            for number in range(3)
        ]
        await until(lambda: began(tmp_path) == 2)
        await asyncio.sleep(0.5)  # what is tested: the third waits
        assert began(tmp_path) == 2
        await cancelled(tasks)


def began(folder: Path) -> int:
    """How many of the crystals that hang are being read."""
    return len(list(folder.iterdir()))


async def cancelled(tasks: "Sequence[asyncio.Task[Any]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_uploads_that_wait_for_a_reader_are_all_read(band: Band) -> None:
    async with open_pool() as pool:
        files = [band_file(band_to_extxyz(band) + " " * number, f"{number}.xyz") for number in range(40)]
        reads = await asyncio.gather(*[pool.read(file, OPTIONS, key_id=None) for file in files])
    assert {timed.read.ion for timed in reads} == {band.ion}
    assert all(timed.seconds > 0.0 for timed in reads)


async def test_a_second_opinion_holds_up_no_crystal_and_no_crystal_a_second_opinion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "bvse_or_refuse", misbehave)
    crystal = CrystalUpload(file=File(name="POSCAR", content=LI2O.encode()), ion="Li")
    async with open_pool(misbehave) as pool, asyncio.timeout(DEADLINE_S):
        opinion = asyncio.create_task(
            pool.second_opinion(crystal_that_hangs(tmp_path / "opinion"), OPTIONS, timeout_s=DEADLINE_S)
        )
        await until((tmp_path / "opinion").exists)
        assert (await read_by(pool, crystal)).ion == "Li"
        await cancelled([opinion])
        slow = asyncio.create_task(pool.read(crystal_that_hangs(tmp_path / "crystal"), OPTIONS, key_id=None))
        await until((tmp_path / "crystal").exists)
        found, _ = await pool.second_opinion(crystal, OPTIONS, timeout_s=DEADLINE_S)
        assert not isinstance(found, IonpathError)
        await cancelled([slow])


async def test_a_second_opinion_that_takes_too_long_is_given_up_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "bvse_or_refuse", misbehave)
    async with open_pool() as pool:
        found, seconds = await pool.second_opinion(crystal_that_hangs(tmp_path / "began"), OPTIONS, timeout_s=0.5)
    assert isinstance(found, InputError)
    limit = "0.5 s of processor time, or 1.5 s in all (IONPATH_SECOND_OPINION_TIMEOUT_S)"
    assert found.detail == f"it took more than {limit}"
    assert seconds == 0.5, "what it took counts as work all the same"


async def test_a_bulk_crystal_is_read_with_the_time_that_it_took() -> None:
    async with open_pool() as pool:
        crystal, seconds = await pool.read_bulk(BulkUpload(file=File(name="POSCAR", content=LI2O.encode())), OPTIONS)
    assert crystal.formula == "Li8 O4"
    assert seconds > 0.0


async def test_when_the_pool_stops_what_is_read_is_given_up(tmp_path: Path) -> None:
    async with open_pool(misbehave) as pool:
        tasks = [
            asyncio.create_task(pool.read(crystal_that_hangs(tmp_path / f"{number}"), OPTIONS, key_id=None))
            for number in range(3)
        ]
        await until((tmp_path / "0").exists)
        await pool.stop()
        async with asyncio.timeout(DEADLINE_S):
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [one.kind for one in outcomes if isinstance(one, NotReadyError)] == ["stopping"] * 3
