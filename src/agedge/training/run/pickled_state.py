"""Read the pickled trainer state of checkpoints of versions 1 and 2 as data.

A pickle is a program for a stack machine. Python's unpickler imports and calls any function that the file names. This
reader supports only the operations of these checkpoints, and imports and calls nothing: an array stays bytes, and an
optimizer becomes a dictionary of its attributes.
"""

import pickletools
import struct
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np

from agedge.training.run.trainer_state import COUNTS, MOVING, flatten_state

NDARRAY, BYTEARRAY = ("mxnet.ndarray.ndarray", "NDArray"), ("builtins", "bytearray")
OPTIMIZERS = "mxnet.optimizer.optimizer"
MOST_ARRAYS = 8  # per parameter; MXNet's optimizers keep at most 3
# The format of MXNet's NDArray::Save: magic number, storage type, and dtypes by number.
MAGIC, DENSE = 0xF993FAC9, 0
DTYPES = {0: np.float32, 1: np.float64, 2: np.float16, 3: np.uint8, 4: np.int32, 5: np.int8, 6: np.int64}
MOST_DIMENSIONS = 8

LITERALS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")
LITERALS += ("SHORT_BINUNICODE", "BINUNICODE", "SHORT_BINBYTES", "BINBYTES", "BYTEARRAY8")
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Name(NamedTuple):
    """A name that the pickle would import; it is never imported."""

    module: str
    name: str


class Mark:
    """The marker on the stack below the items of a tuple, list or dictionary."""


class Stored(dict):
    """The attributes of a pickled object. `name`: name of its class."""

    def __init__(self, name: Name):
        super().__init__()
        self.name = name


def read_pickled_state(content: bytes) -> Tuple[dict, Dict[str, np.ndarray]]:
    """Return a pickled trainer's state like `trainer_state.collect_state`, but with NumPy arrays.

    Raises `ValueError` if the pickle is not one of MXNet's `Trainer.save_states`.
    """
    value = run_pickle(content)
    if not (isinstance(value, tuple) and len(value) == 2 and type(value[0]) is dict and isinstance(value[1], Stored)):
        raise ValueError("not a trainer's states and optimizer")
    states, optimizer = value
    arrays = {}
    for index, state in states.items():
        require(
            is_small(state) and all(isinstance(part, Stored) for part in flatten_state(state)), "a parameter's state"
        )
        arrays.update({f"{index}.{number}": read_array(part) for number, part in enumerate(flatten_state(state))})
    counts = optimizer.get("_all_index_update_counts")  # by device
    if type(counts) is not dict or not all(type(one) is dict for one in counts.values()):
        raise ValueError("the optimizer has no counts")
    if not all(isinstance(count, int) for one in counts.values() for count in one.values()):
        raise ValueError("the optimizer's counts must be whole numbers")
    counts = max(counts.values(), key=lambda of: max(of.values(), default=0), default={})
    numbers = {name: optimizer[name] for name in MOVING if optimizer.get(name) is not None}
    return {**numbers, COUNTS: {str(index): count for index, count in counts.items()}}, arrays


def is_small(state: Any) -> bool:
    """Return whether a parameter's state and its tuples have few parts: a small pickle can repeat one huge tuple."""
    parts = state if isinstance(state, (tuple, list)) else [state]
    return len(parts) <= MOST_ARRAYS and all(
        len(part) <= MOST_ARRAYS for part in parts if isinstance(part, (tuple, list))
    )


def run_pickle(content: bytes) -> Any:
    """Return the value of a pickle that consists of the known operations. Raises `ValueError`."""
    try:
        return run_operations(content)
    except IndexError:
        raise ValueError("the pickle uses a value that does not exist") from None


def run_operations(content: bytes) -> Any:
    """Return the value of a pickle, as `run_pickle` does. Raises `ValueError` or `IndexError`."""
    stack: List[Any] = []
    memo: List[Any] = []
    for operation, value, _ in pickletools.genops(content):
        name = operation.name
        if name == "STOP":
            break
        if name in ("PROTO", "FRAME"):
            continue
        if name in LITERALS:
            stack.append(value)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name == "MEMOIZE":
            memo.append(stack[-1])
        elif name in ("BINGET", "LONG_BINGET"):
            require(isinstance(value, int), name)
            stack.append(memo[int(value or 0)])
        elif name == "MARK":
            stack.append(Mark)
        elif name == "TUPLE":
            stack.append(tuple(pop_to_mark(stack)))
        elif name in TUPLES:
            stack.append(tuple(pop(stack, TUPLES[name])))
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name in ("APPEND", "APPENDS"):
            items = pop(stack, 1) if name == "APPEND" else pop_to_mark(stack)
            target: Any = stack[-1]
            require(type(target) is list, name)
            target.extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = pop(stack, 2) if name == "SETITEM" else pop_to_mark(stack)
            require(type(stack[-1]) is dict and len(items) % 2 == 0, name)
            # Hashing a deeply nested tuple can take forever.
            require(all(isinstance(key, (str, int)) for key in items[::2]), "a key that is neither text nor number")
            stack[-1].update(zip(items[::2], items[1::2]))
        elif name == "STACK_GLOBAL":
            stack.append(known_name(*pop(stack, 2)))
        elif name in ("REDUCE", "NEWOBJ"):
            stack.append(make(name, *pop(stack, 2)))
        elif name == "BUILD":
            (attributes,) = pop(stack, 1)
            require(isinstance(stack[-1], Stored) and type(attributes) is dict, name)
            stack[-1].update(attributes)
        else:
            raise ValueError(f"the operation {name} is not allowed")
    require(len(stack) == 1 and stack[0] is not Mark, "STOP")
    return stack[0]


def known_name(module: Any, name: Any) -> Name:
    """Return the name of a class whose objects a trainer's state may hold. Raises `ValueError` for any other name."""
    require(isinstance(module, str) and isinstance(name, str), "STACK_GLOBAL")
    if (module, name) not in (NDARRAY, BYTEARRAY) and not (module == OPTIMIZERS and name.isalnum()):
        raise ValueError(f"the name {module[:40]}.{name[:40]} is not allowed")
    return Name(module, name)


def make(operation: str, name: Any, arguments: Any) -> Any:
    """Return the value of a class and its arguments: bytes, or an object without attributes yet."""
    require(isinstance(name, Name), operation)
    if name == BYTEARRAY and operation == "REDUCE":
        require(type(arguments) is tuple and len(arguments) == 1 and isinstance(arguments[0], bytes), operation)
        return arguments[0]  # no copy: a small pickle could request very many
    allowed = (None,) if name == NDARRAY and operation == "REDUCE" else () if operation == "NEWOBJ" else None
    require(arguments == allowed and name != BYTEARRAY, operation)
    return Stored(name)


def pop(stack: List[Any], count: int) -> List[Any]:
    """Take `count` values off the stack."""
    start = len(stack) - count
    require(start >= 0 and Mark not in stack[start:], "fewer values than it takes")
    items = stack[start:]
    del stack[start:]
    return items


def pop_to_mark(stack: List[Any]) -> List[Any]:
    """Take the values after the last mark off the stack, and the mark."""
    for at in range(len(stack) - 1, -1, -1):
        if stack[at] is Mark:
            items = stack[at + 1 :]
            del stack[at:]
            return items
    raise ValueError("the pickle lacks a mark")


def require(condition: bool, operation: str) -> None:
    """Raise `ValueError`, which names the operation, if the condition is False."""
    if not condition:
        raise ValueError(f"the pickle is damaged or not allowed: {operation}")


def read_array(stored: Stored) -> np.ndarray:
    """Return an NDArray that MXNet wrote as bytes. Raises `ValueError`."""
    content = stored.get("handle")
    if stored.name != NDARRAY or not isinstance(content, (bytes, bytearray)):
        raise ValueError("the pickle is damaged or not allowed: an array without bytes")
    try:
        magic, kind, dimensions = struct.unpack_from("<Iii", content)
        require(magic == MAGIC and kind == DENSE and 0 < dimensions <= MOST_DIMENSIONS, "an array of another form")
        shape = struct.unpack_from(f"<{dimensions}q", content, 12)
        _, _, dtype = struct.unpack_from("<iii", content, 12 + 8 * dimensions)  # the device that it was on
    except struct.error:
        raise ValueError("an array is truncated") from None
    start, size = 24 + 8 * dimensions, 1
    for extent in shape:
        require(0 < extent <= len(content), "an array's shape")
        size *= extent
    require(dtype in DTYPES, "an array's type")
    require(size * np.dtype(DTYPES[dtype]).itemsize == len(content) - start, "an array's length")
    return np.frombuffer(content, DTYPES[dtype], offset=start).reshape(shape)
