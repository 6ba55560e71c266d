"""Places in a full queue that are promised to those who come back."""

from app.serving.promises import FARTHEST_S, KEPT_S, MOST_OF_ONE_S, Promises, Ticket

SPEED = 100.0


def ticket(digest: str, caller: str = "alice") -> Ticket:
    return Ticket(caller=caller, digest=digest.encode())


def promised(
    promises: Promises, one: Ticket | None, *, now_s: float, excess: int = 0, cost: int = 100, cost_per_s: float = SPEED
) -> float:
    return promises.promise(one, cost, excess=excess, cost_per_s=cost_per_s, now_s=now_s)


def test_each_is_told_to_come_after_the_one_before() -> None:
    promises = Promises()
    assert [promised(promises, ticket(one), now_s=0.0, excess=50) for one in "abc"] == [0.5, 1.5, 2.5]


def test_nobody_is_promised_an_earlier_time_than_the_one_before_however_the_speed_rises() -> None:
    promises = Promises()
    assert promised(promises, ticket("a"), now_s=0.0, excess=5_000) == 50.0
    assert promised(promises, ticket("b"), now_s=0.0, excess=5_000, cost_per_s=1e6) == 50.0
    assert promises.due_cost(now_s=50.0) == 200


def test_one_who_comes_too_early_keeps_its_place() -> None:
    promises = Promises()
    promised(promises, ticket("a"), now_s=0.0, excess=100)
    assert promised(promises, ticket("a"), now_s=0.4, excess=900) == 0.6
    assert len(promises) == 1


def test_one_who_comes_too_late_does_not_wait_behind_itself() -> None:
    promises = Promises()
    promised(promises, ticket("a"), now_s=0.0)
    assert promised(promises, ticket("a"), now_s=1.0) == 0.0


def test_a_place_is_kept_for_a_while_and_then_forgotten() -> None:
    promises = Promises()
    promised(promises, ticket("a"), now_s=0.0, excess=100)
    due = [promises.is_due(ticket("a"), now_s=now_s) for now_s in (0.5, 1.0, 1.0 + KEPT_S, 1.1 + KEPT_S)]
    assert due == [False, True, True, False]
    assert promises.due_cost(now_s=1.0 + KEPT_S) == 100
    assert promises.due_cost(now_s=1.1 + KEPT_S) == 0
    assert not promises.any_left(now_s=1.1 + KEPT_S)


def test_one_who_was_let_in_has_no_place_any_more() -> None:
    promises = Promises()
    promised(promises, ticket("a"), now_s=0.0)
    promises.keep(ticket("a"))
    assert not promises.is_due(ticket("a"), now_s=0.0)
    assert promised(promises, ticket("b"), now_s=0.0) == 0.0


def test_no_place_is_kept_for_nobody_or_too_far_ahead() -> None:
    promises = Promises()
    assert promised(promises, None, now_s=0.0, excess=100) == 1.0
    far = int(FARTHEST_S * SPEED) + 1
    assert promised(promises, ticket("a"), now_s=0.0, excess=far) > FARTHEST_S
    assert len(promises) == 0


def test_one_caller_cannot_take_all_places() -> None:
    promises = Promises()
    for number in range(1_000):
        promised(promises, ticket(str(number)), now_s=0.0)
    assert len(promises) == MOST_OF_ONE_S
    assert promised(promises, ticket("a", "bob"), now_s=0.0) == MOST_OF_ONE_S
    assert promises.is_due(ticket("a", "bob"), now_s=MOST_OF_ONE_S)
    assert not promises.is_due(ticket("0", "bob"), now_s=0.0), "another's place"
