"""What is wrong with a request is answered as a problem: what, where, and what would be right; never a 500."""

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_server import Service

from app.api.schemas import Problem
from app.crystals.limits import Limits

PATH = "/predict/barrier"


def band(examples: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((examples / "LiFePO4_band.json").read_bytes())
    return content


def problem_of(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json", response.text
    body: dict[str, Any] = response.json()
    assert body["status"] == response.status_code
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["type"] == f"urn:ionpath:problem:{body['kind']}"
    Problem.model_validate_json(response.content, strict=True, extra="forbid")
    assert body["detail"]
    assert body["title"]
    return body


def post(service: Service, *, data: dict[str, str] | None = None, **files: tuple[str, bytes]) -> httpx.Response:
    return service.client.post(PATH, files=files, data=data)


MIXED_CIF = b"""data_mixed
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Li1 Li 0 0 0 1
Fe1 Fe 0.5 0.5 0.5 0.5
Mn1 Mn 0.5 0.5 0.5 0.5
O1 O 0.5 0 0.5 1
"""


def test_ten_kinds_of_bad_input_each_get_their_own_problem(service: Service, examples: Path) -> None:
    good = band(examples)
    cif = (examples / "LiFePO4.cif").read_bytes()
    frames = (examples / "LiFePO4_band.extxyz").read_text()
    many = {**good, "host_species": ["O"] * 10_000, "host_frac_coords": [[i / 10_000, 0.5, 0.5] for i in range(10_000)]}
    overlapping = {**good, "host_frac_coords": [good["host_frac_coords"][1], *good["host_frac_coords"][1:]]}
    other_atoms = frames.replace("\nFe ", "\nMn ", 1).encode()

    def structure(content: bytes, ion: str | None = "Li") -> httpx.Response:
        return post(service, data={"ion": ion} if ion else None, structure=("a.cif", content))

    responses = {
        "not a crystal": structure(b"Dear Sir or Madam, please find enclosed the crystal."),
        "truncated CIF": structure(cif[: cif.index(b"_atom_site_type_symbol") + 60]),
        "no ion": structure(cif, ion=None),
        "no such element": structure(cif, ion="Xx"),
        "different atoms": post(service, band=("band.extxyz", other_atoms)),
        "one image": service.client.post(PATH, json={**good, "image_frac_coords": good["image_frac_coords"][:1]}),
        "atoms on top of each other": service.client.post(PATH, json=overlapping),
        "10,000 atoms": service.client.post(PATH, json=many),
        "50 MB": service.client.post(PATH, content=b" " * 50_000_000, headers={"Content-Type": "application/json"}),
        "mixed sites": post(service, initial=("a.cif", MIXED_CIF), final=("b.cif", MIXED_CIF)),
    }
    kinds = {}
    for name, response in responses.items():
        assert 400 <= response.status_code < 500, (name, response.text)
        kinds[name] = problem_of(response)["kind"]
    assert len(set(kinds.values())) == 10, kinds
    assert responses["50 MB"].status_code == responses["10,000 atoms"].status_code == 413
    assert "IONPATH_MAX_BODY_BYTES" in responses["50 MB"].json()["expected"]
    assert "Li" in responses["no ion"].text
    assert "Fe" in responses["mixed sites"].json()["detail"]


def test_an_ion_without_a_site_in_the_file_is_refused(service: Service, examples: Path) -> None:
    cif = (examples / "LiFePO4.cif").read_bytes()
    response = post(service, data={"ion": "Rb"}, structure=("a.cif", cif))
    assert response.status_code == 422
    found = problem_of(response)
    assert found["kind"] == "no-site"
    assert "no Rb in this crystal and no interstitial site" in found["detail"]


def test_a_field_of_the_form_is_offered_only_where_the_route_takes_it(service: Service, examples: Path) -> None:
    form = {"structure": ("LiFePO4.cif", (examples / "LiFePO4.cif").read_bytes())}
    wanted = [
        (service.client.get("/predictions", params={"offset": "10"}), False),
        (service.client.get("/models", params={"ion": "Li"}), False),
        (service.client.post("/predict/properties", params={"ion": "Li"}, files=form), False),
        (service.client.post("/predict/properties", params={"cell": "4 4 4 90 90 90"}, files=form), True),
        (service.client.post("/predict/conductivity", params={"offset": "1,0,0"}, files=form), False),
        (service.client.post("/predict/conductivity", params={"ion": "Li"}, files=form), True),
        (service.client.post("/classify/good-conductor", params={"ion": "Li"}, files=form), True),
        (service.client.post("/predict/barrier", params={"ion": "Li"}, files=form), True),
    ]
    for response, offered in wanted:
        assert response.status_code == 422
        found = problem_of(response)
        assert found["kind"] == "unknown-parameter"
        assert ("as a field of the form" in found["expected"]) == offered, response.url
        assert "The known query parameters are: " in found["expected"]


@pytest.mark.parametrize(
    ("query", "kind", "expected"),
    [
        ("thresold_ev=0.5", "unknown-parameter", "threshold_ev"),
        ("ion=Li", "unknown-parameter", "'ion' as a field of the form"),
        ("second_opinion=1", "invalid-parameter", "bvse"),
        ("threshold_ev=nan", "invalid-parameter", "finite"),
        ("threshold_ev=-1", "invalid-parameter", "greater than 0"),
        ("threshold_ev=much", "invalid-parameter", "number"),
        ("mechanism=teleport", "invalid-parameter", "vacancy"),
        ("max_hops=0", "invalid-parameter", "1"),
        ("max_hops=100000", "too-many-hops", "60"),
        ("model=model-9", "unknown-model", "default"),
    ],
)
def test_a_wrong_query_parameter_is_named(
    service: Service, examples: Path, query: str, kind: str, expected: str
) -> None:
    response = service.client.post(f"{PATH}?{query}", json=band(examples))
    found = problem_of(response)
    assert response.status_code in {404, 422}
    assert found["kind"] == kind
    assert expected in found["expected"]


def test_a_wrong_form_is_answered_with_the_right_ones(service: Service, examples: Path) -> None:
    file = ("LiFePO4.cif", (examples / "LiFePO4.cif").read_bytes())
    wrong = {
        "one-end-point": post(service, initial=file),
        "mixed-ways": post(service, band=file, structure=file),
        "unknown-field": post(service, crystal=file),
        "no-file": service.client.post(PATH, data={"ion": "Li"}, files={"structure": (None, "")}),
        "invalid-offset": post(service, data={"offset": "1,x,0"}, initial=file, final=file),
        "repeated-field": service.client.post(PATH, files=[("band", file), ("band", file)]),
    }
    for kind, response in wrong.items():
        assert response.status_code == 422
        assert problem_of(response)["kind"] == kind
    unknown = problem_of(post(service, data={"ion": "Li", "threshold_ev": "0.5"}, structure=file))
    assert unknown["kind"] == "unknown-field"
    assert "query" in unknown["expected"]
    beside_a_band = problem_of(post(service, data={"ion": "Li"}, band=file))
    assert (beside_a_band["kind"], beside_a_band["where"]) == ("unknown-field", "form field ion")


def test_fields_that_a_browser_s_form_left_empty_are_not_there(service: Service, examples: Path) -> None:
    files: dict[str, tuple[str | None, bytes]] = {
        "band": (None, b""),
        "initial": ("", b""),
        "structure": ("LiCoO2.cif", (examples / "LiCoO2.cif").read_bytes()),
    }
    response = service.client.post(PATH, files=files, data={"ion": "Li", "offset": " "})
    assert response.status_code == 200, response.text
    named = post(service, data={"ion": "Li"}, structure=("empty.cif", b""))
    assert problem_of(named)["kind"] == "empty-file"


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/x-www-form-urlencoded", 415),
        ("text/plain", 415),
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=x", 400),
        ("application/json", 400),
        ("application/json; charset=utf-8", 400),
    ],
)
def test_a_body_that_is_not_what_it_says_is_refused(service: Service, content_type: str, status: int) -> None:
    response = service.client.post(PATH, content=b"a=b", headers={"Content-Type": content_type})
    assert response.status_code == status
    assert problem_of(response)["kind"] != "internal"


@pytest.mark.parametrize(
    "charset", ["undefined", "unicode_escape", "raw_unicode_escape", "utf-7", "utf-16", "latin-1", '"idna"', "\xff", ""]
)
@pytest.mark.parametrize("content_type", ["multipart/form-data; boundary=x", "application/json"])
def test_text_in_another_charset_than_utf_8_is_refused(service: Service, content_type: str, charset: str) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="structure"; filename="\\ud800.cif"\r\n\r\ndata_\r\n'
        b'--x\r\nContent-Disposition: form-data; name="ion"\r\n\r\n\\udfff +2AA-\r\n--x--\r\n'
    )
    headers = {b"Content-Type": f"{content_type}; charset={charset}".encode("latin-1")}
    response = service.client.post(PATH, content=body, headers=headers)
    assert response.status_code == 415, response.text
    assert problem_of(response)["kind"] == "unsupported-charset"


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"'])
def test_utf_8_may_be_named(service: Service, examples: Path, charset: str) -> None:
    content = (examples / "LiFePO4_band.json").read_bytes()
    response = service.client.post(
        PATH, content=content, headers={"Content-Type": f"application/json;charset={charset}"}
    )
    assert response.status_code == 200, response.text
    body = b'--x\r\nContent-Disposition: form-data; name="band"; filename="b.json"\r\n\r\n' + content + b"\r\n--x--\r\n"
    form = {"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
    response = service.client.post(PATH, content=body, headers=form)
    assert response.status_code == 200, response.text


def test_a_file_s_name_is_quoted_by_its_end(service: Service) -> None:
    problem = problem_of(post(service, data={"ion": "Li"}, structure=("a" * 2_000 + ".cif", b"no crystal")))
    assert ".cif" in problem["detail"]
    assert len(problem["detail"]) < 500


def test_a_form_of_too_many_parts_or_too_long_a_text_is_too_large(service: Service, examples: Path) -> None:
    file = ("LiFePO4.cif", (examples / "LiFePO4.cif").read_bytes())
    crowded = {
        "too-many-parts": service.client.post(PATH, files=[("band", file)] * 9),
        "text-too-long": post(service, data={"ion": "Li" * 5000}, structure=file),
    }
    texts = [(f"text{number}", (None, b"Li")) for number in range(9)]
    for kind, response in (*crowded.items(), ("too-many-parts", service.client.post(PATH, files=texts))):
        assert response.status_code == 413, response.text
        found = problem_of(response)
        assert found["kind"] == kind
        assert found["where"].startswith("form")
        assert found["expected"]


@pytest.mark.parametrize("name", ["LiFePO4_band.json", "LiFePO4_band.extxyz"])
def test_a_band_may_be_sent_as_a_text_field(service: Service, examples: Path, name: str) -> None:
    content = (examples / name).read_bytes()
    padded = content if name.endswith("xyz") else content + b" " * 2_000_000
    response = service.client.post(PATH, files={"band": (None, padded)})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    "filter_", ["formula=Li{long}", "formula=Li{most}", "ion={long}", "model={long}", "cursor={long}"]
)
def test_a_filter_of_thousands_of_digits_is_answered_with_what_is_wrong(service: Service, filter_: str) -> None:
    response = service.client.get("/predictions?" + filter_.format(long="9" * 5000, most="9" * 150))
    if response.status_code == 200:
        assert response.json()["predictions"] == []
    else:
        assert (response.status_code, problem_of(response)["kind"]) == (422, "invalid-parameter")


def test_every_kind_of_problem_is_listed(repository: Path) -> None:
    text = (repository / "docs" / "http.md").read_text("utf-8")
    table = text.split("| status | kinds |")[1].split("\n\n")[0]
    listed = re.findall(r"`([a-z0-9-]+)`", table)
    assert sorted(listed) == sorted(set(listed))
    found = kinds_in(repository / "app")
    endings = {kind for kind in found if kind.startswith("-")}  # of what a worker of either kind did not do
    workers = {f"{task}{ending}" for task in ("reading", "preparing") for ending in endings}
    assert set(listed) == found - endings | workers


def kinds_in(package: Path) -> set[str]:
    """Every literal that is given as an error's `kind`, and the kinds that errors have by default."""
    found = set()
    for path in package.rglob("*.py"):
        if {package / "console", package / "screening"} & set(path.parents):  # the command line's own are no replies
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and called(node).endswith("Error"):
                found |= {text for word in node.keywords if word.arg == "kind" for text in literals(word.value)}
            elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if any(isinstance(target, ast.Name) and target.id == "default_kind" for target in targets):
                    found |= set(literals(node.value))
    limits = {name.removeprefix("check_").replace("_", "-") for name in vars(Limits) if name.startswith("check_")}
    return (found - {"too-many-"}) | {f"too-many-{limit}" for limit in limits}


def called(call: ast.Call) -> str:
    return ast.unparse(call.func)


def literals(value: ast.expr) -> Iterator[str]:
    return (node.value for node in ast.walk(value) if isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_no_body_at_all_is_refused(service: Service) -> None:
    assert problem_of(service.client.post(PATH))["kind"] == "unsupported-input"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused_whether_announced_or_not(service: Service, chunked: bool) -> None:
    content = (b" " * 1_000_000 for _ in range(25)) if chunked else b" " * 25_000_000
    response = service.client.post(PATH, content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 413
    assert problem_of(response)["kind"] == "body-too-large"
    assert service.client.get("/health/live").status_code == 200


def test_a_zip_bomb_is_refused(service: Service) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"{number:02d}/POSCAR", b" " * 60_000_000)
    response = post(service, band=("bomb.zip", buffer.getvalue()))
    assert response.status_code == 413, response.text
    assert "IONPATH_MAX_UNPACKED_BYTES" in response.text


def test_paths_and_methods_that_are_not_there_are_problems_too(service: Service) -> None:
    assert problem_of(service.client.get("/predict"))["status"] == 404
    wrong_method = service.client.get(PATH)
    assert problem_of(wrong_method)["status"] == 405
    assert wrong_method.headers["allow"] == "POST"
    assert problem_of(service.client.get("/static/../settings.py"))["status"] == 404
    assert problem_of(service.client.get("/static/%2e%2e/%2e%2e/settings.py"))["status"] == 404
    assert problem_of(service.client.get("/predictions/7"))["kind"] == "invalid-parameter"
    assert problem_of(service.client.get("/predictions?limit=100000"))["kind"] == "invalid-parameter"
    assert problem_of(service.client.get("/predictions?cursor=rubbish"))["status"] == 422
    assert problem_of(service.client.get("/predictions?created_after=yesterday"))["status"] == 422
    assert problem_of(service.client.get("/predictions?formula=lifepo4"))["kind"] == "bad-filter"
    of_no_ion = problem_of(service.client.get("/predictions?ion=li"))
    assert (of_no_ion["kind"], of_no_ion["detail"][-13:]) == ("unknown-element", "Was Li meant?")


def test_a_request_id_is_taken_over_where_it_is_sane(service: Service) -> None:
    def answered(request_id: str) -> str:
        return service.client.get("/health/live", headers={"X-Request-ID": request_id}).headers["x-request-id"]

    assert answered("job-17:band.3") == "job-17:band.3"
    for insane in ("", "a b", 'x"y', "x" * 200):
        assert answered(insane) != insane
    service.client.get("/nothing", headers={"X-Request-ID": "look-for-me"})
    lines = [json.loads(line) for line in service.log.splitlines() if "look-for-me" in line]
    assert [(line["path"], line["status"], line["problem"]) for line in lines] == [("/nothing", 404, "not-found")]


def test_every_reply_forbids_what_a_browser_might_do(service: Service) -> None:
    for path in ("/", "/docs", "/models", "/nothing", "/static/page.css"):
        headers = service.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        policy = headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "default-src 'none'" in policy
        assert "http" not in policy, "no outside host"
        assert "*" not in policy
        assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
        assert "camera=()" in headers["permissions-policy"]
        assert "server" not in headers


def test_a_file_s_name_in_place_of_the_file_is_recognised(service: Service, examples: Path) -> None:
    """`curl -F structure=NaCoO2.cif`, the `@` forgotten."""
    answered = service.client.post(PATH, files={"structure": (None, "crystals/NaCoO2.cif"), "ion": (None, "Na")})
    problem = problem_of(answered)
    assert problem["kind"] == "no-file"
    assert "structure=@crystals/NaCoO2.cif" in problem["expected"]
    text = (examples / "LiFePO4_band.json").read_text()
    assert service.client.post(PATH, files={"band": (None, text)}).status_code == 200  # a file's text is a file


def test_a_card_that_is_not_there_names_every_card(service: Service) -> None:
    problem = problem_of(service.client.get("/models/nope"))
    assert problem["kind"] == "unknown-model"
    assert {"default", "mpt"} <= set(problem["expected"].removeprefix("one of ").split(", "))
