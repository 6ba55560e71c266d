"""What cannot be exported, and why."""

import pytest

from app.errors import NotDoneError
from app.serving.history.exports import check_done


def test_a_prediction_that_still_runs_has_nothing_to_export() -> None:
    with pytest.raises(NotDoneError) as caught:
        check_done({"status": "running", "progress": 0.5})
    assert caught.value.kind == "not-done"
    assert "running (50%)" in caught.value.detail


def test_one_that_failed_says_of_what() -> None:
    with pytest.raises(NotDoneError) as caught:
        check_done({"status": "failed", "progress": 0.0, "error": {"detail": "The model fell over."}})
    assert caught.value.kind == "prediction-failed"
    assert "The model fell over." in caught.value.detail


def test_one_that_is_done_passes() -> None:
    check_done({"status": "done", "progress": 1.0})
