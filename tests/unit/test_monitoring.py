"""The dashboard and the alerts ask for what the service shows, and say what the documents say.

Expressions are taken apart by regular expressions here; that Prometheus reads them, and when each alert fires, is held
by `promtool test rules tests/alerts.yml`, which continuous integration runs.
"""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app.serving.metrics import CACHE_RESULTS, STAGES, Metrics
from app.settings import REPOSITORY

#: Shown and on no panel: on Linux it counts address space, most of which is never touched.
LEFT_OUT = {"process_virtual_memory_bytes", "ionpath_queue_bytes"}
#: What Prometheus itself adds to each scrape and makes of the rules.
OF_PROMETHEUS = {"up": {"job", "instance"}, "ALERTS": {"job", "instance", "alertname", "alertstate"}}
WORDS = {"and", "or", "unless", "offset", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "le"}
SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
GROUPED = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")


def _read(name: str) -> str:
    return (REPOSITORY / name).read_text("utf-8")


def _shown() -> dict[str, dict[str, set[str]]]:
    """Of each metric the names of its samples, as a scrape gets them, each with its labels."""
    metrics = Metrics()
    metrics.failed("internal")  # a counter with labels shows nothing before it has counted
    metrics.predicted("default", cached=True)
    shown: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        if family.name.endswith("_created"):
            continue  # when a counter began; no operator asks for it
        for sample in family.samples:
            shown.setdefault(family.name, {}).setdefault(sample.name, set()).update(sample.labels)
    return shown


def _samples() -> dict[str, set[str]]:
    of_targets = {name: {*labels, "job", "instance"} for family in _shown().values() for name, labels in family.items()}
    return of_targets | OF_PROMETHEUS


def _names(expression: str) -> set[str]:
    """The metrics that an expression asks for."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\boffset \w+", " ", GROUPED.sub(" ", bare))
    return {name for name in re.findall(r"(?<![\w.$])[a-zA-Z_:][\w:]*\b(?!\s*\()", bare) if name not in WORDS}


def _labels_of_result(expression: str) -> set[str]:
    """The labels that what an expression gives can have, for legends and annotations."""
    grouped = [label.strip() for labels in GROUPED.findall(expression) for label in labels.split(",")]
    if grouped or re.search(r"\b(?:sum|max|absent|histogram_quantile)\b", expression):
        return set(grouped) - {"le"}
    return set.intersection(*(_samples()[name] for name in _names(expression)))


def _dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(_read("deploy/grafana/ionpath.json"))
    return loaded


def _panels() -> list[dict[str, Any]]:
    return [panel for panel in _dashboard()["panels"] if panel["type"] != "row"]


def _alerts() -> list[dict[str, Any]]:
    loaded = yaml.safe_load(_read("deploy/prometheus/alerts.yml"))
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def _annotated() -> Iterator[dict[str, Any]]:
    return (entry for entry in _dashboard()["annotations"]["list"] if "expr" in entry)


def _expressions() -> list[tuple[str, str]]:
    every = [(f"panel {panel['title']}", target["expr"]) for panel in _panels() for target in panel["targets"]]
    every += [(f"annotation {entry['name']}", entry["expr"]) for entry in _annotated()]
    return every + [(f"alert {rule['alert']}", rule["expr"]) for rule in _alerts()]


def _kinds() -> set[str]:
    """The kinds that docs/http.md lists by status."""
    rows = re.findall(r"^\| \d{3}[^|]*\| (`[^|]+`) \|$", _read("docs/http.md"), flags=re.MULTILINE)
    return {kind for row in rows for kind in re.findall(r"`([a-z-]+)`", row)}


def _anchors(name: str) -> set[str]:
    """The anchors of a document's headings, as they are made of the words on the usual code hosts."""
    headings = re.findall(r"^#+ (.+)$", _read(name), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# What is asked for is shown


@pytest.mark.parametrize(("where", "expression"), _expressions(), ids=lambda text: text if " " in text else None)
def test_every_metric_and_label_of_an_expression_is_shown(where: str, expression: str) -> None:
    samples = _samples()
    names = _names(expression)
    assert names, where
    assert names <= samples.keys()
    for name, matchers in SELECTOR.findall(expression):
        labels = {label for label, _, _ in MATCHER.findall(matchers)}
        assert labels <= samples[name], f"{name} has no {labels - samples[name]}"
    grouped = {label.strip() for labels in GROUPED.findall(expression) for label in labels.split(",")}
    assert grouped <= {label for name in names for label in samples[name]}


@pytest.mark.parametrize(("where", "expression"), _expressions(), ids=lambda text: text if " " in text else None)
def test_every_kind_stage_and_result_of_an_expression_is_one(where: str, expression: str) -> None:
    known: dict[str, set[str]] = {"kind": _kinds(), "stage": set(STAGES), "result": set(CACHE_RESULTS)}
    for label, _, value in MATCHER.findall(expression):
        assert set(value.split("|")) <= known.get(label, set(value.split("|"))), (where, label)


@pytest.mark.parametrize(("where", "expression"), _expressions(), ids=lambda text: text if " " in text else None)
def test_brackets_close_and_counters_are_not_taken_for_gauges(where: str, expression: str) -> None:
    open_ones = []
    for character in re.sub(r'"[^"]*"', "", expression):
        if character in "([{":
            open_ones.append({"(": ")", "[": "]", "{": "}"}[character])
        elif character in ")]}":
            assert open_ones, where
            assert open_ones.pop() == character, where
    assert not open_ones, where
    for called, name in re.findall(r"\b(rate|increase|deriv|changes)\((\w+)", expression):
        counts = name.endswith(("_total", "_bucket", "_sum", "_count"))
        assert counts == (called in {"rate", "increase"}), f"{called}({name})"
    for quantile in re.findall(r"histogram_quantile\([^,]+, (.+?)\)\)", expression):
        assert "_bucket" in quantile
        assert re.search(r"\ble\b", quantile)


def test_every_metric_has_a_panel_or_is_left_out_on_purpose() -> None:
    asked = {name for panel in _panels() for target in panel["targets"] for name in _names(target["expr"])}
    missing = {family for family, samples in _shown().items() if not asked & samples.keys()}
    assert missing == LEFT_OUT


def test_every_metric_is_described_in_the_documents() -> None:
    text = _read("docs/operations.md")
    names = {min(samples, key=len) if len(samples) == 1 else family for family, samples in _shown().items()}
    assert not [name for name in names - LEFT_OUT if f"`{name}`" not in text]


# The dashboard


def test_the_dashboard_can_be_imported_anywhere() -> None:
    dashboard = _dashboard()
    assert dashboard["id"] is None
    assert "://" not in _read("deploy/grafana/ionpath.json"), "it names a host"
    assert dashboard["schemaVersion"] >= 36
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    used = set(re.findall(r"\$\{?(\w+)", _read("deploy/grafana/ionpath.json")))
    assert {name for name in used if not name.startswith("__")} == set(variables)
    for panel in _panels():
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)


def test_panels_have_a_place_each_and_say_what_to_do() -> None:
    panels = _dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert panels[0]["type"] == "row"
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"], (one, other)
    for panel in _panels():
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["targets"]


def test_legends_name_labels_that_the_result_has() -> None:
    for panel in _panels():
        for target in panel["targets"]:
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert named <= _labels_of_result(target["expr"]), panel["title"]
            assert 'job="$job",instance=~"$instance"' in target["expr"], panel["title"]


def test_an_alert_and_its_panel_have_the_same_threshold() -> None:
    steps: dict[str, set[float]] = {}
    for panel in _panels():
        for target in panel["targets"]:
            plain = re.sub(r'job="\$job",instance=~"\$instance",?', "", target["expr"])
            plain = re.sub(r"\[[^\]]*\]", "[]", plain).replace("{}", "")
            values = {step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]}
            steps.setdefault(plain, set()).update(values)
    compared = set()
    for rule in _alerts():
        for part in re.split(r" (?:and|or|unless) ", rule["expr"]):
            plain = re.sub(r"\[[^\]]*\]", "[]", part.replace('job="ionpath"', "")).replace("{}", "")
            asked, _, threshold = plain.partition(" > ")
            if asked in steps and threshold != "0":
                assert float(threshold) in steps[asked], rule["alert"]
                compared.add(rule["alert"])
    assert compared == {
        "IonpathFewFiles",
        "IonpathQueueLong",
        "IonpathSlow",
        "IonpathSpoolHalfFull",
        "IonpathBacklogGrows",
    }


# The alerts


def test_every_alert_says_what_is_wrong_how_bad_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in _alerts()}) == len(_alerts())
    for rule in _alerts():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        annotations = rule["annotations"]
        assert annotations.keys() == {"summary", "description", "runbook"}, rule["alert"]
        named = set(re.findall(r"\$labels\.(\w+)", " ".join(annotations.values())))
        assert named <= _labels_of_result(rule["expr"]), rule["alert"]


def test_every_alerts_link_is_a_section_of_the_documents() -> None:
    for rule in _alerts():
        document, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert document == "docs/operations.md"
        assert anchor in _anchors(document), rule["alert"]


def test_the_documents_list_every_alert() -> None:
    listed = re.findall(r"^\| `(Ionpath\w+)` \| (\w+) \|", _read("docs/operations.md"), flags=re.MULTILINE)
    assert listed == [(rule["alert"], rule["labels"]["severity"]) for rule in _alerts()]


def test_settings_and_words_of_the_log_that_are_named_exist() -> None:
    named = " ".join([_read("deploy/prometheus/alerts.yml"), _read("deploy/grafana/ionpath.json")])
    settings = _read("docs/configuration.md")
    assert not [name for name in set(re.findall(r"IONPATH_\w+", named)) if f"`{name}`" not in settings]
    code = "".join(path.read_text("utf-8") for path in (REPOSITORY / "app" / "storage").rglob("*.py"))
    words = set(re.findall(r"\b(?:log|spool)_[a-z]+(?:_[a-z]+)*\b", re.sub(r"ionpath_\w+", "", named)))
    assert {"log_unavailable", "spool_refuses", "log_row_unwritable"} <= words
    assert not [word for word in words if f'"{word}"' not in code]


# Prometheus and Grafana beside the compose file


def test_prometheus_finds_the_replicas_by_the_name_and_the_port_that_they_have() -> None:
    config = yaml.safe_load(_read("deploy/prometheus/prometheus.yml"))
    compose = yaml.safe_load(_read("docker-compose.yml"))
    (scrape,) = config["scrape_configs"]
    (found,) = scrape["dns_sd_configs"]
    for name in ("api", "api-gpu"):
        replica = compose["services"][name]
        assert found["names"] == replica["networks"]["front"]["aliases"]
        assert found["port"] == int(replica["environment"]["IONPATH_METRICS_PORT"])
    jobs = {
        value for _, expression in _expressions() for label, _, value in MATCHER.findall(expression) if label == "job"
    }
    assert jobs == {scrape["job_name"], "$job"}
    assert [(REPOSITORY / "deploy" / "prometheus" / name).is_file() for name in config["rule_files"]] == [True]


def test_monitoring_opens_one_port_on_this_machine_alone() -> None:
    services = yaml.safe_load(_read("deploy/monitoring.yml"))["services"]
    assert {name: service.get("ports") for name, service in services.items()} == {
        "prometheus": None,
        "grafana": ["127.0.0.1:${GRAFANA_PORT:-3000}:3000"],
    }
    assert services["prometheus"]["networks"] == ["front", "monitoring"]
    assert services["grafana"]["networks"] == ["monitoring"], "it has no business with the replicas or the stores"
    for name, service in services.items():
        assert re.search(r":v?\d+\.\d+\.\d+\}$", service["image"]), f"{name}'s image is not pinned"
        assert service["read_only"] is True
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]


def test_grafana_is_given_its_data_source_and_the_dashboard() -> None:
    services = yaml.safe_load(_read("deploy/monitoring.yml"))["services"]
    mounts = dict(volume.rsplit(":", 2)[:2] for volume in services["grafana"]["volumes"] if volume.endswith(":ro"))
    mounts |= dict(volume.rsplit(":", 2)[:2] for volume in services["prometheus"]["volumes"] if volume.endswith(":ro"))
    assert all((REPOSITORY / source).exists() for source in mounts)
    (provider,) = yaml.safe_load(_read("deploy/grafana/provisioning/dashboards/ionpath.yml"))["providers"]
    assert f"{provider['options']['path']}/ionpath.json" == mounts["./deploy/grafana/ionpath.json"]
    (source,) = yaml.safe_load(_read("deploy/grafana/provisioning/datasources/ionpath.yml"))["datasources"]
    assert source["url"] == "http://prometheus:9090"
    scrape_s = yaml.safe_load(_read("deploy/prometheus/prometheus.yml"))["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrape_s
