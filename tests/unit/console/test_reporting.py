"""How far a long run is, where standard error is a file."""

import io
import sys

import pytest

from app.console.asking import Result
from app.console.outputs import JsonWriter
from app.console.reporting import LINE_EVERY_S, Reporter


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
