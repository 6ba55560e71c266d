"""How many cores there are for this process."""

import os


def usable_cores() -> int:
    """Cores that this process may use: fewer than the machine has where `taskset` or a container says so."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
