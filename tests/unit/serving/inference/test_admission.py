"""Admission control: what is turned away, with which Retry-After, and what its estimates learn; work is made up."""

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from app.errors import BusyError, NotReadyError
from app.serving.inference import admission as module
from app.serving.inference.admission import (
    FIRST_REQUEST_S,
    MOST_JOBS,
    PRIOR_WEIGHT,
    SMALL_BODY_BYTES,
    Admission,
    AdmittedWork,
)
from app.serving.lanes import Lane

KIND = "json small"
MIB = 2**20


@dataclass
class Clock:
    """Time that passes where a test says so."""

    now_s: float = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def admission(*, max_wait_s: float = 10.0, max_mib: int = 1, cores: int = 2, min_requests: int = 0) -> Admission:
    """One that expects a lane to do one second of work in a second."""
    return Admission(max_wait_s=max_wait_s, max_mib=max_mib, max_jobs_mib=1, cores=cores, min_requests=min_requests)


def admit(made: Admission, stack: ExitStack, seconds: float, *, lane: Lane = Lane.MAIN) -> AdmittedWork:
    """Admit a request that is known to need so many seconds."""
    work = stack.enter_context(made.admit(KIND, size_bytes=0, lane=lane))
    work.expect(lane, seconds)
    return work


def refused(made: Admission, *, lane: Lane = Lane.MAIN, size_bytes: int = 0, second_opinion: bool = False) -> BusyError:
    before = [(made.wait_s(one), made.size_bytes, made.requests) for one in Lane]
    with pytest.raises(BusyError) as busy:
        made.admit(KIND, size_bytes=size_bytes, lane=lane, second_opinion=second_opinion).__enter__()
    assert busy.value.kind == "busy"
    assert before == [(made.wait_s(one), made.size_bytes, made.requests) for one in Lane], "a refusal left something"
    return busy.value


def test_a_request_is_admitted_up_to_the_longest_wait_however_large_it_is_itself(stack: ExitStack) -> None:
    made = admission(max_wait_s=10.0)
    admit(made, stack, 9.9)
    admit(made, stack, 500.0)
    assert made.wait_s(Lane.MAIN) == pytest.approx(509.9)
    refused(made)


@pytest.mark.parametrize("lane", [Lane.BAND, Lane.MAIN])
def test_the_threads_of_one_pool_are_admitted_whatever_they_wait_and_one_more_is_refused(
    stack: ExitStack, lane: Lane
) -> None:
    made = admission(max_wait_s=10.0, min_requests=4)
    for _ in range(3):
        admit(made, stack, 25.0, lane=lane)
    with ExitStack() as last:
        admit(made, last, 25.0, lane=lane)
        refused(made, lane=lane)
    admit(made, stack, 25.0, lane=lane)
    refused(made, lane=lane)


def test_slow_models_and_second_opinions_have_no_number_that_is_always_admitted(stack: ExitStack) -> None:
    made = admission(max_wait_s=10.0, min_requests=4)
    admit(made, stack, 25.0, lane=Lane.SLOW_MODEL)
    refused(made, lane=Lane.SLOW_MODEL)
    admit(made, stack, 0.0).expect(Lane.SECOND_OPINION, 25.0)
    refused(made, second_opinion=True)


def test_bodies_that_arrive_are_bounded_by_themselves(stack: ExitStack) -> None:
    made = admission(max_mib=1)
    first, second, third = made.arrival(), made.arrival(), made.arrival()
    first.add(2 * MIB)  # one is always taken
    with pytest.raises(BusyError, match="IONPATH_QUEUE_MAX_MIB") as busy:
        second.add(SMALL_BODY_BYTES + 1)
    assert (busy.value.kind, busy.value.retry_after_s) == ("busy", 1.0)
    assert made.arriving_bytes == 2 * MIB
    stack.enter_context(made.admit(KIND, size_bytes=MIB))  # it takes no room of those that are whole
    first.end()
    second.add(MIB // 2)
    third.add(MIB // 2)
    with pytest.raises(BusyError):
        third.add(1)
    made.arrival().add(SMALL_BODY_BYTES)  # a small one is never turned away
    for one in (second, third, third):
        one.end()
    assert made.arriving_bytes == SMALL_BODY_BYTES


def test_of_bodies_that_arrive_at_once_the_first_is_taken_and_then_the_next() -> None:
    """The one that was turned away still holds what came of it, and is in nobody's way."""
    made = admission(max_mib=1)
    arrivals = [made.arrival() for _ in range(3)]
    for arrival in arrivals:
        arrival.add(MIB // 3)
    with pytest.raises(BusyError):
        arrivals[1].add(MIB)
    arrivals[0].add(MIB)
    arrivals[0].end()
    assert made.arriving_bytes == 2 * (MIB // 3)
    arrivals[2].add(MIB)
    for arrival in arrivals:
        arrival.end()
    assert made.arriving_bytes == 0


def test_who_is_turned_away_hears_when_the_wait_is_below_the_bound(stack: ExitStack) -> None:
    made = admission(max_wait_s=10.0)
    work = admit(made, stack, 25.0)
    busy = refused(made)
    assert busy.retry_after_s == pytest.approx(15.0)
    assert busy.detail == (
        "1 requests wait already, about 25 s of work; at most 10 s may wait (IONPATH_QUEUE_MAX_WAIT_S)."
    )
    work.did(Lane.MAIN, 15.0)
    assert refused(made).retry_after_s == 1.0, "it is just at the bound"
    work.did(Lane.MAIN, 0.1)
    admit(made, stack, 1.0)


def test_who_is_turned_away_hears_how_many_are_taken_in_any_case(stack: ExitStack) -> None:
    made = admission(max_wait_s=10.0, min_requests=1)
    admit(made, stack, 25.0)
    stack.enter_context(made.admit(KIND, size_bytes=0, lane=Lane.BAND))  # the first band, behind as many crystals
    assert "(IONPATH_QUEUE_MAX_WAIT_S), but for 1 crystals (IONPATH_QUEUE_MIN_REQUESTS)." in refused(made).detail


def test_a_faster_machine_has_room_for_more_work(stack: ExitStack) -> None:
    made = admission(max_wait_s=10.0, cores=8)
    admit(made, stack, 39.0)
    assert made.wait_s(Lane.MAIN) == pytest.approx(39.0 / 4)
    admit(made, stack, 21.0)
    assert refused(made).retry_after_s == pytest.approx(60.0 / 4 - 10.0)


def test_bytes_that_wait_are_bounded_and_one_request_is_always_taken(stack: ExitStack) -> None:
    made = admission(max_mib=1)
    with made.admit(KIND, size_bytes=5 * MIB):
        assert made.size_bytes == 5 * MIB
        busy = refused(made, size_bytes=1)
        assert "IONPATH_QUEUE_MAX_MIB" in busy.detail
        assert busy.retry_after_s >= 1.0
    stack.enter_context(made.admit(KIND, size_bytes=MIB // 2))
    stack.enter_context(made.admit(KIND, size_bytes=MIB // 2))
    refused(made, size_bytes=1)


def test_where_bytes_are_the_bound_the_wait_is_that_of_what_waits(stack: ExitStack) -> None:
    made = admission(max_mib=1)
    stack.enter_context(made.admit(KIND, size_bytes=MIB)).expect(Lane.MAIN, 7.0)
    assert refused(made, size_bytes=1).retry_after_s == pytest.approx(7.0)


def test_what_was_admitted_is_never_turned_away(stack: ExitStack) -> None:
    """Its estimate may grow past every bound once it is read: it goes on, and only those who come later wait."""
    made = admission(max_wait_s=1.0)
    work = admit(made, stack, 0.5)
    other = admit(made, stack, 0.4)
    work.expect(Lane.MAIN, 1_000.0)
    other.did(Lane.MAIN, 0.4)
    work.did(Lane.MAIN, 999.5)
    admit(made, stack, 0.1)


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_left_of_a_request_is_given_back_when_it_ends(fails: bool) -> None:
    made = admission()
    with contextlib.suppress(ValueError), made.admit(KIND, size_bytes=7, second_opinion=True) as work:
        work.did(Lane.MAIN, 0.01)
        work.expect(Lane.MAIN, 3.0)
        work.expect(Lane.SECOND_OPINION, 2.0)
        assert (made.requests, made.size_bytes) == (1, 7)
        assert made.wait_s(Lane.SECOND_OPINION) == pytest.approx(2.0)
        if fails:
            raise ValueError
    assert work.closed
    assert (made.requests, made.size_bytes) == (0, 0)
    assert [made.wait_s(lane) for lane in Lane] == pytest.approx([0.0] * len(Lane))


def test_work_of_a_request_that_ended_counts_no_more() -> None:
    """A forward pass may end after its client left."""
    made = admission()
    with made.admit(KIND, size_bytes=0) as work:
        pass
    work.expect(Lane.MAIN, 100.0)
    work.did(Lane.MAIN, 5.0)
    assert made.wait_s(Lane.MAIN) == 0.0


def test_more_work_than_was_expected_never_counts_below_nothing() -> None:
    made = admission()
    with made.admit(KIND, size_bytes=0) as work:
        for _ in range(5):
            work.did(Lane.MAIN, 100.0)
        assert made.wait_s(Lane.MAIN) == 0.0
    assert made.wait_s(Lane.MAIN) == 0.0


def took(made: Admission, seconds: float, kind: str = KIND) -> None:
    with made.admit(kind, size_bytes=0) as work:
        work.measure(seconds)


def expected(made: Admission) -> float:
    """What is expected of a request, asked without teaching anything."""
    with made.admit(KIND, size_bytes=0):
        return made.usual_s(KIND)


def test_what_a_kind_of_request_takes_is_learned_from_those_that_were_answered() -> None:
    made = admission()
    assert expected(made) == FIRST_REQUEST_S
    took(made, 1.0)
    assert expected(made) == pytest.approx(FIRST_REQUEST_S + 0.9 / (PRIOR_WEIGHT + 1))
    for _ in range(300):
        took(made, 1.0)
    assert expected(made) == pytest.approx(1.0, abs=0.01)
    for _ in range(300):  # it follows a change of what is sent
        took(made, 0.2)
    assert expected(made) == pytest.approx(0.2, abs=0.01)


def test_requests_that_wait_count_for_more_once_their_kind_turns_out_to_be_slow(stack: ExitStack) -> None:
    made = admission()
    for _ in range(10):
        stack.enter_context(made.admit(KIND, size_bytes=0))
    before_s = made.wait_s(Lane.MAIN)
    with made.admit(KIND, size_bytes=0) as work:
        work.did(Lane.MAIN, 1.0)
        work.measure(8.0)
        slower_s = made.wait_s(Lane.MAIN) - work.left_s[Lane.MAIN]
    assert slower_s == pytest.approx(before_s * (FIRST_REQUEST_S + 8.9 / (PRIOR_WEIGHT + 1)) / FIRST_REQUEST_S)
    assert made.wait_s(Lane.MAIN) == pytest.approx(slower_s), "the answer itself is not counted once more"


def test_one_kind_teaches_nothing_of_another() -> None:
    made = admission()
    for _ in range(100):
        took(made, 2.0, "form small")
    assert expected(made) == FIRST_REQUEST_S


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_cache_answered_or_failed_early_teaches_nothing(fails: bool) -> None:
    made = admission()
    for _ in range(300):
        with contextlib.suppress(ValueError), made.admit(KIND, size_bytes=0) as work:
            work.did(Lane.MAIN, 0.001)
            if fails:
                raise ValueError
    assert expected(made) == FIRST_REQUEST_S


def test_a_request_that_failed_late_took_at_least_what_it_took() -> None:
    made = admission()
    with contextlib.suppress(ValueError), made.admit(KIND, size_bytes=0) as work:
        work.did(Lane.MAIN, 20.0)
        raise ValueError
    assert expected(made) > 2.0


def test_a_kind_starts_where_it_is_said_to() -> None:
    made = admission()
    with made.admit("json small", size_bytes=0, first_s=3.0):
        assert made.usual_s("json small") == 3.0


def test_a_band_is_expected_to_take_what_its_card_says_until_it_was_measured() -> None:
    made = admission()
    assert made.band_s("small", 3.0) == 3.0
    assert made.band_s("other", None) == module.FIRST_BAND_S
    for _ in range(300):
        made.measured_band("small", 0.5)
    assert made.band_s("small", 3.0) == pytest.approx(0.5, abs=0.01)
    assert made.band_s("other", None) == module.FIRST_BAND_S


def test_a_second_opinion_is_bounded_by_itself(stack: ExitStack) -> None:
    made = admission(max_wait_s=10.0)
    work = stack.enter_context(made.admit(KIND, size_bytes=0, second_opinion=True))
    work.expect(Lane.SECOND_OPINION, 30.0)
    busy = refused(made, second_opinion=True)
    assert busy.retry_after_s == pytest.approx(20.0)
    stack.enter_context(made.admit(KIND, size_bytes=0))  # others have nothing to do with it
    work.did(Lane.SECOND_OPINION, 4.0)
    assert work.spent_s == 0.0, "it says nothing of the requests that ask for none"
    assert work.left_s[Lane.SECOND_OPINION] == pytest.approx(26.0)


def test_second_opinions_are_expected_to_take_what_they_took(stack: ExitStack) -> None:
    made = admission()
    for _ in range(300):
        with made.admit(KIND, size_bytes=0, second_opinion=True) as work:
            work.did(Lane.SECOND_OPINION, 3.0)
    work = stack.enter_context(made.admit(KIND, size_bytes=0, second_opinion=True))
    assert work.left_s[Lane.SECOND_OPINION] == pytest.approx(3.0, abs=0.05)


@pytest.mark.parametrize(("full", "free"), [(Lane.SLOW_MODEL, Lane.MAIN), (Lane.MAIN, Lane.SLOW_MODEL)])
def test_a_slow_model_and_the_others_are_bounded_apart(full: Lane, free: Lane, stack: ExitStack) -> None:
    made = admission(max_wait_s=10.0)
    admit(made, stack, 60.0, lane=full)
    assert refused(made, lane=full).retry_after_s == pytest.approx(50.0)
    admit(made, stack, 1.0, lane=free)


def test_the_speed_of_a_lane_that_never_runs_out_of_work_is_learned(clock: Clock, stack: ExitStack) -> None:
    made = admission(cores=2)
    work = admit(made, stack, 1_000.0)
    for _ in range(200):
        clock.now_s += 0.1
        work.did(Lane.MAIN, 0.3)  # three seconds of work in a second of time
    assert made.wait_s(Lane.MAIN) == pytest.approx(work.left_s[Lane.MAIN] / 3.0, rel=0.05)


def test_a_lane_that_had_the_cores_for_itself_is_bounded_by_its_share_once_the_other_fills(stack: ExitStack) -> None:
    """Bands and crystals take turns, so each second of one is behind at most a second of the other."""
    made = admission()
    admit(made, stack, 6.0, lane=Lane.BAND)
    assert (made.wait_s(Lane.BAND), made.wait_s(Lane.MAIN)) == (6.0, 0.0)
    crystal = admit(made, stack, 2.0)
    assert (made.wait_s(Lane.BAND), made.wait_s(Lane.MAIN)) == (8.0, 4.0)
    crystal.expect(Lane.MAIN, 50.0)
    assert (made.wait_s(Lane.BAND), made.wait_s(Lane.MAIN)) == (12.0, 56.0)
    refused(made, lane=Lane.BAND)
    assert made.wait_s(Lane.SECOND_OPINION) == made.wait_s(Lane.SLOW_MODEL) == 0.0


def test_how_long_a_request_waited_is_from_its_admission_to_the_first_of_its_work(stack: ExitStack) -> None:
    work = stack.enter_context(admission().admit(KIND, size_bytes=0))
    work.begin(None)
    assert work.waited_s == 0.0
    work.begin(work.admitted_s + 3.0)
    work.begin(work.admitted_s + 9.0)
    assert work.waited_s == pytest.approx(3.0)


def test_the_speed_of_a_lane_with_little_to_do_is_not_learned(clock: Clock) -> None:
    made = admission(cores=2)
    for _ in range(100):
        clock.now_s += 1.0  # mostly it waits for requests
        took(made, 0.01)
    with made.admit(KIND, size_bytes=0) as work:
        work.expect(Lane.MAIN, 5.0)
        assert made.wait_s(Lane.MAIN) == pytest.approx(5.0)


def test_a_lane_that_hardly_moves_still_has_a_wait(clock: Clock, stack: ExitStack) -> None:
    made = admission(cores=2)
    work = admit(made, stack, 10.0)
    for _ in range(100):
        clock.now_s += 10.0
        work.did(Lane.MAIN, 1e-9)
    assert made.wait_s(Lane.MAIN) == pytest.approx(10.0 / module.LEAST_SPEED, rel=0.01)


def test_once_stopped_nothing_is_admitted() -> None:
    made = admission()
    made.stop()
    with pytest.raises(NotReadyError, match="stopping"), made.admit(KIND, size_bytes=0):
        pass


def test_jobs_are_bounded_by_the_bytes_of_their_inputs_and_by_number() -> None:
    made = admission()
    made.check_job(jobs=0, held_bytes=0, size_bytes=5 * MIB)  # one is always taken
    made.check_job(jobs=1, held_bytes=MIB // 2, size_bytes=MIB // 2)
    with pytest.raises(BusyError, match="IONPATH_JOBS_MIB allows 1") as busy:
        made.check_job(jobs=1, held_bytes=MIB // 2, size_bytes=MIB // 2 + 1)
    assert (busy.value.kind, busy.value.retry_after_s) == ("jobs-busy", module.JOB_RETRY_AFTER_S)
    made.check_job(jobs=MOST_JOBS - 1, held_bytes=0)
    with pytest.raises(BusyError):
        made.check_job(jobs=MOST_JOBS, held_bytes=0)
