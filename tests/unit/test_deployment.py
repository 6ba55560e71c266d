"""What can be held of the image, the compose file, the locks and the documents without a Docker engine.

The image's install lines are run for real, each as the Dockerfile has it, in a fresh virtual environment: resolving
alone (`pip --dry-run`) would not show a wheel that does not install, a dependency missing from the lock, or a
file left out of the package. Compiling to bytecode is turned off, which halves the time (about 30 s on two idle cores).
"""

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import venv
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from sqlalchemy.engine import make_url

from app.main import create_app
from app.settings import GONE_SETTINGS, OTHER_VARIABLES, REPOSITORY, Settings

DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
LOCKS = tuple(f"requirements{name}.lock" for name in ("", "-runtime", "-build", "-torch-cpu", "-torch-cuda"))
COMPOSE_FILES = ("docker-compose.yml", "deploy/monitoring.yml")
PROXY_FILE = "deploy/proxy/haproxy.cfg"
PINNED = re.compile(r"^(?P<pin>[\w.-]+==[^\s;\\]+)(?: ; (?P<marker>[^\\]+?))? \\$", re.MULTILINE)


def _read(name: str) -> str:
    return (REPOSITORY / name).read_text("utf-8")


def _instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", _read("Dockerfile"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines) if name]


def _services(name: str = "docker-compose.yml") -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(_read(name))["services"]
    return loaded


def _rules() -> list[str]:
    """The lines of the proxy's file, without comments."""
    return [line.split("#")[0].strip() for line in _read(PROXY_FILE).splitlines()]


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)s", text)
    assert match, text
    return float(match[1])


def _pins(name: str) -> dict[str, list[Requirement]]:
    pins: dict[str, list[Requirement]] = {}
    for match in PINNED.finditer(_read(name)):
        requirement = Requirement(match["pin"] + (f" ; {match['marker']}" if match["marker"] else ""))
        pins.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return pins


def _lines(name: str) -> list[str]:
    return [line for line in _read(name).splitlines() if line and not line.startswith("#")]


def _requirements(*extras: str) -> list[Requirement]:
    project = tomllib.loads(_read("pyproject.toml"))["project"]
    listed = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    return [Requirement(line) for line in listed]


# Settings


@pytest.mark.parametrize(
    "path",
    [
        REPOSITORY / name
        for name in ("Dockerfile", "docker-compose.yml", ".env.example", "Makefile", "deploy/proxy/haproxy.cfg")
    ]
    + DOCUMENTS,
    ids=lambda path: path.name,
)
def test_every_setting_that_is_named_exists(path: Path) -> None:
    known = {f"IONPATH_{name.upper()}" for name in Settings.model_fields} | OTHER_VARIABLES
    text = path.read_text("utf-8").split("\n## Settings that are gone\n")[0]
    named = set(re.findall(r"\bIONPATH_[A-Z0-9_]*[A-Z0-9]\b", text)) - {"IONPATH_NAME"}
    assert named <= known, f"{path.name} names settings that do not exist: {sorted(named - known)}"


def test_every_setting_is_documented_with_its_default() -> None:
    settings = _read("docs/configuration.md").split("## Other variables")[0]
    rows = dict(re.findall(r"^\| `(IONPATH_\w+)` \| ([^|]*) \|", settings, flags=re.MULTILINE))
    for name, field in Settings.model_fields.items():
        variable = f"IONPATH_{name.upper()}"
        assert variable in rows, f"{variable} is missing from docs/configuration.md"
        assert rows[variable].strip().strip("`") == _default_words(name, field.default), variable
    assert len(rows) == len(Settings.model_fields)


def test_every_setting_that_is_gone_is_documented_with_what_to_use_instead() -> None:
    section = _read("docs/configuration.md").split("\n## Settings that are gone\n")[1]
    rows = re.findall(r"^\| `(IONPATH_\w+)` \| (.*) \|$", section, flags=re.MULTILINE)
    assert {name: advice.replace("`", "") for name, advice in rows} == GONE_SETTINGS


def _default_words(name: str, default: object) -> str:
    if name == "model_store":
        return "model_store"
    if isinstance(default, bool):
        return str(int(default))
    if hasattr(default, "get_secret_value"):
        return str(default.get_secret_value())
    if default is None:
        return "unset"
    return f"{default:g}" if isinstance(default, float) else str(default)


# The image


def test_every_copied_file_exists_and_reaches_the_builder() -> None:
    sources = [
        source
        for name, rest in _instructions()
        if name == "COPY" and "--from=" not in rest
        for source in shlex.split(rest)[:-1]
    ]
    assert {"app", "model_store", "requirements-runtime.lock"} <= set(sources)
    allowed = {line[1:] for line in _read(".dockerignore").splitlines() if line.startswith("!")}
    for source in sources:
        assert (REPOSITORY / source).exists(), source
        assert source in allowed, f"{source} is kept from the builder by .dockerignore"
    assert "*" in _read(".dockerignore").splitlines(), "everything else is left out"


@pytest.mark.parametrize("name", [".env", "keys/api-keys.txt", "tests/conftest.py", "ionpath.sqlite3", ".git/config"])
def test_secrets_and_tests_never_reach_the_builder(name: str) -> None:
    allowed = [line[1:] for line in _read(".dockerignore").splitlines() if line.startswith("!")]
    assert not any(fnmatch.fnmatch(name, pattern) or name.startswith(f"{pattern}/") for pattern in allowed)


def test_the_image_runs_as_nobody_special_and_starts_the_service() -> None:
    final = dict(_instructions())  # the last of each is the final stage's
    assert final["USER"] not in {"root", "0"}
    assert (final["ENTRYPOINT"], final["CMD"]) == ('["ionpath"]', '["serve"]')
    assert len([name for name, _ in _instructions() if name == "FROM"]) == 2


def test_the_image_has_one_user_and_group_id_and_no_pip() -> None:
    text = _read("Dockerfile")
    (user,) = re.findall(r"^USER (\d+):(\d+)$", text, flags=re.MULTILINE)
    assert user[0] == user[1]
    assert re.findall(r"--[ug]id (\d+)", text) == [user[0]] * 3
    assert f"-o {user[0]} -g {user[0]}" in text
    assert "python -m venv --without-pip /opt/ionpath" in text
    final = text[text.rindex("\nFROM ") :]
    assert re.search(
        r"^RUN pip uninstall --yes .*pip.* && rm -r /usr/local/lib/python\*/ensurepip$", final, re.MULTILINE
    )


def test_the_image_is_unhealthy_when_it_hangs_and_not_when_a_store_is_away() -> None:
    (check,) = [rest for name, rest in _instructions() if name == "HEALTHCHECK"]
    assert "/health/live" in check
    assert "/health/ready" not in check


def test_all_that_the_image_installs_is_held_by_hashes() -> None:
    lines = [rest for name, rest in _instructions() if name == "RUN" and re.search(r"\bpip\b.* install", rest)]
    own = [line for line in lines if "--no-index" in line]  # the wheel that the line before it made
    assert len(own) == 1
    assert own[0].endswith(" wheel/*.whl")
    for line in lines:
        assert "--no-deps" in line, line
        assert "--require-hashes" in line or line in own, line
    assert any(rest == "pip --python /opt/ionpath/bin/python check" for _, rest in _instructions())


def test_the_image_is_of_a_python_that_is_supported() -> None:
    version = re.search(r"^ARG PYTHON_IMAGE=python:([\d.]+)-slim-\w+$", _read("Dockerfile"), flags=re.MULTILINE)
    assert version
    assert version[1] in {"3.11", "3.12", "3.13"}


def test_the_same_torch_is_set_up_and_shipped() -> None:
    local = re.search(r"^TORCH_VERSION := (\S+)$", _read("Makefile"), flags=re.MULTILINE)
    wanted = next(requirement for requirement in _requirements() if requirement.name == "torch")
    assert local
    assert wanted.specifier.contains(local[1])
    for build, label in (("cpu", "+cpu"), ("cuda", "")):
        (pin,) = _pins(f"requirements-torch-{build}.lock")["torch"]
        assert str(pin) == f"torch=={local[1]}{label}"


def test_each_wheel_of_torch_for_a_cpu_has_its_hash() -> None:
    text = _read("requirements-torch-cpu.lock")
    wheels = re.findall(r"^# (torch-\S+\.whl)$", text, flags=re.MULTILINE)
    assert len(wheels) == len(re.findall(r"--hash=sha256:[0-9a-f]{64}", text))
    python = re.search(r"^ARG PYTHON_IMAGE=python:3\.(\d+)", _read("Dockerfile"), flags=re.MULTILINE)
    assert python
    assert [wheel for wheel in wheels if f"-cp3{python[1]}-" in wheel and "x86_64" in wheel]


def test_what_the_image_with_cuda_installs_fits_together() -> None:
    cuda, runtime = _pins("requirements-torch-cuda.lock"), _pins("requirements-runtime.lock")
    assert not cuda.keys() & runtime.keys()
    assert {"torch", "triton", "nvidia-cublas"} <= cuda.keys()


def test_what_torch_needs_is_locked() -> None:
    """torch is left out of the locks with all that it alone needs: that is named again, by hand."""
    asked = [Requirement(line) for line in metadata.requires("torch") or []]
    cpu = [one for one in asked if one.marker is None or one.marker.evaluate({"sys_platform": "darwin", "extra": ""})]
    listed = {canonicalize_name(Requirement(line).name): line for line in _lines("requirements-torch.in")}
    assert {canonicalize_name(one.name) for one in cpu} == listed.keys()
    for name in ("requirements.lock", "requirements-runtime.lock"):
        for requirement in cpu:
            for pin in _pins(name)[canonicalize_name(requirement.name)]:
                (version,) = (part.version for part in pin.specifier)
                assert requirement.specifier.contains(version), f"{pin} in {name}"


@pytest.mark.nightly
@pytest.mark.timeout(900)  # downloads and unpacks over a gigabyte
def test_the_images_install_lines_work_in_a_fresh_environment(tmp_path: Path) -> None:
    """The service that they install starts, with what it needs and without what only training and tests need."""
    context, builder, environment = tmp_path / "src", tmp_path / "builder", tmp_path / "venv"
    venv.create(builder, with_pip=True)  # the base image's Python
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("IONPATH_")},
        "PATH": f"{builder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PIP_NO_COMPILE": "0",  # pip reads this one the other way round: 0 is `--no-compile`
        "PIP_QUIET": "1",
        "TORCH": "cpu",
        "TORCH_INDEX_URL": os.environ.get("TORCH_INDEX_URL", ""),  # as for `make setup` on this machine
    }
    context.mkdir()
    ran: list[str] = []
    for name, rest in _instructions():
        if name == "FROM" and ran:
            break
        if name == "COPY":
            _copy(rest, context)
        elif name == "RUN" and not rest.startswith("apt-get"):  # this machine has what that installs, or not
            ran.append(rest.split()[0])
            line = rest.replace("/opt/ionpath", str(environment))
            done = subprocess.run(
                line, shell=True, cwd=context, env=variables, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{rest}\n{done.stderr}"
    assert ran == ["python", *["pip"] * 6, "find", "strip"]
    packages = next((environment / "lib").iterdir()) / "site-packages"
    assert not list(packages.glob("pip*"))
    assert not list(packages.rglob("tests"))

    run = [str(environment / "bin" / "python"), "-P", "-c"]
    probe = (
        "import app.main, app.settings, importlib.util as u; app.main.create_app();"
        "s = app.settings.Settings(); assert s.model_store.is_dir(), s.model_store;"
        "assert not [n for n in ('pytest', 'tensorboard', 'mypy', 'litserve', 'pip', 'hatchling') if u.find_spec(n)];"
        "import torch; torch.nn.Linear(3, 3)(torch.ones(2, 3)).sum().backward()"
    )
    done = subprocess.run([*run, probe], cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    helped = subprocess.run(
        [str(environment / "bin" / "ionpath"), "serve", "--help"],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert helped.returncode == 0, helped.stderr
    shutil.rmtree(environment)  # over a gigabyte


def _copy(rest: str, context: Path) -> None:
    *sources, _target = shlex.split(rest)
    for source in sources:
        path = REPOSITORY / source
        if path.is_dir():
            shutil.copytree(path, context / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, context / path.name)


# The locks


def test_the_locks_hold_every_dependency_but_torch() -> None:
    for name, requirements in (
        ("requirements-runtime.lock", _requirements()),
        ("requirements.lock", _requirements("train", "screen", "test")),
    ):
        pins = _pins(name)
        cuda = [
            pin for pin in pins if pin.startswith("nvidia") and pin != "nvidia-ml-py3"
        ]  # that one only asks a driver
        assert not [pin for pin in pins if pin in {"torch", "triton"}] + cuda
        for requirement in requirements:
            if requirement.name == "torch":
                continue
            locked = pins.get(canonicalize_name(requirement.name))
            assert locked, f"{requirement.name} is not in {name}: run `make lock`"
            for pin in locked:
                (version,) = (part.version for part in pin.specifier)
                assert requirement.specifier.contains(version), (
                    f"{pin} in {name}, {requirement} asked for: run `make lock`"
                )


def _versions(name: str) -> set[tuple[str, str]]:
    """Names and versions of a lock; for which machines each is asked for may differ between locks."""
    return {(pin, str(one.specifier)) for pin, pins in _pins(name).items() for one in pins}


def test_the_image_has_the_pins_that_are_tested() -> None:
    tested, shipped = _versions("requirements.lock"), _versions("requirements-runtime.lock")
    assert shipped < tested


def test_the_package_is_built_by_what_is_locked() -> None:
    """Build isolation would fetch the newest builder, without a hash, at each build."""
    build = tomllib.loads(_read("pyproject.toml"))["build-system"]["requires"]
    pins = _pins("requirements-build.lock")
    for requirement in map(Requirement, build):
        (pin,) = pins[canonicalize_name(requirement.name)]
        (version,) = (part.version for part in pin.specifier)
        assert requirement.specifier.contains(version)
    both = {pin: pins[pin] for pin in pins.keys() & _pins("requirements.lock").keys()}
    assert all(str(_pins("requirements.lock")[name]) == str(pin) for name, pin in both.items()), "run `make lock`"
    for name, building in (("Dockerfile", r"pip wheel .*"), ("Makefile", r"install .* -e \.")):
        (own,) = re.findall(building, _read(name))
        assert "--no-build-isolation" in own, name
        assert "--no-deps" in own, name
        assert re.search(r"--require-hashes.* -r requirements-build\.lock", _read(name)), name


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_each_python_gets_one_version_of_each_package(python: str) -> None:
    machine = {"python_version": python, "python_full_version": f"{python}.4"}  # all else as on this machine
    for name, pins in _pins("requirements.lock").items():
        fitting = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(machine)]
        assert len(fitting) <= 1, f"{name}: {fitting}"


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_has_hashes_and_no_index_is_named(name: str) -> None:
    text = _read(name)
    entries = re.split(r"\n(?=[\w])", text)
    assert all("--hash=sha256:" in entry for entry in entries if "==" in entry.splitlines()[0])
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text


# The compose files and the proxy


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_a_compose_file_is_one_by_the_specifications_schema(name: str) -> None:
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        str(REPOSITORY / name),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_path_of_a_compose_file_exists() -> None:
    for name in COMPOSE_FILES:
        for service in _services(name).values():
            for volume in service.get("volumes", []):
                source = volume.split(":")[0] if isinstance(volume, str) else "" if volume["type"] == "volume" else "."
                assert not source.startswith("./") or (REPOSITORY / source).exists(), source
            if build := service.get("build"):
                assert (REPOSITORY / build["context"] / "Dockerfile").is_file()


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="HAProxy is not installed: apt-get install haproxy")
def test_haproxy_accepts_its_file() -> None:
    done = subprocess.run(["haproxy", "-c", "-f", PROXY_FILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def test_one_port_is_published_and_it_is_the_proxys() -> None:
    services = _services()
    assert [name for name, service in services.items() if service.get("ports")] == ["proxy"]
    assert services["proxy"]["ports"] == ["${HTTP_ADDRESS:-127.0.0.1}:${HTTP_PORT:-8000}:8080"]
    assert re.search(r"^\s+bind :8080$", _read(PROXY_FILE), flags=re.MULTILINE)


def test_one_service_builds_each_image() -> None:
    """Two that build the same one at once fail now and then with the containerd image store."""
    built = [service["image"] for service in _services().values() if "build" in service]
    assert sorted(built) == ["ionpath:cpu", "ionpath:cuda"]
    assert _services()["migrate"]["image"] in built
    assert _services()["migrate"]["pull_policy"] == "never", "a registry's image of that name is not ours"


def test_torch_is_taken_from_the_index_that_is_set() -> None:
    default = re.search(r"^ARG TORCH_INDEX_URL=(\S+)$", _read("Dockerfile"), flags=re.MULTILINE)
    assert default
    services = _services()
    assert services["api"]["build"]["args"] == {"TORCH_INDEX_URL": f"${{TORCH_INDEX_URL-{default[1]}}}"}
    assert services["api-gpu"]["build"]["args"] == {"TORCH": "cuda", "TORCH_INDEX_URL": ""}
    for build in ("cpu", "cuda"):
        assert (REPOSITORY / f"requirements-torch-{build}.lock").is_file()


def test_the_proxy_finds_every_replica_on_the_services_port() -> None:
    services = _services()
    (port,) = set(re.findall(r"server-template \w+ \d+ replicas:(\d+)", _read(PROXY_FILE)))
    assert f"IONPATH_PORT={port}" in _read("Dockerfile")
    assert ("EXPOSE", port) in _instructions()
    assert int(port) == Settings.model_fields["port"].default
    for name in ("api", "api-gpu"):
        assert services[name]["networks"]["front"]["aliases"] == ["replicas"]
        assert "container_name" not in services[name], "a fixed name forbids --scale"
    assert "front" in services["proxy"]["networks"]


def test_replicas_believe_the_proxy_and_the_proxy_believes_nobody() -> None:
    services = _services()
    for name in ("api", "api-gpu"):
        assert services[name]["environment"]["FORWARDED_ALLOW_IPS"] == "*"
        assert "ports" not in services[name], "who reaches a replica could claim any address"
    rules = _rules()
    assert "http-request set-header X-Forwarded-For %[src]" in rules
    assert "option forwardfor" not in rules, "it would pass on what the client wrote"


def test_the_proxy_sends_again_what_a_dying_replica_took_and_no_deletion() -> None:
    rules = _rules()
    assert "retry-on conn-failure empty-response" in rules
    assert "option redispatch 1" in rules
    assert "retries 1" in rules, "a request that ends every replica that it reaches may end two"
    assert "option http-buffer-request" in rules, "what is not there as a whole cannot be sent again"
    assert "option http-server-close" in rules
    assert "http-request disable-l7-retry unless METH_GET or METH_POST" in rules


def test_the_proxy_asks_replicas_in_turn() -> None:
    """The one with the fewest open connections is the one that refuses fastest."""
    assert [rule for rule in _rules() if rule.startswith("balance")] == ["balance roundrobin"] * 2


def test_the_proxys_own_errors_are_problems() -> None:
    written = re.findall(
        r'(?:http-error|return) status (\d+) content-type "([^"]+)" string "((?:[^"\\]|\\.)+)"( hdr Retry-After \d)?',
        _read(PROXY_FILE),
    )
    assert {int(status) for status, *_ in written} == {400, 404, 408, 500, 502, 503, 504}
    for status, media_type, text, retry in written:
        problem = json.loads(text.replace('\\"', '"'))
        assert media_type == "application/problem+json"
        assert problem["status"] == int(status)
        assert problem["type"] == f"urn:ionpath:problem:{problem['kind']}"
        assert f"`{problem['kind']}`" in _read("docs/http.md"), problem["kind"]
        assert bool(retry) == (int(status) in {502, 503, 504})


def test_every_health_path_is_the_services() -> None:
    paths = set(create_app(Settings()).openapi()["paths"])
    named = {
        path
        for name in ("Dockerfile", "docker-compose.yml", PROXY_FILE)
        for path in re.findall(r"/health/\w+", _read(name))
    }
    assert named == {"/health/live", "/health/ready"}
    assert named <= paths


def test_every_long_running_service_is_checked_and_restarted() -> None:
    for name, service in _services().items():
        if name == "migrate":
            assert service["restart"] == "no"
            continue
        assert service["restart"] == "unless-stopped", name
        assert "healthcheck" in service or "build" in service, name  # a built one has the image's own


def test_the_proxy_is_waited_for_as_long_as_replicas_may_take() -> None:
    check = _services()["proxy"]["healthcheck"]
    assert check["retries"] * _seconds(check["interval"]) >= 150


@pytest.mark.parametrize("file", COMPOSE_FILES)
def test_every_service_is_bounded_and_has_no_rights_that_it_does_not_need(file: str) -> None:
    for name, service in _services(file).items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"mem_limit", "cpus", "pids_limit"} <= service.keys(), name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name
        for mount in service.get("tmpfs", []):
            assert "size=" in mount, f"{name}: {mount} may take all of the machine's memory"


@pytest.mark.parametrize("file", COMPOSE_FILES)
def test_images_are_of_a_minor_version_and_can_be_named_by_digest(file: str) -> None:
    for name, service in _services(file).items():
        if service["image"] not in {"ionpath:cpu", "ionpath:cuda"}:
            assert re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[\w/]+:v?\d+\.\d+[\w.-]*\}", service["image"]), name


def test_no_password_is_in_a_variable() -> None:
    for file in COMPOSE_FILES:
        loaded = yaml.safe_load(_read(file))
        for secret, source in loaded["secrets"].items():
            assert source == {"file": f"${{SECRETS_DIR:-./secrets}}/{secret}"}
        for name, service in loaded["services"].items():
            assert set(service.get("secrets", [])) <= loaded["secrets"].keys(), name
            for variable, value in service.get("environment", {}).items():
                assert not re.search("PASSWORD$|_URL$", variable), f"{name}: {variable}={value}"
                if variable.endswith("_FILE") and "secrets" in value:
                    assert value.removeprefix("/run/secrets/") in service["secrets"], name
        assert not re.search(r"\$\{\w*PASSWORD", _read(file))
    assert not re.search("PASSWORD", _read(".env.example"))


def test_passwords_are_made_once_and_taken_over_from_an_earlier_release(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "deploy", tmp_path / "deploy")
    (tmp_path / ".env").write_text("HTTP_PORT=80\nPOSTGRES_PASSWORD=earlier\n# REDIS_PASSWORD=no\n")
    first = _made_secrets(tmp_path)
    wanted = {name for file in COMPOSE_FILES for name in yaml.safe_load(_read(file))["secrets"]}
    assert first.keys() == wanted
    assert first["postgres_password"] == "earlier"
    assert re.fullmatch("[0-9a-f]{64}", first["redis_password"])
    assert first["redis_password"] != first["grafana_password"]
    assert first["ionpath_database_url"] == "postgresql+psycopg://ionpath:earlier@postgres:5432/ionpath"
    assert first["ionpath_redis_url"] == f"redis://:{first['redis_password']}@redis:6379/0"
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert _made_secrets(tmp_path) == first


@pytest.mark.parametrize(
    ("line", "password"),
    [
        ('POSTGRES_PASSWORD="quoted"', "quoted"),
        ("POSTGRES_PASSWORD='quoted'", "quoted"),
        ('POSTGRES_PASSWORD="quoted" # of the log', "quoted"),
        ("POSTGRES_PASSWORD='quoted'  # it's the log's", "quoted"),
        ("POSTGRES_PASSWORD=plain # of the log", "plain"),
        ("POSTGRES_PASSWORD=plain \t ", "plain"),
        ("POSTGRES_PASSWORD= plain\r", "plain"),
        ("export POSTGRES_PASSWORD=plain", "plain"),
        ("POSTGRES_PASSWORD = plain", "plain"),
        ("POSTGRES_PASSWORD=plain # for $5", "plain"),
        ("POSTGRES_PASSWORD=first\nPOSTGRES_PASSWORD=last", "last"),
        ("MY_POSTGRES_PASSWORD=other\nPOSTGRES_PASSWORD=Az09._~!&()*+,;=-", "Az09._~!&()*+,;=-"),
    ],
)
def test_an_earlier_password_is_read_as_compose_reads_it(tmp_path: Path, line: str, password: str) -> None:
    shutil.copytree(REPOSITORY / "deploy", tmp_path / "deploy")
    (tmp_path / ".env").write_text(f"{line}\nREDIS_PASSWORD=\n", newline="")
    made = _made_secrets(tmp_path)
    assert made["postgres_password"] == password
    assert make_url(made["ionpath_database_url"]).password == password
    assert re.fullmatch("[0-9a-f]{64}", made["redis_password"]), "an empty one is none"


def test_the_environment_comes_before_the_file_as_in_compose(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "deploy", tmp_path / "deploy")
    (tmp_path / ".env").write_text("POSTGRES_PASSWORD=file\n")
    made = _made_secrets(tmp_path, POSTGRES_PASSWORD="environment", GRAFANA_PASSWORD="p@ss #1")
    assert (made["postgres_password"], made["grafana_password"]) == ("environment", "p@ss #1")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        *((f"REDIS_PASSWORD='a{character}b'", "cannot stand in a URL") for character in '@/:#?%[] $é"'),
        ("REDIS_PASSWORD=a@b", "cannot stand in a URL"),
        ("REDIS_PASSWORD=a$b", "between single quotes"),
        ('REDIS_PASSWORD="a$b"', "between single quotes"),
        ('REDIS_PASSWORD="a\\nb"', "between single quotes"),
        ("REDIS_PASSWORD='a\\'b'", "between single quotes"),
        ("REDIS_PASSWORD='open", "between single quotes"),
    ],
)
def test_an_earlier_password_that_would_not_work_is_refused(tmp_path: Path, line: str, why: str) -> None:
    shutil.copytree(REPOSITORY / "deploy", tmp_path / "deploy")
    (tmp_path / ".env").write_text(f"{line}\n")
    done = _run_secrets(tmp_path)
    assert done.returncode == 1
    assert "REDIS_PASSWORD" in done.stderr
    assert why in done.stderr
    assert not (tmp_path / "secrets" / "redis_password").exists()
    assert not (tmp_path / "secrets" / "ionpath_redis_url").exists()


def _run_secrets(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run([folder / "deploy" / "secrets"], check=False, capture_output=True, text=True, env=environment)


def _made_secrets(folder: Path, **variables: str) -> dict[str, str]:
    done = _run_secrets(folder, **variables)
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_text().rstrip("\n") for path in (folder / "secrets").iterdir()}


def test_every_variable_of_the_compose_files_is_explained_with_its_default() -> None:
    used = dict(found for name in COMPOSE_FILES for found in re.findall(r"(?<!\$)\$\{(\w+):?-([^}]*)\}", _read(name)))
    assert used == dict(re.findall(r"^(\w+)=(.*)$", _read(".env.example"), flags=re.MULTILINE))
    assert all(not re.findall(r"(?<!\$)\$\{\w+\}|\$\{\w+:?\?", _read(name)) for name in COMPOSE_FILES)


def test_replicas_have_time_to_finish_what_they_accepted() -> None:
    for name in ("api", "api-gpu"):
        service = _services()[name]
        drain_s, notice_s = (float(service["environment"][f"IONPATH_DRAIN_{what}_S"]) for what in ("TIMEOUT", "NOTICE"))
        assert _seconds(service["stop_grace_period"]) > notice_s + 2 * drain_s
        checks = re.search(r"inter (\d)s fastinter (\d+)ms fall 2 ", _read(PROXY_FILE))
        assert checks
        assert notice_s > int(checks[1]) + int(checks[2]) / 1000 + 1, "the proxy notices before the replica stops"
    timeouts = re.findall(r"timeout (?:client|server) (\d+)s", _read(PROXY_FILE))
    assert min(map(int, timeouts)) > Settings.model_fields["request_timeout_s"].default


def test_the_schema_is_migrated_once_before_any_replica_starts() -> None:
    services = _services()
    assert services["migrate"]["command"] == ["migrate"]
    for name in ("api", "api-gpu"):
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
        assert services[name]["environment"]["IONPATH_MIGRATE_ON_START"] == "0"


def test_the_settings_of_the_compose_file_are_accepted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "deploy", tmp_path / "deploy")
    secrets = _made_secrets(tmp_path)
    for name in ("api", "api-gpu"):
        for variable, value in _services()[name]["environment"].items():
            assert isinstance(value, str), variable
            monkeypatch.setenv(variable, value.replace("/run/secrets", str(tmp_path / "secrets")))
        settings = Settings()
        assert settings.redis_url is not None
        assert settings.redis_url.get_secret_value() == secrets["ionpath_redis_url"]
        assert settings.database_url.get_secret_value() == secrets["ionpath_database_url"]
        assert settings.api_keys_file == Path("/etc/ionpath/keys/api-keys.txt")


def test_neither_stores_nor_replicas_have_a_way_out() -> None:
    compose = yaml.safe_load(_read("docker-compose.yml"))
    assert compose["networks"] == {"edge": {}, "front": {"internal": True}, "stores": {"internal": True}}
    for name in ("postgres", "redis"):
        assert compose["services"][name]["networks"] == ["stores"]
        (volume,) = compose["services"][name]["volumes"]
        assert volume.split(":")[0] in compose["volumes"]
    assert [name for name, service in compose["services"].items() if "edge" in service["networks"]] == ["proxy"]


@pytest.mark.parametrize("name", ["secrets", "upgrade", "backup", "restore"])
def test_a_script_can_be_run_and_says_how(name: str) -> None:
    path = REPOSITORY / "deploy" / name
    assert os.access(path, os.X_OK)
    assert f"#   deploy/{name}" in path.read_text()
    assert f"deploy/{name}" in _read("docs/deployment.md")
    subprocess.run(["bash", "-n", path], check=True)


def test_an_upgrade_asks_replicas_for_their_jobs_on_the_port_of_their_metrics() -> None:
    port = _services()["api"]["environment"]["IONPATH_METRICS_PORT"]
    assert f"http://127.0.0.1:{port}/metrics" in _read("deploy/upgrade")


# The documents


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_and_page_that_a_document_names_exists(path: Path) -> None:
    text = path.read_text("utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if "://" not in link]
    files = re.findall(r"@(examples/[\w./-]+)", text)
    missing = [link for link in links if not (path.parent / link).exists()]
    missing += [name for name in files if not (REPOSITORY / name).exists()]
    assert not missing


def test_every_make_target_that_a_document_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", _read("Makefile"), flags=re.MULTILINE))
    for path in DOCUMENTS:
        assert (
            set(re.findall(r"^make (?:[A-Z_]+=\S+ )*([a-z]+)", path.read_text("utf-8"), flags=re.MULTILINE)) <= targets
        )


SET_UP = ("Makefile", "pyproject.toml", "requirements.lock", "requirements-build.lock")


@pytest.mark.parametrize("changed", SET_UP)
def test_a_second_set_up_does_nothing_until_something_changes(tmp_path: Path, changed: str) -> None:
    for name in SET_UP:
        shutil.copy(REPOSITORY / name, tmp_path / name)
        os.utime(tmp_path / name, (1e9, 1e9))
    stamp = tmp_path / ".venv" / f".installed-{sys.version_info.major}.{sys.version_info.minor}"
    stamp.parent.mkdir()
    assert "pip install" in _planned_set_up(tmp_path)
    stamp.touch()
    assert "pip install" not in _planned_set_up(tmp_path)
    os.utime(tmp_path / changed, (4e9, 4e9))
    assert "pip install" in _planned_set_up(tmp_path)


def _planned_set_up(folder: Path) -> str:
    command = ["make", "--dry-run", f"PYTHON={sys.executable}", "setup"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


# Ray


def test_the_file_of_a_ray_cluster_is_what_ray_reads() -> None:
    """Held against the schema that Ray's wheel brings."""
    ray = Path(str(find_spec("ray").submodule_search_locations[0]))  # type: ignore[union-attr,index] # it is installed
    schema = json.loads((ray / "autoscaler" / "ray-schema.json").read_text())
    cluster = yaml.safe_load(_read("deploy/ray/cluster.yaml"))
    jsonschema.validate(cluster, schema)
    commands = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    started = [command for command in commands if "ray start" in command]
    assert len(started) == 2
    assert all("RAY_AUTH_MODE=token" in command and "RAY_USAGE_STATS_ENABLED=0" in command for command in started)


def test_clusters_run_the_locked_ray() -> None:
    (pin,) = _pins("requirements.lock")["ray"]
    version = str(pin).partition("==")[2].partition(" ")[0]
    assert f"FROM rayproject/ray:{version}-py311-cpu" in _read("deploy/ray/Dockerfile")
    job = yaml.safe_load(_read("deploy/ray/rayjob.yaml"))
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == version
    assert "--ray-address auto" in job["spec"]["entrypoint"]
