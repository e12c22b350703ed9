"""Find the memory that a run may use: the free memory of the machine, limited by its control group (cgroup)."""

from pathlib import Path
from typing import Iterator, Optional, Union

CGROUPS = (  # (folder, file with the limit, file with the usage) of cgroup version 2, then of version 1
    ("sys/fs/cgroup", "memory.max", "memory.current"),
    ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def available_memory(root: Union[str, Path] = "/") -> Optional[int]:
    """Return the bytes that can be allocated without swapping; None if unknown (not Linux).

    This is the minimum of the machine's available memory and of the memory left in the cgroup (version 1 or 2) of this
    process and in its parents. Cached files count as free. `root`: the folder that contains proc and sys.
    """
    root = Path(root)
    found = [value for value in (_machine_memory(root), *_cgroup_memory(root)) if value is not None]
    return min(found, default=None)


def _machine_memory(root: Path) -> Optional[int]:
    """Return the available bytes of the machine, or None."""
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _cgroup_memory(root: Path) -> Iterator[int]:
    """Yield the bytes left in each cgroup with a limit. In a container, the process's cgroup may appear as the root."""
    # "4:memory:/some/group" for version 1, "0::/some/group" for version 2
    lines = [line.split(":", 2) for line in _read(root / "proc/self/cgroup").splitlines()]
    path_of = {1: "", 2: ""}
    for number, controllers, path in (line for line in lines if len(line) == 3):
        if "memory" in controllers.split(","):
            path_of[1] = path
        elif number == "0" and not controllers:
            path_of[2] = path
    for version, (top, limit_file, usage_file) in zip((2, 1), CGROUPS):
        parts = [part for part in path_of[version].split("/") if part not in ("", "..")]
        for depth in range(len(parts) + 1):
            folder = root.joinpath(top, *parts[:depth])
            maximum, used = _read(folder / limit_file).strip(), _read(folder / usage_file).strip()
            if maximum.isdigit() and used.isdigit():
                yield max(0, int(maximum) - int(used) + _cached(_read(folder / "memory.stat")))


def _cached(statistics: str) -> int:
    """Return the bytes of cached files, which the kernel frees when it needs memory."""
    values = dict(line.split() for line in statistics.splitlines() if len(line.split()) == 2)
    return int(values.get("total_inactive_file", values.get("inactive_file", 0)))


def _read(path: Path) -> str:
    """Return the text of a file, or "" if it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""
