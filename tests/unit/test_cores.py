"""How many cores are counted: by affinity, and by the CPU quota of a control group, in files as the kernel has them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cores import usable_cores

V2 = "29 23 0:26 / /sys/fs/cgroup ro,nosuid,nodev - cgroup2 cgroup rw,nsdelegate\n"
V1 = "33 31 0:30 {top} /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
MEMORY = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def machine(root: Path, *, mounts: str, groups: str, files: dict[str, str]) -> Path:
    files = {"proc/self/mountinfo": mounts, "proc/self/cgroup": groups} | files
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", 8),
        ("50000 100000", 1),
        ("100000 100000", 1),
        ("150000 100000", 1),
        ("200000 100000", 2),
        ("300000 50000", 6),
        ("6400000 100000", 8),
    ],
)
def test_a_quota_of_version_2(tmp_path: Path, quota: str, cores: int) -> None:
    root = machine(tmp_path, mounts=V2, groups="0::/\n", files={"sys/fs/cgroup/cpu.max": f"{quota}\n"})
    assert usable_cores(root) == cores


#: In a container the group itself is mounted; outside the whole hierarchy is.
PLACES = {"container": ("/docker/abc", "/docker/abc", ""), "host": ("/", "/user/abc", "user/abc/")}


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("50000", 1), ("250000", 2), ("400000", 4)])
@pytest.mark.parametrize("place", PLACES)
def test_a_quota_of_version_1(tmp_path: Path, quota: str, cores: int, place: str) -> None:
    top, path, folder = PLACES[place]
    group = f"sys/fs/cgroup/cpu,cpuacct/{folder}cpu.cfs"
    root = machine(
        tmp_path,
        mounts=MEMORY + V1.format(top=top),
        groups=f"9:memory:/elsewhere\n4:cpu,cpuacct:{path}\n",
        files={f"{group}_quota_us": f"{quota}\n", f"{group}_period_us": "100000\n"},
    )
    assert usable_cores(root) == cores


def test_the_smallest_quota_of_all_that_hold_the_process_counts(tmp_path: Path) -> None:
    quotas = {"slice": "300000 100000", "slice/unit": "max 100000", "slice/unit/own": "500000 100000"}
    files = {f"sys/fs/cgroup/{group}/cpu.max": quota for group, quota in quotas.items()}
    root = machine(tmp_path, mounts=V2, groups="0::/slice/unit/own\n", files=files)
    assert usable_cores(root) == 3


def test_a_group_outside_of_what_is_mounted_leaves_the_one_that_is_shown(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/cpu.max": "200000 100000"}
    assert usable_cores(machine(tmp_path, mounts=V2, groups="0::/../other\n", files=files)) == 2


def test_without_control_groups_affinity_counts(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == 8
    assert usable_cores(machine(tmp_path, mounts="", groups="", files={})) == 8


@pytest.fixture
def half_a_core() -> Iterator[Path]:
    """A real control group with a quota of half a core."""
    for folder, quota in ((Path("/sys/fs/cgroup/cpu"), "cpu.cfs_quota_us"), (Path("/sys/fs/cgroup"), "cpu.max")):
        group = folder / f"ionpath-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / quota).write_text("50000")
        except OSError:
            continue
        else:
            yield group
            return
        finally:
            group.rmdir()
    pytest.skip("no control group can be made here: that takes root and a writable /sys/fs/cgroup")


def test_a_process_under_a_real_quota_counts_its_cores(half_a_core: Path) -> None:
    code = (
        "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid()));"
        "from app.cores import usable_cores; print(usable_cores())"
    )
    procs = half_a_core / "cgroup.procs"
    done = subprocess.run([sys.executable, "-c", code, procs], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
