"""How far a long run is, where standard error is a file."""

import io
import sys
from typing import NoReturn

import pytest

from app.console.asking import Result
from app.console.outputs import JsonWriter
from app.console.predicting import done_so_far
from app.console.reporting import LINE_EVERY_S, Reporter
from app.console.sources import Input


def test_a_line_now_and_then_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", err)
    with Reporter(40, JsonWriter(out), clock=lambda: now_s) as report:
        report.finished(Result(label="a.cif", problem={"detail": "no crystal"}))
        report.progress(done=1, failed=1)
        assert err.getvalue() == ""
        now_s += LINE_EVERY_S
        report.progress(done=7, failed=1)
        report.progress(done=8, failed=1)
        now_s += LINE_EVERY_S
        report.progress(done=20, failed=1)
        now_s += LINE_EVERY_S
        report.progress(done=40, failed=1)
    assert err.getvalue() == "ionpath: 7 of 40 files done, 1 failed\nionpath: 20 of 40 files done, 1 failed\n"
    assert out.getvalue() == '{"file":"a.cif","problem":{"detail":"no crystal"}}\n'
    assert (report.written, report.failed) == (1, 1)


def test_a_run_that_is_interrupted_names_the_files_that_are_missing_before_the_last() -> None:
    """Those after the last that was written are left out: a reader of the output sees where it ends."""

    def never() -> NoReturn:
        raise AssertionError

    inputs = [Input(label=label, load=never) for label in ("a.cif", "b.cif", "c.cif", "d.cif")]
    with Reporter(len(inputs), JsonWriter(io.StringIO())) as report:
        assert done_so_far(report, inputs) == "0 of 4 files were done."
        report.finished(Result(label="a.cif", answer={}))
        assert done_so_far(report, inputs) == "1 of 4 files were done."
        report.finished(Result(label="c.cif", problem={"detail": "no crystal", "kind": "no-crystal"}))
    assert done_so_far(report, inputs) == (
        "2 of 4 files were done, 1 of them with a problem. Not among them, though later files are: b.cif."
    )
