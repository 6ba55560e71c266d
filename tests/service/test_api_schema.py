"""The whole OpenAPI document, tried by schemathesis: no server error, and every reply as the document says."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import schemathesis
from api_server import Service, running_service
from conductors import write_small
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from selection import NIGHTLY_OPTION, THIRD_OPTION
from untrained import write_untrained

#: Made-up calls to each operation in `make nightly`; in `make test` a third, others with each `--third`.
EXAMPLES = 80
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that starts and answers quickly."""
    folder = tmp_path_factory.mktemp("small")
    write_untrained(folder / "store")
    write_small(folder / "store")
    with running_service(folder, model_store=folder / "store", torch_threads=1) as service:
        yield service


def test_every_reply_is_what_the_document_says(small: Service, pytestconfig: pytest.Config) -> None:
    # Not by schemathesis' pytest plugin, which does not know pytest 9.2: its cases are a strategy of hypothesis.
    document = schemathesis.openapi.from_url(f"{small.url}/openapi.json")
    tried, failures = Counter[str](), list[str]()
    whole, third = pytestconfig.getoption(NIGHTLY_OPTION), pytestconfig.getoption(THIRD_OPTION)
    for found in document.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()

        @seed(third)
        @settings(
            max_examples=EXAMPLES if whole else EXAMPLES // 3,
            deadline=None,
            derandomize=whole,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy(operation))
        def call(case: Any) -> None:
            case.call_and_validate(checks=list(CHECKS), timeout=60.0)
            tried[f"{case.method} {case.path}"] += 1

        try:
            call()
        except BaseExceptionGroup as group:
            failures += [f"{operation.label}: {failure}" for failure in group.exceptions]
    assert failures == []
    assert len(tried) >= 8, tried
    assert small.client.get("/health/live").status_code == 200
    assert "Traceback" not in small.log


def test_whole_answers_are_what_the_document_says(small: Service, examples: Path) -> None:
    """Made-up data is refused nearly always: here are real ones."""
    document = schemathesis.openapi.from_url(f"{small.url}/openapi.json")
    band = orjson.loads((examples / "LiFePO4_band.json").read_bytes())
    for path in ("/predict/barrier", "/classify/good-conductor"):
        case = document[path]["POST"].Case(body=band, media_type="application/json")
        case.call_and_validate(checks=list(CHECKS), timeout=60.0)
    files = {"structure": ("LiCoO2.cif", (examples / "LiCoO2.cif").read_bytes())}
    crystal = small.client.post("/predict/barrier", files=files, data={"ion": "Li"}).json()
    conductor = small.client.post("/predict/conductivity", files=files).json()
    later = small.client.post("/predict/barrier", json=band, headers={"Prefer": "respond-async"}).json()
    by_id = document["/predictions/{prediction_id}"]["GET"]
    for answer in (crystal, conductor, later):
        assert small.client.get(f"/predictions/{answer['prediction_id']}").status_code == 200
        case = by_id.Case(path_parameters={"prediction_id": answer["prediction_id"]})
        case.call_and_validate(checks=list(CHECKS), timeout=60.0)
    small.wait_for("/predictions", lambda page: len(page["predictions"]) >= 5)
    for path in ("/predictions", "/models", "/health/ready", "/metrics"):
        document[path]["GET"].Case().call_and_validate(checks=list(CHECKS), timeout=60.0)


def strategy(operation: Any) -> st.SearchStrategy[schemathesis.Case[Any]]:
    """Calls that keep to the document and calls that do not."""
    return st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode))
