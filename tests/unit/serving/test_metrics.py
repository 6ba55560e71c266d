"""The metrics: their names are a contract with dashboards, and no two services share them."""

import time

from app.serving.metrics import CACHE_RESULTS, STAGES, Metrics


def test_every_instrument_is_shown_from_the_start() -> None:
    text = Metrics().render().decode()
    names = ("queue_requests", "queue_items", "queue_bytes", "batch_cost_count", "batch_size_count", "jobs")
    for name in (*names, "log_backlog_rows"):
        assert f"ionpath_{name} 0.0" in text
    for stage in STAGES:
        assert f'ionpath_stage_seconds_count{{stage="{stage}"}} 0.0' in text
    for result in CACHE_RESULTS:
        assert f'ionpath_cache_lookups_total{{result="{result}"}} 0.0' in text


def test_memory_open_files_and_the_start_of_the_process_are_shown() -> None:
    samples = {sample.name: sample.value for family in Metrics().registry.collect() for sample in family.samples}
    assert samples["process_resident_memory_bytes"] > 1e6
    assert 0 < samples["process_open_fds"] < samples["process_max_fds"]
    assert samples["process_cpu_seconds_total"] > 0
    assert 0 < samples["process_start_time_seconds"] <= time.time() + 1


def test_what_is_counted_is_shown() -> None:
    metrics = Metrics()
    metrics.log_dropped.set_function(lambda: 4)
    metrics.log_failures.set_function(lambda: 2)
    metrics.failed("mixed-sites")
    metrics.predicted("model-3", cached=True, count=3)
    metrics.batch(cost=12_345, size=7, seconds=0.25)
    text = metrics.render().decode()
    assert "ionpath_log_rows_dropped_total 4.0" in text
    assert "ionpath_log_write_failures_total 2.0" in text
    assert 'ionpath_errors_total{kind="mixed-sites"} 1.0' in text
    assert 'ionpath_predictions_total{cached="true",model="model-3"} 3.0' in text
    assert "ionpath_batch_cost_sum 12345.0" in text
    assert "ionpath_batch_size_sum 7.0" in text
    assert 'ionpath_stage_seconds_sum{stage="forward"} 0.25' in text
    assert "mixed-sites" not in Metrics().render().decode()
