"""What is shipped beside our own code: its licences held against a list, and its known vulnerabilities.

    python tests/audit.py --pip-audit .venv/audit-tool/bin/pip-audit
    python tests/audit.py --write

The second one makes requirements-licences.lock anew from the metadata of the locked packages. The exit status is 1
where a licence is not allowed or a vulnerability is known, and 2 where the vulnerabilities could not be looked up: what
nobody looked at is not clean. `--if-reachable` makes that 0.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

REPOSITORY = Path(__file__).resolve().parent.parent
#: What the image holds, and what builds it. Packages of CUDA are NVIDIA's, and in the image for GPUs alone.
LOCKS = tuple(REPOSITORY / f"requirements-{name}.lock" for name in ("torch-cpu", "runtime", "build"))
LICENCES = REPOSITORY / "requirements-licences.lock"
POLICY = REPOSITORY / "requirements-licences.toml"
HEAD = "# Made by `make licences`: what is shipped, and the licence that its metadata name. See the .toml beside.\n"

#: Trove classifiers that name one licence; "BSD License" names several.
CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
#: The newest Python that is supported: packages that this one does not install are asked about for that one.
OTHER_PYTHON = "3.13"


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Licences that any package may have, those that one may, and those that were read by hand."""

    allowed: frozenset[str]
    copyleft: Mapping[str, str]
    read: Mapping[str, tuple[str, str]]

    @classmethod
    def load(cls, path: Path = POLICY) -> "Policy":
        """Read it from its file."""
        loaded = tomllib.loads(path.read_text("utf-8"))
        return cls(
            allowed=frozenset(loaded["allowed"]),
            copyleft={name: entry["licence"] for name, entry in loaded["copyleft"].items()},
            read={name: (entry["said"], entry["licence"]) for name, entry in loaded["read"].items()},
        )

    def permits(self, name: str, licence: str) -> bool:
        """Whether a package may have a licence, an SPDX expression or what else its metadata say."""
        try:
            expression = str(canonicalize_license_expression(licence))
        except InvalidLicenseExpression:
            return False
        return _permits(expression, self.allowed | {self.copyleft.get(name, "")})


def _permits(expression: str, allowed: AbstractSet[str]) -> bool:
    while inner := re.search(r"\(([^()]*)\)", expression):
        expression = expression.replace(inner[0], "yes" if _permits(inner[1], allowed) else "no")
    choices = [choice.split(" AND ") for choice in expression.split(" OR ")]
    return any(all(part.strip() in {*allowed, "yes"} for part in choice) for choice in choices)


def locked() -> list[str]:
    """Each `name==version` that is shipped, for every Python; without the label of a build ("+cpu")."""
    lines = "".join(path.read_text("utf-8") for path in LOCKS)
    return sorted(set(re.findall(r"^([\w.-]+==[^\s;\\+]+)", lines, flags=re.MULTILINE)))


def listed(path: Path = LICENCES) -> dict[str, str]:
    """The licence of each pin in the list."""
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    return dict(line.split(" ", maxsplit=1) for line in lines)


def faults(pins: Sequence[str], licences: Mapping[str, str], policy: Policy) -> list[str]:
    """What is wrong with the list: a pin without an entry, an entry without a pin, a licence that is not allowed."""
    found = [f"{pin} has no entry in {LICENCES.name}: run `make licences`" for pin in pins if pin not in licences]
    found += [f"{pin} of {LICENCES.name} is not locked: run `make licences`" for pin in licences if pin not in pins]
    for pin, licence in licences.items():
        name = pin.partition("==")[0]
        if not policy.permits(name, licence):
            found.append(f"{pin} has the licence {licence!r}: read it, then allow it in {POLICY.name} or do without")
    return found


def licence_of(name: str, metadata: Mapping[str, Any], policy: Policy) -> str:
    """The licence that metadata name, as SPDX writes it, or what else they say where nobody has read it.

    Args:
        name: the package's.
        metadata: `license_expression`, `license` and `classifier`, as in `importlib.metadata` and pip's reports.
        policy: has the licences that were read.
    """
    for key in ("license_expression", "license"):
        try:
            return str(canonicalize_license_expression(metadata.get(key) or ""))
        except InvalidLicenseExpression:
            continue
    classifiers = [
        line.rpartition(" :: ")[2] for line in metadata.get("classifier", ()) if line.startswith("License ::")
    ]
    said = " and ".join(classifiers) or (metadata.get("license") or "nothing").splitlines()[0]
    read_when, licence = policy.read.get(name, ("", ""))
    if said == read_when:
        return licence
    if classifiers and all(classifier in CLASSIFIERS for classifier in classifiers):
        return " AND ".join(CLASSIFIERS[classifier] for classifier in classifiers)
    return said


def write(policy: Policy) -> None:
    """Make the list anew; what this Python does not install is asked of the package index, by pip."""
    installed, elsewhere = {}, []
    for pin in locked():
        name, _, version = pin.partition("==")
        try:
            found = distribution(name)
        except PackageNotFoundError:
            elsewhere.append(pin)
            continue
        if found.version.partition("+")[0] == version:  # torch's has +cpu
            installed[pin] = found.metadata.json
        else:
            elsewhere.append(pin)
    every = installed | _published(elsewhere)
    lines = [f"{pin} {licence_of(pin.partition('==')[0], metadata, policy)}\n" for pin, metadata in every.items()]
    LICENCES.write_text(HEAD + "".join(sorted(lines)), "utf-8")


def _published(pins: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    if not pins:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps", "--ignore-installed"]
        command += ["--only-binary", ":all:", "--python-version", OTHER_PYTHON, "--target", folder]
        subprocess.run([*command, "--report", str(report), *pins], check=True)
        found = [entry["metadata"] for entry in json.loads(report.read_text("utf-8"))["install"]]
    by_name = {re.sub(r"[-_.]+", "-", metadata["name"]).lower(): metadata for metadata in found}
    return {pin: by_name[pin.partition("==")[0]] for pin in pins}


@dataclass(kw_only=True)
class Findings:
    """What was looked up of some pins: the vulnerabilities, a line each, and the pins that nobody looked at."""

    known: list[str] = field(default_factory=list)
    not_audited: list[str] = field(default_factory=list)
    why: str = ""


def findings(printed: str, errors: str, pins: Sequence[str]) -> Findings:
    """Read what pip-audit printed.

    It says "No known vulnerabilities found" also of packages that its database did not know, and ends with the same
    status for a vulnerability and for a database that it did not reach: only what it lists as audited was.
    """
    try:
        dependencies = json.loads(printed)["dependencies"]
    except ValueError:
        return Findings(not_audited=list(pins), why=(errors.strip() or "it printed nothing").splitlines()[-1])
    audited = {entry["name"]: entry["vulns"] for entry in dependencies if "vulns" in entry}
    skipped = [entry["skip_reason"] for entry in dependencies if "skip_reason" in entry]
    return Findings(
        known=[
            f"{name} {flaw['id']}: fixed in {', '.join(flaw['fix_versions']) or 'no version yet'}"
            for name, flaws in audited.items()
            for flaw in flaws
        ],
        not_audited=[pin for pin in pins if pin.partition("==")[0] not in audited],
        why=skipped[0] if skipped else "pip-audit left them out",
    )


def look_up(pip_audit: Path, pins: Sequence[str]) -> Findings:
    """Ask the database about every pin, those for other Pythons too."""
    every = Findings()
    for group in _without_repeats(pins):
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write("\n".join(group))
            file.flush()
            command = [str(pip_audit), "--requirement", file.name, "--no-deps", "--disable-pip", "--format", "json"]
            command += ["--vulnerability-service", "osv", "--progress-spinner", "off", "--desc", "off"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = findings(done.stdout, done.stderr, group)
        every.known += found.known
        every.not_audited += found.not_audited
        every.why = every.why or (found.why if found.not_audited else "")
    return every


def _without_repeats(pins: Iterable[str]) -> list[list[str]]:
    groups: list[dict[str, str]] = []  # pip-audit refuses two versions of one package
    for pin in pins:
        name = pin.partition("==")[0]
        group = next((group for group in groups if name not in group), None)
        if group is None:
            groups.append(group := {})
        group[name] = pin
    return [list(group.values()) for group in groups]


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the licences and what is known, and give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="make the list of licences anew")
    parser.add_argument("--pip-audit", type=Path, help="the program that looks vulnerabilities up; none looks none up")
    parser.add_argument("--if-reachable", action="store_true", help="a database that is not reached is no failure")
    asked = parser.parse_args(arguments)
    policy, pins = Policy.load(), locked()
    if asked.write:
        write(policy)
    licences = listed()
    wrong = faults(pins, licences, policy)
    counts = sorted(Counter(licences.values()).items(), key=lambda item: (-item[1], item[0]))
    _say(*(f"{count:5d}  {licence}" for licence, count in counts))
    _say(f"licences: {len(licences)} packages, {len(wrong)} faults", *wrong)
    if asked.pip_audit is None:
        return 1 if wrong else 0
    found = look_up(asked.pip_audit, pins)
    audited = len(pins) - len(found.not_audited)
    _say(f"vulnerabilities: {len(found.known)} known in {audited} packages", *found.known)
    if found.not_audited:
        _say(f"vulnerabilities: NOT AUDITED: {len(found.not_audited)} of {len(pins)} packages ({found.why})")
    if wrong or found.known:
        return 1
    return 2 if found.not_audited and not asked.if_reachable else 0


if __name__ == "__main__":
    sys.exit(main())
