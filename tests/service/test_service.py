"""The service behind the routes: real network, real readers, real stores."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from untrained import write_untrained
from waiting import until

from app.api.queries import ListQuery
from app.crystals.hops.options import HopOptions
from app.crystals.limits import Limits
from app.crystals.readers import File, read_json_band
from app.crystals.writers import band_to_extxyz
from app.errors import BusyError, InputError, NotFoundError, NotReadyError
from app.serving import predictions
from app.serving.answers.as_json import Json, answer_to_json
from app.serving.answers.types import Answer
from app.serving.history.jobs import JOBS_AT_ONCE, Job
from app.serving.inference.admission import PRIOR_WEIGHT
from app.serving.inference.batcher import Batcher
from app.serving.inference.crystal_turns import MOST_HOPS_AHEAD
from app.serving.inference.work_item import Turn
from app.serving.lanes import Lane
from app.serving.reading.uploads import BandFileUpload, CrystalUpload, JsonBandUpload, Upload
from app.serving.service import PredictionRequest, PredictionService, open_service
from app.settings import Settings
from app.storage.log import open_log
from app.storage.rows import UNFINISHED, PredictionRow, pack_input

pytestmark = pytest.mark.anyio

DEADLINE_S = 60.0
GENEROUS_MS = 10_000.0

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


@pytest.fixture(scope="module")
def rows(composed_rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in composed_rows if len(row["host_species"]) < 60][:8]


def settings_of(store: Path, folder: Path) -> Settings:
    return Settings(
        model_store=store,
        database_url=f"sqlite+aiosqlite:///{folder}/log.sqlite3",
        device="cpu",
        model_process=False,  # it would load torch once more for each of these services
    )


@pytest.fixture
def settings(store: Path, tmp_path: Path) -> Settings:
    return settings_of(store, tmp_path)


@pytest.fixture(scope="module")
async def service(store: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PredictionService]:
    """One service for all tests that need no other; each test asks with a key of its own."""
    settings = settings_of(store, tmp_path_factory.mktemp("log"))
    async with open_service(settings.model_copy(update={"queue_min_requests": 1})) as opened:
        yield opened


@pytest.fixture
def key() -> str:
    return f"key-{uuid4()}"


def request(upload: Upload, **changed: Any) -> PredictionRequest:
    asked = PredictionRequest(
        upload=upload,
        model=None,
        threshold_ev=0.65,
        key_id=None,
        request_id="test",
    )
    of_hops = {field.name: changed.pop(field.name) for field in fields(HopOptions) if field.name in changed}
    return replace(asked, hops=HopOptions(**of_hops), **changed)


def json_band(row: dict[str, Any]) -> JsonBandUpload:
    return JsonBandUpload(payload=orjson.dumps(row))


def crystal() -> CrystalUpload:
    return CrystalUpload(file=File(name="POSCAR", content=LI2O.encode()), ion="Li")


def lonely_band() -> JsonBandUpload:
    """A hop far from every atom, in the empty half of a long cell: it can be read and not be predicted."""
    host = [[x / 16, y / 4, z / 4] for x in range(5) for y in range(4) for z in range(4)]
    return json_band(
        {
            "lattice_angstrom": [[40, 0, 0], [0, 10, 0], [0, 0, 10]],
            "host_species": ["O"] * len(host),
            "host_frac_coords": host,
            "ion": "Li",
            "image_frac_coords": [[0.6, 0.1, 0.1], [0.65, 0.1, 0.1]],
        }
    )


async def finished(service: PredictionService, number: UUID, key_id: str | None = None) -> Json:
    found: Json = {}

    async def ended() -> bool:
        found.update(await service.get(number, key_id))
        return found["status"] in {"done", "failed"}

    await until(ended)
    return found


def figure(service: PredictionService, name: str, **labels: str) -> float:
    return service.metrics.registry.get_sample_value(name, labels) or 0.0


async def test_a_band_is_predicted_then_cached_each_with_its_own_id(
    service: PredictionService, rows: list[dict[str, Any]], key: str
) -> None:
    band = read_json_band(rows[0], Limits()).band
    other_format = BandFileUpload(file=File(name="b.xyz", content=band_to_extxyz(band).encode()))
    hits = figure(service, "ionpath_cache_lookups_total", result="hit")
    first = await service.predict(request(json_band(rows[0]), key_id=key))
    second = await service.predict(request(other_format, key_id=key))
    assert (first.cached, second.cached) == (False, True)
    assert first.prediction is not None
    assert second.prediction == first.prediction
    assert first.prediction_id != second.prediction_id
    found = [await service.get(answer.prediction_id, key) for answer in (first, second)]
    assert [one["cached"] for one in found] == [False, True]
    listed = await listing(service, key, [str(second.prediction_id), str(first.prediction_id)])
    assert [one["barrier_ev"] for one in listed] == [barrier(first)] * 2
    assert figure(service, "ionpath_cache_lookups_total", result="hit") == hits + 1


async def listing(service: PredictionService, key: str, expected: list[str], status: str = "done") -> list[Json]:
    """What is listed, once it is what is expected."""
    found: list[Json] = []

    async def all_there() -> bool:
        page = await service.list(key, ListQuery(status=status))
        found[:] = page["predictions"]  # type: ignore[call-overload] # a list, as JSON
        return [one["prediction_id"] for one in found] == expected

    await until(all_there)
    return found


def barrier(answer: Answer) -> float:
    assert answer.prediction is not None
    return answer.prediction.barrier_ev


async def test_what_is_replied_is_what_is_found(settings: Settings, rows: list[dict[str, Any]]) -> None:
    patient = settings.model_copy(update={"log_batch_wait_ms": 60_000.0})  # only memory can have it
    async with open_service(patient) as service:
        answer = await service.predict(request(json_band(rows[0]), threshold_ev=0.4))
        found = await service.get(answer.prediction_id, None)
    replied = orjson.loads(orjson.dumps(answer_to_json(answer)))
    assert found == {**found, **replied}
    assert (found["status"], found["progress"], found["kind"]) == ("done", 1.0, "band")
    assert replied["good_conductor"]["threshold_ev"] == 0.4


async def test_one_key_neither_sees_nor_shares_what_another_asked(
    service: PredictionService, rows: list[dict[str, Any]], key: str
) -> None:
    mine = await service.predict(request(json_band(rows[0]), key_id=key))
    other = key + "-other"
    theirs = await service.predict(request(json_band(rows[0]), key_id=other))
    assert not theirs.cached, "an answer crossed from one key to another"
    for call in (service.get, service.delete):
        with pytest.raises(NotFoundError):
            await call(mine.prediction_id, other)
    await listing(service, other, [str(theirs.prediction_id)])


async def test_what_is_deleted_is_gone_everywhere(
    service: PredictionService, rows: list[dict[str, Any]], key: str
) -> None:
    first = await service.predict(request(json_band(rows[0]), key_id=key))
    second = await service.predict(request(json_band(rows[1]), key_id=key))
    await service.delete(first.prediction_id, key)  # on its way to the log
    await listing(service, key, [str(second.prediction_id)])
    await service.delete(second.prediction_id, key)  # in the log
    for answer in (first, second):
        for call in (service.get, service.delete):
            with pytest.raises(NotFoundError):
                await call(answer.prediction_id, key)
    await listing(service, key, [])


async def test_what_is_deleted_is_out_of_the_cache_too(
    service: PredictionService, rows: list[dict[str, Any]], key: str
) -> None:
    """Of this key alone, found by the input that the log keeps, whichever file it came in."""
    other = key + "-other"
    await service.predict(request(json_band(rows[0]), key_id=other))
    for upload in (json_band(rows[0]), crystal()):
        asked = request(upload, max_hop_angstrom=3.5, key_id=key)
        first, again = await service.predict(asked), await service.predict(asked)
        assert again.cached
        for answer in (again, first):
            await service.delete(answer.prediction_id, key)
            after = await service.predict(asked)
            assert not after.cached, "the cache still holds it"
            await service.delete(after.prediction_id, key)
    assert (await service.predict(request(json_band(rows[0]), key_id=other))).cached


async def test_without_a_stored_input_the_row_alone_is_deleted(
    service: PredictionService, rows: list[dict[str, Any]], key: str
) -> None:
    forgetful = service.settings.model_copy(update={"store_inputs": False})
    unstored = replace(service, pipeline=replace(service.pipeline, settings=forgetful))
    asked = request(json_band(rows[0]), key_id=key)
    answer = await unstored.predict(asked)
    assert (await unstored.get(answer.prediction_id, key))["input"] is None
    await unstored.delete(answer.prediction_id, key)
    with pytest.raises(NotFoundError):
        await unstored.get(answer.prediction_id, key)
    assert (await unstored.predict(asked)).cached, "what docs/configuration.md says of it does not hold"


async def test_the_input_is_given_back(settings: Settings, rows: list[dict[str, Any]]) -> None:
    """Before its row is written and after, for a job as for an answer, and never in a list."""
    patient = settings.model_copy(update={"log_batch_wait_ms": 60_000.0})
    async with open_service(patient) as service:
        answer = await service.predict(request(json_band(rows[0])))
        async with AsyncExitStack() as stack:
            await hold_turns(service, stack)
            number = await service.submit(request(crystal()))
            waiting: Any = await service.get(number, None)
        pending: Any = await service.get(answer.prediction_id, None)
        await service.records.writer.drain(DEADLINE_S)
        written: Any = await service.get(answer.prediction_id, None)
        page: Any = await service.list(None, ListQuery())
    assert pending["input"] == written["input"]
    assert pending["input"]["host_species"] == rows[0]["host_species"]
    assert waiting["status"] == "queued"
    assert len(waiting["input"]["sites"]) == 12
    assert page["predictions"]
    assert not any("input" in one for one in page["predictions"])


async def hold_turns(service: PredictionService, stack: AsyncExitStack) -> None:
    """Take every turn, so that jobs wait for theirs until the stack is left."""
    for _ in range(JOBS_AT_ONCE):
        job = Job(id=uuid4(), key_id=None, total=1, size_bytes=0)
        await stack.enter_async_context(service.jobs.turn(job))


async def test_a_job_that_the_log_has_no_room_for_is_refused(settings: Settings, rows: list[dict[str, Any]]) -> None:
    small = settings.model_copy(update={"log_queue_rows": 1, "log_batch_wait_ms": 60_000.0, "spool_dir": None})
    async with open_service(small) as service:
        await service.predict(request(json_band(rows[0])))
        with pytest.raises(NotReadyError) as refused:
            await service.submit(request(json_band(rows[1])))
        assert refused.value.kind == "log-queue-full"
        assert len(service.jobs) == 0
        assert figure(service, "ionpath_log_rows_dropped_total") == 1
        with pytest.raises(NotReadyError, match="IONPATH_LOG_QUEUE_ROWS"):  # answered, it would not be found again
            await service.predict(request(json_band(rows[1])))


async def test_concurrent_answers_are_those_given_one_by_one(
    service: PredictionService, rows: list[dict[str, Any]]
) -> None:
    off = service.settings.model_copy(update={"cache": "off"})
    uncached = replace(service, pipeline=replace(service.pipeline, settings=off))
    alone = [await uncached.predict(request(json_band(row))) for row in rows]
    together = await asyncio.gather(*(uncached.predict(request(json_band(row))) for row in rows * 8))
    assert not any(answer.cached for answer in together)
    expected = [barrier(answer) for answer in alone] * 8
    assert [barrier(answer) for answer in together] == pytest.approx(expected, abs=1e-4)


async def test_the_same_band_asked_at_once_is_computed_once(
    service: PredictionService, rows: list[dict[str, Any]], key: str
) -> None:
    before = figure(service, "ionpath_batch_size_sum")
    asked = request(json_band(rows[0]), key_id=key)
    answers = await asyncio.gather(*(service.predict(asked) for _ in range(16)))
    assert figure(service, "ionpath_batch_size_sum") == before + 1
    assert len({answer.prediction_id for answer in answers}) == 16
    assert len({barrier(answer) for answer in answers}) == 1


async def test_a_caller_who_leaves_does_not_take_the_shared_computation_away(
    service: PredictionService, rows: list[dict[str, Any]], key: str
) -> None:
    asked = request(json_band(rows[0]), key_id=key)
    tasks = [asyncio.create_task(service.predict(asked)) for _ in range(3)]

    async def computing() -> bool:
        return len(service.pipeline.batcher) > 0 or any(task.done() for task in tasks)

    await until(computing)
    tasks[0].cancel()
    assert barrier(await tasks[1]) == barrier(await tasks[2])


async def test_a_crystal_is_answered_hop_by_hop(service: PredictionService, key: str) -> None:
    asked = request(crystal(), max_hop_angstrom=3.5, include_close_hops=True, key_id=key)
    answer, again = await service.predict(asked), await service.predict(asked)
    found = await service.get(answer.prediction_id, key)
    assert answer.crystal is not None
    assert (answer.cached, again.cached) == (False, True)
    barriers = [hop.prediction.barrier_ev for hop in answer.crystal.hops if hop.prediction is not None]
    assert len(barriers) >= 2
    assert answer.formula == "Li8 O4"
    percolation = answer.crystal.percolation_ev
    assert barrier(answer) == percolation.one_d
    assert percolation.one_d in barriers
    hops: Any = found["hops"]
    assert [hop["barrier_ev"] for hop in hops if hop["barrier_ev"] is not None] == barriers
    assert found["percolation_ev"] == {
        "1d": percolation.one_d,
        "2d": percolation.two_d,
        "3d": percolation.three_d,
    }


async def test_a_crystal_without_a_percolating_hop_has_no_barrier(service: PredictionService) -> None:
    body = answer_to_json(await service.predict(request(crystal(), max_hop_angstrom=1.0)))
    assert body["barrier_ev"] is None
    assert body["good_conductor"] == {"verdict": None, "probability": None, "threshold_ev": 0.65}
    assert body["percolation_ev"] == {"1d": None, "2d": None, "3d": None}
    assert body["cached"] is False


async def test_more_hops_than_allowed_are_refused(service: PredictionService) -> None:
    with pytest.raises(InputError, match="IONPATH_MAX_HOPS"):
        await service.predict(request(crystal(), max_hops=service.settings.max_hops + 1))


async def test_a_job_is_shown_until_it_is_done(service: PredictionService, key: str) -> None:
    now = await service.predict(request(crystal()))
    number = await service.submit(request(crystal(), key_id=key))
    first = await service.get(number, key)
    assert first["status"] in {"queued", "running", "done"}
    with pytest.raises(NotFoundError):
        await service.get(number, key + "-other")
    done = await finished(service, number, key)
    assert (done["status"], done["progress"], done["barrier_ev"]) == ("done", 1.0, barrier(now))
    await listing(service, key, [str(number)])


async def test_a_job_takes_its_turn_in_pieces(
    service: PredictionService, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between them others have theirs, and of each the job's progress is shown."""
    pieces: list[tuple[int, Turn]] = []
    submit = Batcher.submit

    async def counted(batcher: Batcher, bands: Sequence[Any], predictor: Any, **named: Any) -> Any:
        pieces.append((len(bands), named["turn"]))
        return await submit(batcher, bands, predictor, **named)

    monkeypatch.setattr(Batcher, "submit", counted)
    now = await service.predict(request(crystal(), key_id=key))
    ((hops, turn),), pieces[:] = pieces, []
    monkeypatch.setattr("app.serving.pipeline.JOB_PIECE_BANDS", 1)
    done = await finished(service, await service.submit(request(crystal(), key_id=f"{key}-2")), f"{key}-2")
    assert (done["status"], done["progress"], done["barrier_ev"]) == ("done", 1.0, barrier(now))
    assert turn is Turn.HOP
    assert pieces == [(1, Turn.JOB)] * hops
    assert hops > 1


async def test_a_job_that_cannot_be_predicted_says_why(service: PredictionService) -> None:
    with pytest.raises(InputError) as refused:
        await service.predict(request(lonely_band()))
    failed = await finished(service, await service.submit(request(lonely_band())))
    assert failed["status"] == "failed"
    error: Any = failed["error"]
    assert error["kind"] == refused.value.kind
    with pytest.raises(InputError):
        await service.submit(request(JsonBandUpload(payload=b"{}")))


async def test_a_deleted_job_ends_and_leaves_nothing(
    service: PredictionService, rows: list[dict[str, Any]], key: str
) -> None:
    number = await service.submit(request(json_band(rows[0]), key_id=key))
    await service.delete(number, key)

    async def ended() -> bool:
        return len(service.jobs) == 0

    await until(ended)
    with pytest.raises(NotFoundError):
        await service.get(number, key)
    for status in ("queued", "running", "done", "failed"):
        await listing(service, key, [], status)


async def test_a_job_whose_process_was_killed_is_reported_as_failed(service: PredictionService, key: str) -> None:
    """By GET and by every list, whichever is asked first."""
    queued, running = (
        PredictionRow(
            id=uuid4(),
            created_at=datetime.now(UTC) - timedelta(minutes=minutes),
            key_id=key,
            status=status,
            kind="band",
            model_name="model-3",
            input_blob=pack_input({"ion": "Li"}),
        )
        for minutes, status in ((5, UNFINISHED[0]), (6, UNFINISHED[1]))
    )
    await service.records.log.insert_many([queued, running])
    found: Any = await service.get(running.id, key)
    assert (found["status"], found["error"]["kind"]) == ("failed", "interrupted")
    assert (await service.list(key, ListQuery(status="running")))["predictions"] == []
    failed: Any = await service.list(key, ListQuery(status="failed"))
    assert [one["prediction_id"] for one in failed["predictions"]] == [str(queued.id), str(running.id)]
    assert (await service.list(key, ListQuery(status="queued")))["predictions"] == []
    found = await service.get(queued.id, key)
    assert (found["status"], found["error"]["kind"], found["input"]) == ("failed", "interrupted", {"ion": "Li"})


async def test_a_list_of_what_runs_shows_no_job_of_a_process_that_was_killed(
    service: PredictionService, key: str
) -> None:
    row = PredictionRow(
        id=uuid4(),
        created_at=datetime.now(UTC) - timedelta(minutes=5),
        key_id=key,
        status="running",
        kind="band",
        model_name="model-3",
    )
    await service.records.log.insert_many([row])
    assert (await service.list(key, ListQuery(status="running")))["predictions"] == []
    stored = await service.records.log.get(row.id, key)
    assert stored is not None
    assert stored.status == "failed"


async def test_accepted_work_is_finished_and_logged_when_the_service_stops(
    settings: Settings, rows: list[dict[str, Any]]
) -> None:
    async with open_service(settings) as service:
        number = await service.submit(request(json_band(rows[0])))
    row = await logged(settings, number)
    assert row.status == "done"


async def test_a_job_that_cannot_be_finished_in_time_fails_in_the_log(
    settings: Settings, rows: list[dict[str, Any]]
) -> None:
    async with open_service(settings.model_copy(update={"drain_timeout_s": 0.0})) as service:
        number = await service.submit(request(json_band(rows[0])))
    row = await logged(settings, number)
    assert row.status == "failed"
    assert row.error is not None
    assert row.error["kind"] == "interrupted"


async def logged(settings: Settings, number: UUID) -> PredictionRow:
    log = open_log(settings)
    row = await log.get(number, None)
    await log.aclose()
    assert row is not None
    return row


async def test_a_request_of_which_nothing_gets_done_is_given_up(service: PredictionService) -> None:
    hasty = replace(service, settings=service.settings.model_copy(update={"request_timeout_s": 0.0001}))
    with pytest.raises(NotReadyError, match=r"for 0.0001 s \(IONPATH_REQUEST_TIMEOUT_S\)") as given_up:
        await hasty.predict(request(crystal()))
    assert given_up.value.kind == "took-too-long"
    assert nothing_waits(service)


async def test_the_time_limit_of_a_request_begins_anew_whenever_something_of_it_is_done(
    service: PredictionService, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crystal takes as long as its hops do together: once it is read, and at each hop, the whole limit is left."""
    left_s: list[float] = []
    extend = predictions._extend

    def extended(limit: asyncio.Timeout, patience_s: float) -> None:
        limit.reschedule(0.0 if limit.expired() else asyncio.get_running_loop().time() + 5.0)  # as if some had passed
        extend(limit, patience_s)
        left_s.append((limit.when() or 0.0) - asyncio.get_running_loop().time())

    monkeypatch.setattr(predictions, "_extend", extended)
    answer = await service.predict(request(crystal(), key_id=key))
    assert answer.crystal is not None
    hops = sum(hop.prediction is not None for hop in answer.crystal.hops)
    assert hops > 1
    assert left_s == pytest.approx([service.settings.request_timeout_s] * (2 + hops), abs=1.0)


async def test_waiting_behind_other_crystals_is_not_counted_against_the_time_limit(service: PredictionService) -> None:
    hasty = replace(service, settings=service.settings.model_copy(update={"request_timeout_s": 0.0001}))
    with service.pipeline.crystal_turns.hops(MOST_HOPS_AHEAD):
        waiting = asyncio.create_task(hasty.predict(request(crystal())))
        _, pending = await asyncio.wait([waiting], timeout=0.2)
        assert pending
    with pytest.raises(NotReadyError, match="IONPATH_REQUEST_TIMEOUT_S"):  # counted from its turn
        await waiting
    assert nothing_waits(service)


def nothing_waits(service: PredictionService) -> bool:
    admission = service.admission
    counted = (admission.requests, admission.size_bytes, len(service.pipeline.batcher))
    return counted == (0, 0, 0) and max(map(admission.wait_s, Lane)) < 1e-9


def small_crystal(number: int) -> CrystalUpload:
    """One of many that are alike and not the same."""
    poscar = LI2O.replace("4.62", f"{4.4 + number / 50:.3f}")
    return CrystalUpload(file=File(name="POSCAR", content=poscar.encode()), ion="Li")


async def test_forty_crystals_at_once_are_all_answered(service: PredictionService, key: str) -> None:
    asked = [request(small_crystal(number), max_hop_angstrom=3.5, max_hops=2, key_id=key) for number in range(40)]
    answers = await asyncio.gather(*map(service.predict, asked))
    assert all(answer.crystal is not None and not answer.cached for answer in answers)
    assert len({answer.prediction_id for answer in answers}) == 40
    assert nothing_waits(service)


async def test_past_the_bound_a_request_is_refused_and_below_it_answered(
    service: PredictionService, rows: list[dict[str, Any]], key: str
) -> None:
    asked = request(json_band(rows[3]), key_id=key)
    with service.admission.admit("made up", size_bytes=0, lane=Lane.BAND) as other:
        other.expect(Lane.BAND, 1e6)
        with pytest.raises(BusyError, match="IONPATH_QUEUE_MAX_WAIT_S") as busy:
            await service.predict(asked)
        assert busy.value.retry_after_s > 1e3
        other.expect(Lane.BAND, 0.0)
        other.expect(Lane.SECOND_OPINION, 1e6)
        assert barrier(await service.predict(asked)) > 0.0
        with pytest.raises(BusyError):
            await service.predict(request(crystal(), key_id=key, second_opinion="bvse"))
    assert nothing_waits(service)


async def test_a_band_is_not_refused_for_crystals_that_it_does_not_wait_behind(
    service: PredictionService, rows: list[dict[str, Any]], key: str
) -> None:
    with service.admission.admit("made up", size_bytes=0) as other:
        other.expect(Lane.MAIN, 1e6)
        assert barrier(await service.predict(request(json_band(rows[3]), key_id=key))) > 0.0
        with pytest.raises(BusyError):
            await service.predict(request(crystal(), key_id=key))


async def test_a_slow_model_is_bounded_apart_from_the_others(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    """By what its card says that a band takes; it answers with threads of its own."""
    write_untrained(tmp_path / "store")
    write_untrained(tmp_path / "store", "patient", seconds_per_band=3.0)
    settings = settings_of(tmp_path / "store", tmp_path).model_copy(update={"queue_min_requests": 0})
    async with open_service(settings) as service:
        patient, usual = (request(json_band(rows[0]), model=model) for model in ("patient", None))
        for full, refused, answered in ((Lane.SLOW_MODEL, patient, usual), (Lane.BAND, usual, patient)):
            with service.admission.admit("made up", size_bytes=0) as other:
                other.expect(full, 1e6)
                with pytest.raises(BusyError):
                    await service.predict(refused)
                assert barrier(await service.predict(answered)) > 0.0
        assert nothing_waits(service)


async def test_what_was_admitted_is_answered_whatever_comes_after_it(
    service: PredictionService, rows: list[dict[str, Any]], key: str
) -> None:
    with (
        service.admit(None, kind="json", size_bytes=0) as work,
        service.admission.admit("made up", size_bytes=2**40) as other,
    ):
        other.expect(Lane.BAND, 1e6)
        answer = await service.predict(request(json_band(rows[4]), key_id=key, work=work))
    assert barrier(answer) > 0.0
    assert work.closed
    assert work.spent_s > 0.0
    assert nothing_waits(service)


async def test_work_of_requests_that_failed_or_whose_clients_left_is_given_back(
    service: PredictionService, key: str
) -> None:
    for refused in (lonely_band(), JsonBandUpload(payload=b"{}")):
        with pytest.raises(InputError):
            await service.predict(request(refused, key_id=key))
    assert nothing_waits(service)
    tasks = [
        asyncio.create_task(service.predict(request(small_crystal(100 + number), key_id=key))) for number in range(8)
    ]

    await until(lambda: service.admission.requests == 8, pause_s=0)  # a quick machine answers the first within a pause
    await until(lambda: len(service.pipeline.batcher), pause_s=0)
    assert service.admission.wait_s(Lane.MAIN) > 0.0
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)

    async def none_waits() -> bool:
        return nothing_waits(service)

    await until(none_waits)


async def test_what_requests_and_bands_take_is_learned(
    service: PredictionService, rows: list[dict[str, Any]], key: str
) -> None:
    before = service.admission.band_s("default", None)
    for row in rows:
        await service.predict(request(json_band(row), key_id=f"{key}-learns"))
    assert service.admission.band_s("default", None) != before
    assert service.admission._requests["band default"].count >= PRIOR_WEIGHT + len(rows)


async def test_a_job_counts_no_more_once_it_was_accepted(
    service: PredictionService, rows: list[dict[str, Any]], key: str
) -> None:
    """Thousands of submitted jobs must not have the callers who wait turned away."""
    async with AsyncExitStack() as stack:
        await hold_turns(service, stack)
        with service.admit(None, kind="json", size_bytes=7) as work:
            number = await service.submit(request(json_band(rows[0]), key_id=key, work=work))
        assert nothing_waits(service)
    assert (await finished(service, number, key))["status"] == "done"


async def test_an_answer_is_written_once_for_the_reply_and_the_log(
    settings: Settings, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    async with open_service(settings) as service:
        replies = [await service.reply(request(upload)) for upload in (json_band(rows[0]), crystal())]
        for reply in replies:
            found = await service.get(UUID(str(reply["prediction_id"])), None)
            assert found == {**found, **reply}, "before its row is written"
        await service.records.writer.drain(DEADLINE_S)
    with contextlib.closing(sqlite3.connect(tmp_path / "log.sqlite3")) as database:
        logged = {text.encode() for (text,) in database.execute("SELECT answer FROM predictions")}
    assert logged == {reply.text for reply in replies}


async def test_an_unknown_model_is_reported_before_anything_is_read(service: PredictionService) -> None:
    with pytest.raises(NotFoundError, match="model-9"):
        await service.predict(request(JsonBandUpload(payload=b""), model="model-9"))


@asynccontextmanager
async def two_replicas(settings: Settings, postgres_url: str, redis_url: str) -> AsyncIterator[list[PredictionService]]:
    both = settings.model_validate(
        {
            **settings.model_dump(),
            "database_url": postgres_url,
            "redis_url": redis_url,
            "log_batch_wait_ms": 5_000.0,
            "redis_timeout_ms": GENEROUS_MS,
        }
    )
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_service(both)) for _ in range(2)]


async def test_replicas_share_answers_and_find_each_others_at_once(
    settings: Settings, rows: list[dict[str, Any]], postgres_url: str, redis_url: str
) -> None:
    me = f"key-{uuid4()}"
    async with two_replicas(settings, postgres_url, redis_url) as (one, two):
        first = await one.predict(request(json_band(rows[0]), key_id=me))
        second = await two.predict(request(json_band(rows[0]), key_id=me))
        assert second.cached
        assert (await two.get(first.prediction_id, me))["barrier_ev"] == barrier(first)
        with pytest.raises(NotFoundError):
            await two.get(first.prediction_id, "another")
        await two.delete(first.prediction_id, me)
        for service in (one, two):
            with pytest.raises(NotFoundError):
                await service.get(first.prediction_id, me)
        number = await one.submit(request(json_band(rows[1]), key_id=me))
        assert (await finished(two, number, me))["status"] == "done"
        for service in (one, two):
            await service.records.writer.drain(DEADLINE_S)
        await listing(two, me, [str(number), str(second.prediction_id)])


async def test_a_job_that_another_replica_deleted_stays_deleted(
    settings: Settings, rows: list[dict[str, Any]], postgres_url: str, redis_url: str
) -> None:
    me = f"key-{uuid4()}"
    async with two_replicas(settings, postgres_url, redis_url) as (one, two):
        async with AsyncExitStack() as stack:
            await hold_turns(one, stack)
            number = await one.submit(request(json_band(rows[1]), key_id=me))
            assert (await two.get(number, me))["input"] is not None
            await two.delete(number, me)

        async def ended() -> bool:
            return len(one.jobs) == 0

        await until(ended)
        for service in (one, two):
            with pytest.raises(NotFoundError):
                await service.get(number, me)
            await service.records.writer.drain(DEADLINE_S)
        for status in ("queued", "running", "done", "failed"):
            await listing(two, me, [], status)
        assert figure(one, "ionpath_batch_size_sum") == 0, "it was computed all the same"


async def test_while_the_cache_is_away_nothing_is_deleted_by_halves(
    settings: Settings, rows: list[dict[str, Any]], own_redis: Any
) -> None:
    shared = settings.model_validate({**settings.model_dump(), "redis_url": own_redis.url})
    async with open_service(shared) as service:
        answer = await service.predict(request(json_band(rows[0])))
        await service.records.writer.drain(DEADLINE_S)
        own_redis.stop()
        with pytest.raises(NotReadyError) as refused:
            await service.delete(answer.prediction_id, None)
        assert refused.value.kind == "cache-away"
        assert (await service.get(answer.prediction_id, None))["status"] == "done"


async def test_readiness_asks_every_store(
    settings: Settings,
    rows: list[dict[str, Any]],
    new_postgres_database: Callable[[], str],
    postgres_outage: Callable[[str], contextlib.AbstractContextManager[None]],
    own_redis: Any,
) -> None:
    url = new_postgres_database()
    stores = {"database_url": url, "redis_url": own_redis.url, "redis_timeout_ms": GENEROUS_MS}
    both = settings.model_validate({**settings.model_dump(), **stores})
    async with open_service(both) as service:
        assert all(check.ok for check in (await service.ready()).values())
        with postgres_outage(url):
            checks = await service.ready()
            assert not checks["database"].ok
            answer = await service.predict(request(json_band(rows[0])))
            assert barrier(answer) > 0.0, "without its log the service answers all the same"
        own_redis.stop()
        checks = await service.ready()
        assert not checks["cache"].ok
        assert not checks["cache"].required
        assert barrier(await service.predict(request(json_band(rows[0])))) == pytest.approx(barrier(answer))
