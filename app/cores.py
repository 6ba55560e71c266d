"""How many cores there are for this process."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/")


def usable_cores(root: Path = _ROOT) -> int:
    """Cores that this process may use: those of its affinity, or of its CPU quota where that is less; at least one.

    A quota (`docker run --cpus`, a Kubernetes limit) shows in no count of cores. Its fraction of a core is left out:
    as many threads as there are whole cores are never suspended for the rest of a period.

    Args:
        root: where /proc and /sys are.
    """
    with_affinity = hasattr(os, "sched_getaffinity")  # not on macOS
    cores = len(os.sched_getaffinity(0)) if with_affinity else os.cpu_count() or 1
    return max(1, min([cores, *(int(quota) for quota in _quotas(root))]))


@dataclass(frozen=True, kw_only=True)
class _Hierarchy:
    """A mounted hierarchy of control groups.

    Attributes:
        unified: whether it is of version 2, which has one hierarchy for all controllers.
        folder: where it is mounted.
        top: the group that is shown there; in a container usually the container's own.
    """

    unified: bool
    folder: Path
    top: str


def _quotas(root: Path) -> Iterator[float]:
    """The quota of this process's control group and of each that holds it, in cores; none where there is no limit."""
    try:
        mounts = (root / "proc/self/mountinfo").read_text()
        groups = (root / "proc/self/cgroup").read_text()
    except OSError:  # not Linux
        return
    for hierarchy in _hierarchies(mounts):
        for controllers, path in _groups(groups):
            if controllers == [""] if hierarchy.unified else "cpu" in controllers:
                yield from _quotas_upwards(root, hierarchy, path)


def _groups(text: str) -> Iterator[tuple[list[str], str]]:
    """Controllers and path of each line of /proc/self/cgroup (cgroups(7)); version 2 names no controller."""
    for line in text.splitlines():
        _number, controllers, path = line.split(":", 2)
        yield controllers.split(","), path


def _hierarchies(text: str) -> Iterator[_Hierarchy]:
    """The hierarchies in /proc/self/mountinfo that may limit CPU time (proc(5))."""
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        _, _, _, top, folder, *_ = before.split()
        kind, _, options = after.split(maxsplit=2)
        if kind == "cgroup2":
            yield _Hierarchy(unified=True, folder=Path(folder), top=top)
        elif kind == "cgroup" and "cpu" in options.split(","):
            yield _Hierarchy(unified=False, folder=Path(folder), top=top)


def _quotas_upwards(root: Path, hierarchy: _Hierarchy, path: str) -> Iterator[float]:
    # A path outside of what is mounted (".." in a namespace of its own) leaves the group that is shown.
    inside = Path(path).relative_to(hierarchy.top) if Path(path).is_relative_to(hierarchy.top) else Path()
    if ".." in inside.parts:
        inside = Path()
    for group in (inside, *inside.parents):
        folder = root / hierarchy.folder.relative_to("/") / group
        quota = _quota_v2(folder) if hierarchy.unified else _quota_v1(folder)
        if quota is not None:
            yield quota


def _quota_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):  # the root group has none
        return None
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return quota / period if quota > 0 else None
