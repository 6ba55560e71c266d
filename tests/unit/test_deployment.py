"""What can be held of the image, the compose file, the locks and the documents without a Docker engine.

The image's install lines are run for real, each as the Dockerfile has it, in a fresh virtual environment: resolving
alone (`pip --dry-run`) would not show a wheel that does not install, a dependency missing from the lock, or a
file left out of the package. Compiling to bytecode is turned off, which halves the time (about 30 s on two idle cores).
"""

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.main import create_app
from app.settings import GONE_SETTINGS, OTHER_VARIABLES, REPOSITORY, Settings

DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
LOCKS = ("requirements.lock", "requirements-runtime.lock", "requirements-build.lock")
COMPOSE_FILES = ("docker-compose.yml", "deploy/monitoring.yml")
PINNED = re.compile(r"^(?P<pin>[\w.-]+==[^\s;\\]+)(?: ; (?P<marker>[^\\]+?))? \\$", re.MULTILINE)


def _read(name: str) -> str:
    return (REPOSITORY / name).read_text("utf-8")


def _instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", _read("Dockerfile"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines) if name]


def _compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(_read("docker-compose.yml"))
    return loaded


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


def _requirements(*extras: str) -> list[Requirement]:
    project = tomllib.loads(_read("pyproject.toml"))["project"]
    listed = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    return [Requirement(line) for line in listed]


# Settings


@pytest.mark.parametrize(
    "path",
    [
        REPOSITORY / name
        for name in ("Dockerfile", "docker-compose.yml", ".env.example", "Makefile", "deploy/haproxy.cfg")
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


def test_the_image_is_of_a_python_that_is_supported() -> None:
    version = re.search(r"^ARG PYTHON_VERSION=([\d.]+)$", _read("Dockerfile"), flags=re.MULTILINE)
    assert version
    assert version[1] in {"3.11", "3.12", "3.13"}


def test_the_same_torch_is_set_up_and_shipped() -> None:
    image = re.search(r"^ARG TORCH_VERSION=(\S+)$", _read("Dockerfile"), flags=re.MULTILINE)
    local = re.search(r"^TORCH_VERSION := (\S+)$", _read("Makefile"), flags=re.MULTILINE)
    wanted = next(requirement for requirement in _requirements() if requirement.name == "torch")
    assert image
    assert local
    assert image[1] == local[1]
    assert wanted.specifier.contains(image[1])


@pytest.mark.nightly
@pytest.mark.timeout(900)  # downloads and unpacks over a gigabyte
def test_the_images_install_lines_work_in_a_fresh_environment(tmp_path: Path) -> None:
    """The service that they install starts, with what it needs and without what only training and tests need."""
    context, environment = tmp_path / "src", tmp_path / "venv"
    venv.create(environment, with_pip=True)
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("IONPATH_")},
        "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PIP_NO_COMPILE": "0",  # pip reads this one the other way round: 0 is `--no-compile`
        "PIP_QUIET": "1",
        "TORCH_VERSION": str(re.findall(r"^ARG TORCH_VERSION=(\S+)$", _read("Dockerfile"), flags=re.MULTILINE)[0]),
        "TORCH_INDEX_URL": os.environ.get("TORCH_INDEX_URL", ""),  # as for `make setup` on this machine
    }
    context.mkdir()
    lines = 0
    for name, rest in _instructions():
        if name == "FROM" and lines:
            break
        if name == "COPY":
            _copy(rest, context)
        elif name == "RUN" and rest.startswith("pip "):
            lines += 1
            done = subprocess.run(
                rest, shell=True, cwd=context, env=variables, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{rest}\n{done.stderr}"
    assert lines == 4

    run = [str(environment / "bin" / "python"), "-P", "-c"]
    probe = (
        "import app.main, app.settings, importlib.util as u; app.main.create_app();"
        "s = app.settings.Settings(); assert s.model_store.is_dir(), s.model_store;"
        "assert not [n for n in ('pytest', 'tensorboard', 'mypy', 'litserve') if u.find_spec(n)]"
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
        ("requirements.lock", _requirements("train", "test")),
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


def test_the_image_has_the_pins_that_are_tested() -> None:
    tested = {str(pin) for pins in _pins("requirements.lock").values() for pin in pins}
    shipped = {str(pin) for pins in _pins("requirements-runtime.lock").values() for pin in pins}
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
    for name in ("Dockerfile", "Makefile"):
        own = re.findall(r"^.*install.*--no-deps.*$", _read(name), flags=re.MULTILINE)
        assert own
        assert all("--no-build-isolation" in line for line in own), name
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


# The compose file and its proxy


def test_one_port_is_published_and_it_is_the_proxys() -> None:
    services = _compose()["services"]
    assert [name for name, service in services.items() if service.get("ports")] == ["proxy"]
    published = services["proxy"]["ports"]
    assert published == ["${HTTP_ADDRESS:-127.0.0.1}:${HTTP_PORT:-8000}:8080"]
    assert re.search(r"^\s+bind :8080$", _read("deploy/haproxy.cfg"), flags=re.MULTILINE)


def test_the_proxy_finds_every_replica_on_the_services_port() -> None:
    services = _compose()["services"]
    (port,) = set(re.findall(r"server-template \w+ \d+ replicas:(\d+)", _read("deploy/haproxy.cfg")))
    assert f"IONPATH_PORT={port}" in _read("Dockerfile")
    assert ("EXPOSE", port) in _instructions()
    assert int(port) == Settings.model_fields["port"].default
    for name in ("api", "api-gpu"):
        assert services[name]["networks"]["front"]["aliases"] == ["replicas"]
        assert "container_name" not in services[name], "a fixed name forbids --scale"


def test_replicas_believe_the_proxy_and_the_proxy_believes_nobody() -> None:
    services = _compose()["services"]
    for name in ("api", "api-gpu"):
        assert services[name]["environment"]["FORWARDED_ALLOW_IPS"] == "*"
        assert "ports" not in services[name], "whoever reaches a replica could claim any address"
    rules = [line.split("#")[0].strip() for line in _read("deploy/haproxy.cfg").splitlines()]
    assert "http-request set-header X-Forwarded-For %[src]" in rules
    assert "option forwardfor" not in rules, "it would pass on what the client wrote"


def test_every_health_path_is_the_services() -> None:
    paths = set(create_app(Settings()).openapi()["paths"])
    named = set()
    for name in ("Dockerfile", "docker-compose.yml", "deploy/haproxy.cfg"):
        found = set(re.findall(r"/health/\w+", _read(name)))
        assert "/health/ready" in found, name
        named |= found
    assert named <= paths


def test_every_long_running_service_is_checked_and_restarted() -> None:
    for name, service in _compose()["services"].items():
        if name == "migrate":
            assert service["restart"] == "no"
            continue
        assert service["restart"] == "unless-stopped", name
        assert "healthcheck" in service or "build" in service, name  # a built one has the image's own


def test_no_password_has_a_default() -> None:
    for name, least in zip(COMPOSE_FILES, (4, 1), strict=True):
        text = _read(name)
        assert len(re.findall(r"\$\{\w*PASSWORD:\?[^}]+\}", text)) >= least
        assert not re.findall(r"\$\{\w*PASSWORD(?!:\?)[^}]*\}", text)
    assert re.findall(r"^\w*PASSWORD=(.*)$", _read(".env.example"), flags=re.MULTILINE) == ["", "", ""]


def test_every_variable_of_the_compose_files_is_explained() -> None:
    used = {variable for name in COMPOSE_FILES for variable in re.findall(r"(?<!\$)\$\{(\w+)", _read(name))}
    assert used == set(re.findall(r"^(\w+)=", _read(".env.example"), flags=re.MULTILINE))


def test_replicas_have_time_to_finish_what_they_accepted() -> None:
    for name in ("api", "api-gpu"):
        service = _compose()["services"][name]
        drain_s = float(service["environment"]["IONPATH_DRAIN_TIMEOUT_S"])
        assert _seconds(service["stop_grace_period"]) > 2 * drain_s
    timeouts = re.findall(r"timeout (?:client|server) (\d+)s", _read("deploy/haproxy.cfg"))
    assert min(map(int, timeouts)) > Settings.model_fields["request_timeout_s"].default


def test_the_schema_is_migrated_once_before_any_replica_starts() -> None:
    services = _compose()["services"]
    assert services["migrate"]["command"] == ["migrate"]
    for name in ("api", "api-gpu"):
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
        assert services[name]["environment"]["IONPATH_MIGRATE_ON_START"] == "0"


def test_the_settings_of_the_compose_file_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("api", "api-gpu"):
        for variable, value in _compose()["services"][name]["environment"].items():
            assert isinstance(value, str), variable
            monkeypatch.setenv(variable, re.sub(r"\$\{\w+:\?[^}]*\}", "secret", value))
        settings = Settings()
        assert settings.redis_url is not None
        assert settings.redis_url.get_secret_value() == "redis://:secret@redis:6379/0"
        assert settings.api_keys_file == Path("/etc/ionpath/keys/api-keys.txt")


def test_the_stores_are_not_reached_from_outside() -> None:
    compose = _compose()
    assert compose["networks"]["stores"] == {"internal": True}
    for name in ("postgres", "redis"):
        assert compose["services"][name]["networks"] == ["stores"]
        (volume,) = compose["services"][name]["volumes"]
        assert volume.split(":")[0] in compose["volumes"]


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


@pytest.mark.parametrize("changed", ["pyproject.toml", "requirements.lock", "requirements-build.lock", "Makefile"])
def test_a_second_set_up_does_nothing_until_something_changes(tmp_path: Path, changed: str) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-build.lock"):
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
