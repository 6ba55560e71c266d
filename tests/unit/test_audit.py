"""What is shipped has a known licence that is allowed, and what nobody looked up does not count as clean."""

import json
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution

import pytest
from audit import LOCKS, REPOSITORY, Policy, faults, findings, licence_of, listed, locked

DOCKERFILE = REPOSITORY / "Dockerfile"
POLICY = Policy.load()
PINS = ["jinja2==3.1.6", "torch==2.13.0"]
UNREACHABLE = """Traceback (most recent call last):
  File "requests/adapters.py", line 729, in send
    raise ConnectionError(e, request=request)
requests.exceptions.ConnectionError: Max retries exceeded (Caused by NameResolutionError("Failed to resolve"))
"""


def installed() -> Iterator[tuple[str, str, dict[str, object]]]:
    for pin in locked():
        name, _, version = pin.partition("==")
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue  # another Python's or another system's
        if found.version.partition("+")[0] == version:
            yield pin, name, dict(found.metadata.json)


# Licences


def test_every_package_that_is_shipped_has_a_licence_that_is_allowed() -> None:
    assert not faults(locked(), listed(), POLICY)
    lines = "".join(path.read_text("utf-8") for path in LOCKS).splitlines()
    assert set(locked()) == {line.split()[0].partition("+")[0] for line in lines if "==" in line and line[0].isalpha()}
    dockerfile = DOCKERFILE.read_text("utf-8").replace("$TORCH", "cpu")
    assert {path.name for path in LOCKS} == set(re.findall(r"-r ([\w-]+\.lock)", dockerfile))


def test_the_list_says_what_the_packages_say() -> None:
    said = {pin: licence_of(name, metadata, POLICY) for pin, name, metadata in installed()}
    assert len(said) > 80
    assert said == {pin: listed()[pin] for pin in said}, "run `make licences`"


def test_a_new_a_changed_and_a_dropped_package_is_reported_with_the_command_that_fixes_it() -> None:
    found = faults(["new==1.0", "changed==2.0"], {"changed==1.0": "MIT", "dropped==1.0": "MIT"}, POLICY)
    assert len(found) == 4
    assert all("run `make licences`" in line for line in found)


@pytest.mark.parametrize("licence", ["AGPL-3.0-only", "GPL-3.0-only", "LGPL-3.0-only", "nothing", "Proprietary", ""])
def test_a_licence_that_is_not_allowed_is_reported(licence: str) -> None:
    (found,) = faults(["new==1.0"], {"new==1.0": licence}, POLICY)
    assert found.startswith(f"new==1.0 has the licence {licence!r}")


@pytest.mark.parametrize(
    ("name", "licence", "allowed"),
    [
        ("new", "MIT OR GPL-3.0-only", True),
        ("new", "MIT AND GPL-3.0-only", False),
        ("new", "MIT AND (GPL-3.0-only OR ISC)", True),
        ("new", "(MIT AND GPL-3.0-only) OR (ISC AND AGPL-3.0-only)", False),
        ("new", "Apache-2.0 WITH LLVM-exception", True),
        ("new", "GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("psycopg", "LGPL-3.0-only", True),
        ("psycopg", "GPL-3.0-only", False),
    ],
)
def test_one_of_several_is_enough_and_all_of_those_joined_are_needed(name: str, licence: str, allowed: bool) -> None:
    assert POLICY.permits(name, licence) is allowed


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ({"license_expression": "MIT AND PSF-2.0", "license": "other"}, "MIT AND PSF-2.0"),
        ({"license": "bsd-3-clause"}, "BSD-3-Clause"),
        ({"classifier": ["License :: OSI Approved :: MIT License", "Topic :: X"]}, "MIT"),
        ({"license": "Apache 2.0", "classifier": ["License :: OSI Approved :: Apache Software License"]}, "Apache-2.0"),
        ({"classifier": ["License :: OSI Approved :: BSD License"]}, "BSD License"),
        ({"license": "Ours\nand more"}, "Ours"),
        ({}, "nothing"),
    ],
)
def test_a_licence_is_read_from_metadata_and_never_guessed(metadata: dict[str, object], licence: str) -> None:
    assert licence_of("new", metadata, POLICY) == licence


def test_a_reading_holds_only_as_long_as_the_metadata_say_the_same() -> None:
    assert licence_of("scipy", {"classifier": ["License :: OSI Approved :: BSD License"]}, POLICY) == "BSD-3-Clause"
    assert licence_of("scipy", {"license": "Ours alone"}, POLICY) == "Ours alone"


def test_the_policy_allows_nothing_that_no_package_needs() -> None:
    names = {pin.partition("==")[0] for pin in locked()}
    assert set(POLICY.read) | set(POLICY.copyleft) <= names
    joined = " ".join(f" {licence} " for licence in listed().values()).replace("(", " ").replace(")", " ")
    assert not [licence for licence in POLICY.allowed if f" {licence} " not in joined]
    for name, licence in POLICY.copyleft.items():
        assert any(licence in had for pin, had in listed().items() if pin.partition("==")[0] == name), name
    readings = {
        name
        for _, name, metadata in installed()
        if licence_of(name, metadata, POLICY) == POLICY.read.get(name, ("", ""))[1]
    }
    elsewhere = names - {name for _, name, _ in installed()}
    assert set(POLICY.read) <= readings | elsewhere


# Vulnerabilities


def test_a_database_that_is_not_reached_leaves_everything_not_audited() -> None:
    found = findings("", UNREACHABLE, PINS)
    assert (found.known, found.not_audited) == ([], PINS)
    assert "Failed to resolve" in found.why


def test_a_package_that_was_skipped_is_not_audited_though_no_vulnerability_was_found() -> None:
    """As pip-audit 2.10.1 prints it, with status 0 and "No known vulnerabilities found", where an index answers 404."""
    skipped = {"name": "jinja2", "skip_reason": "Dependency not found on PyPI and could not be audited: jinja2 (3.1.6)"}
    clean = {"name": "torch", "version": "2.13.0", "vulns": []}
    found = findings(
        json.dumps({"dependencies": [skipped, clean], "fixes": []}), "No known vulnerabilities found", PINS
    )
    assert (found.known, found.not_audited) == ([], ["jinja2==3.1.6"])
    assert "could not be audited" in found.why


def test_a_vulnerability_is_reported_with_the_version_that_fixes_it() -> None:
    flaws = [{"id": "PYSEC-2026-1", "fix_versions": ["3.1.7"]}, {"id": "PYSEC-2026-2", "fix_versions": []}]
    printed = {"dependencies": [{"name": "jinja2", "version": "3.1.6", "vulns": flaws}]}
    found = findings(json.dumps(printed), "", PINS[:1])
    assert found.known == [
        "jinja2 PYSEC-2026-1: fixed in 3.1.7",
        "jinja2 PYSEC-2026-2: fixed in no version yet",
    ]
    assert not found.not_audited
