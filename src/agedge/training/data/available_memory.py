"""How much memory a run may take: what the machine has left, and what its control group allows."""

from pathlib import Path
from typing import Optional

GROUPS = (  # of a version of control groups: its folder, its limit, its use
    ("sys/fs/cgroup", "memory.max", "memory.current"),
    ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def available_memory(root="/") -> Optional[int]:
    """Bytes that can be had without swapping; None where nothing says so (no Linux). `root`: where /proc and /sys are.

    The least of what the machine has available and what is left in the control group (version 1 or 2) of this process
    and in those above it. Cached files count as free.
    """
    root = Path(root)
    found = [value for value in (_of_machine(root), *_of_groups(root)) if value is not None]
    return min(found, default=None)


def _of_machine(root: Path) -> Optional[int]:
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _of_groups(root: Path):
    """What is left in each group that has a limit; a container may show its own group as the top one."""
    # "4:memory:/some/group" of version 1, "0::/some/group" of version 2
    lines = [line.split(":", 2) for line in _read(root / "proc/self/cgroup").splitlines()]
    of_version = {1: "", 2: ""}
    for number, kinds, path in (line for line in lines if len(line) == 3):
        if "memory" in kinds.split(","):
            of_version[1] = path
        elif number == "0" and not kinds:
            of_version[2] = path
    for version, (top, limit, used) in zip((2, 1), GROUPS):
        parts = [part for part in of_version[version].split("/") if part not in ("", "..")]
        for depth in range(len(parts) + 1):
            folder = root.joinpath(top, *parts[:depth])
            most, taken = _read(folder / limit).strip(), _read(folder / used).strip()
            if most.isdigit() and taken.isdigit():
                yield max(0, int(most) - int(taken) + _cached(_read(folder / "memory.stat")))


def _cached(statistics: str) -> int:
    """Bytes of cached files that are given up when memory runs short."""
    values = dict(line.split() for line in statistics.splitlines() if len(line.split()) == 2)
    return int(values.get("total_inactive_file", values.get("inactive_file", 0)))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
