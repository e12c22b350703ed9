"""The memory that a run may use: what the machine has left, and what its control group allows."""

from pathlib import Path
from typing import Iterator, Optional, Union

GROUPS = (  # of control groups of version 2 and of version 1: the folder, the file of the limit, the file of the use
    ("sys/fs/cgroup", "memory.max", "memory.current"),
    ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def available_memory(root: Union[str, Path] = "/") -> Optional[int]:
    """Return the bytes that can be allocated without swapping; None where the system does not tell (not Linux).

    That is the least of what the machine has available and what is left in the control group (version 1 or 2) of this
    process and in those above it. Cached files count as free. `root`: the folder of /proc and /sys.
    """
    root = Path(root)
    found = [value for value in (_of_machine(root), *_of_groups(root)) if value is not None]
    return min(found, default=None)


def _of_machine(root: Path) -> Optional[int]:
    """Return what the machine has available, or None."""
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _of_groups(root: Path) -> Iterator[int]:
    """Yield what is left in each group that has a limit; in a container the own group may appear as the top one."""
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
    """Return the bytes of cached files, which the system drops when memory runs short."""
    values = dict(line.split() for line in statistics.splitlines() if len(line.split()) == 2)
    return int(values.get("total_inactive_file", values.get("inactive_file", 0)))


def _read(path: Path) -> str:
    """Return the text of a file; "" where it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""
