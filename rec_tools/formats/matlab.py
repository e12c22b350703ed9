"""Read a Matlab file that holds a (1, 1) struct whose fields are the columns of a table.

SciPy's reader crashes on some damaged files and takes unlimited memory on others, so it runs in a process of its own
with limits. As a program: `matlab.py REQUEST.json COLUMNS.npz STRINGS.json`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from agedge.errors import AgedgeError
from agedge.safe_write import temporary_folder

# Limits for a file. For scale: 40,000 rows of IMDB-WIKI, 0.8 MB where they compress well, take 0.9 s and 80 MB.
MEMORY, MEMORY_A_BYTE = 400e6, 200  # bytes, plus bytes for each byte of the file
SECONDS, SECONDS_A_BYTE = 4, 4e-6  # of CPU time
REFUSED = 3  # exit status of the process if it printed an error


def load_columns(
    mat: Path, structs: Sequence[str], *, strings: Sequence[str], numbers: Sequence[str], optional: Sequence[str] = ()
) -> Dict[str, Any]:
    """Return fields of the only struct of a file that is named in `structs`, as columns of equal length.

    `strings` become lists of str, `numbers` float64 arrays (n,), and so do those `optional` numbers that are present.
    Raises `AgedgeError` that names the file and its fault: not a Matlab file, no such struct, no such field, a field of
    another type or length.
    """
    mat = Path(mat)
    if not mat.is_file():
        raise AgedgeError(f"{mat}: " + ("not a file" if mat.exists() else "missing"))
    with temporary_folder() as scratch:
        request, columns, texts = (scratch / name for name in ("request.json", "columns.npz", "strings.json"))
        request.write_text(json.dumps([str(mat), SECONDS, *map(list, (structs, strings, numbers, optional))]))
        words = [sys.executable, "-m", "rec_tools.formats.matlab", *map(str, (request, columns, texts))]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        done = subprocess.run(words, capture_output=True, text=True, errors="backslashreplace", env=environment)
        if done.returncode == REFUSED:
            raise AgedgeError(done.stderr.strip())
        if done.returncode:
            raise AgedgeError(f"{mat}: damaged: reading it takes too much time or memory, or crashes")
        with np.load(columns) as found:
            return {**json.loads(texts.read_text()), **found}


def load_columns_here(
    mat: Path, structs: Sequence[str], strings: Sequence[str], numbers: Sequence[str], optional: Sequence[str]
) -> Dict[str, Any]:
    """Do the work of `load_columns` in this process."""
    struct = load_struct(mat, structs)
    names = struct.dtype.names or ()
    missing = [field for field in (*numbers, *strings) if field not in names]
    if missing:
        raise AgedgeError(f"{mat}: the struct has no field {', '.join(missing)}")
    fields = (*strings, *numbers, *(field for field in optional if field in names))
    columns: Dict[str, Any] = {field: struct[field].ravel() for field in fields}
    length = columns[fields[0]].size
    for field, column in columns.items():
        if column.size != length:
            raise AgedgeError(f"{mat}: {length} {fields[0]} but {column.size} {field}")
        columns[field] = _strings(column) if field in strings else _numbers(column)
        if columns[field] is None:
            raise AgedgeError(f"{mat}: {field} is not a {'cell of strings' if field in strings else 'row of numbers'}")
    return columns


def load_struct(mat: Path, structs: Sequence[str]) -> np.void:
    """Return the (1, 1) struct of a Matlab file that has one of the names, as SciPy's NumPy record."""
    from scipy.io import loadmat

    try:
        content = loadmat(str(mat), variable_names=structs)
    except NotImplementedError as error:  # raised by SciPy for HDF5
        raise AgedgeError(f"{mat}: a Matlab v7.3 (HDF5) file; save it from Matlab with -v7") from error
    except MemoryError as error:
        raise AgedgeError(f"{mat}: damaged, or larger than the memory") from error
    except FileNotFoundError:
        raise AgedgeError(f"{mat}: missing") from None
    except Exception as error:  # a damaged file fails anywhere inside the parser: zlib, struct, index, type
        if isinstance(error, OSError) and error.filename:
            raise AgedgeError(f"{mat}: {error.strerror or error}") from None
        raise AgedgeError(f"{mat}: not a Matlab file, or a truncated one ({error})") from error
    found = [name for name in structs if name in content]
    if len(found) != 1:
        raise AgedgeError(f"{mat}: holds no struct {' or '.join(repr(name) for name in structs)}")
    struct = content[found[0]]
    if struct.dtype.names is None or struct.size != 1:
        raise AgedgeError(f"{mat}: '{found[0]}' is not a struct of one element")
    return struct.ravel()[0]


def _numbers(column: np.ndarray) -> Optional[np.ndarray]:
    return column.astype(np.float64) if column.dtype.kind in "iufb" else None


def _strings(cells: np.ndarray) -> Optional[List[str]]:
    """Return the strings of a cell array, "" for an empty cell; None if the cells hold anything else."""
    if cells.dtype != object:
        return None
    strings = [cell[0] if isinstance(cell, np.ndarray) and cell.size else "" for cell in cells]
    return [str(one) for one in strings] if all(isinstance(one, str) for one in strings) else None


def limit(size: int, seconds: float) -> None:
    """Limit the CPU time and memory of this process for a file of `size` bytes."""
    try:
        import resource
    except ImportError:  # Windows
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    limits = {
        resource.RLIMIT_CPU: used.ru_utime + used.ru_stime + seconds + SECONDS_A_BYTE * size + 1,
        resource.RLIMIT_CORE: 0,
    }
    memory = Path("/proc/self/statm")
    if memory.exists():  # Linux; elsewhere the memory in use is unknown
        taken = int(memory.read_text().split()[0]) * resource.getpagesize()
        limits[resource.RLIMIT_AS] = taken + MEMORY + MEMORY_A_BYTE * size
    for kind, value in limits.items():
        most = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (int(value) if most == resource.RLIM_INFINITY else min(int(value), most), most))


def run_request(request: str, columns: str, texts: str) -> None:
    """Run in the process that `load_columns` starts: read a request and write its columns."""
    import scipy.io  # noqa: F401  before the limits, which are for reading the file

    mat, seconds, structs, strings, numbers, optional = json.loads(Path(request).read_text())
    limit(os.path.getsize(mat), seconds)
    found = load_columns_here(Path(mat), structs, strings, numbers, optional)
    Path(texts).write_text(json.dumps({name: found[name] for name in strings}))
    np.savez(columns, **{name: values for name, values in found.items() if name not in strings})


if __name__ == "__main__":
    try:
        run_request(*sys.argv[1:])
    except AgedgeError as error:
        print(error, file=sys.stderr)
        sys.exit(REFUSED)
