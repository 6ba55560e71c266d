"""Places in a full queue that are promised to those who come back."""

from app.serving.promises import FARTHEST_S, KEPT_S, Promises


def promised(promises: Promises, ticket: str | None, *, now_s: float, excess: int = 0) -> float:
    return promises.promise(ticket, 100, excess=excess, cost_per_s=100.0, now_s=now_s)


def test_each_is_told_to_come_after_the_one_before() -> None:
    promises = Promises()
    assert [promised(promises, ticket, now_s=0.0, excess=50) for ticket in "abc"] == [0.5, 1.5, 2.5]


def test_one_who_comes_too_early_keeps_its_place() -> None:
    promises = Promises()
    promised(promises, "a", now_s=0.0, excess=100)
    assert promised(promises, "a", now_s=0.4, excess=900) == 0.6
    assert len(promises) == 1


def test_a_place_is_kept_for_a_while_and_then_forgotten() -> None:
    promises = Promises()
    promised(promises, "a", now_s=0.0, excess=100)
    assert [promises.is_due("a", now_s=now_s) for now_s in (0.5, 1.0, 1.0 + KEPT_S, 1.1 + KEPT_S)] == [
        False,
        True,
        True,
        False,
    ]
    assert promises.due_cost(now_s=1.0 + KEPT_S) == 100
    assert promises.due_cost(now_s=1.1 + KEPT_S) == 0
    assert len(promises) == 0


def test_one_who_was_let_in_has_no_place_any_more() -> None:
    promises = Promises()
    promised(promises, "a", now_s=0.0)
    promises.keep("a")
    assert not promises.is_due("a", now_s=0.0)
    assert promised(promises, "b", now_s=0.0) == 0.0


def test_no_place_is_kept_for_nobody_or_too_far_ahead() -> None:
    promises = Promises()
    assert promised(promises, None, now_s=0.0, excess=100) == 1.0
    far = int(FARTHEST_S * 100.0) + 1
    assert promised(promises, "a", now_s=0.0, excess=far) > FARTHEST_S
    assert len(promises) == 0
