"""Data sets that describe themselves in a Matlab file: a (1, 1) struct whose fields are the columns of a table."""

from pathlib import Path
from typing import Optional, Sequence

import numpy as np

from agedge.errors import AgedgeError


def load_columns(
    mat: Path, structs: Sequence[str], *, strings: Sequence[str], numbers: Sequence[str], optional: Sequence[str] = ()
) -> dict:
    """Fields of the one struct of a file that is named in `structs`, as columns of equal length.

    `strings` become lists of str, `numbers` float64 arrays (n,), and so do those `optional` numbers that are there.
    Raises `AgedgeError` that names the file and what is wrong: no Matlab file, no such struct, no such field, a field
    of another kind or length.
    """
    struct = load_struct(mat, structs)
    missing = [field for field in (*numbers, *strings) if field not in struct.dtype.names]
    if missing:
        raise AgedgeError(f"{mat}: the struct has no field {', '.join(missing)}")
    fields = (*strings, *numbers, *(field for field in optional if field in struct.dtype.names))
    columns = {field: struct[field].ravel() for field in fields}
    length = columns[fields[0]].size
    for field, column in columns.items():
        if column.size != length:
            raise AgedgeError(f"{mat}: {length} {fields[0]} but {column.size} {field}")
        columns[field] = _strings(column) if field in strings else _numbers(column)
        if columns[field] is None:
            raise AgedgeError(f"{mat}: {field} is no {'cell of strings' if field in strings else 'row of numbers'}")
    return columns


def load_struct(mat: Path, structs: Sequence[str]) -> np.void:
    """The (1, 1) struct of a Matlab file that has one of the names, as the NumPy record that SciPy makes of it."""
    from scipy.io import loadmat

    try:
        content = loadmat(str(mat), variable_names=structs)
    except NotImplementedError as error:  # SciPy's answer to HDF5
        raise AgedgeError(f"{mat}: a Matlab v7.3 (HDF5) file; save it from Matlab with -v7") from error
    except MemoryError as error:
        raise AgedgeError(f"{mat}: damaged, or larger than the memory") from error
    except FileNotFoundError:
        raise AgedgeError(f"{mat}: missing") from None
    except Exception as error:  # a damaged file fails anywhere inside the parser: zlib, struct, index, type
        if isinstance(error, OSError) and error.filename:
            raise AgedgeError(f"{mat}: {error.strerror or error}") from None
        raise AgedgeError(f"{mat}: no Matlab file, or a truncated one ({error})") from error
    found = [name for name in structs if name in content]
    if len(found) != 1:
        raise AgedgeError(f"{mat}: holds no struct {' or '.join(repr(name) for name in structs)}")
    struct = content[found[0]]
    if struct.dtype.names is None or struct.size != 1:
        raise AgedgeError(f"{mat}: '{found[0]}' is no struct of one element")
    return struct.ravel()[0]


def _numbers(column: np.ndarray) -> Optional[np.ndarray]:
    return column.astype(np.float64) if column.dtype.kind in "iufb" else None


def _strings(cells: np.ndarray) -> Optional[list]:
    """The strings of a cell; an empty one is ""; None where the cells hold anything else."""
    if cells.dtype != object:
        return None
    strings = [cell[0] if isinstance(cell, np.ndarray) and cell.size else "" for cell in cells]
    return [str(one) for one in strings] if all(isinstance(one, str) for one in strings) else None
