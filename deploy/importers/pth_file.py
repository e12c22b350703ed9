"""Read PyTorch's weight files, .pth and .pt, without PyTorch and without running anything in them.

A pickle can name any function and have it called. Here the known names, those of tensors, storages, ordered
dictionaries and the classes of a TorchScript archive, lead to inert objects; a file with any other name is refused. No
result is larger than the file.
"""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Callable, Dict, Iterator, NamedTuple, Sequence, Set, Tuple, Union

import numpy as np

from agedge.errors import AgedgeError

# The NumPy type of each storage; bfloat16, the upper half of a float32, is converted to float32.
DTYPES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "u2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the format before PyTorch 1.6
WRAPPERS = ("state_dict", "model_state_dict", "model")  # under which checkpoints keep their weights
MOST_AXES = 32  # NumPy's
MOST_COPIED = 1_000_000  # items of lists that a pickle turns into dictionaries; networks have some hundred weights
LONGEST = 1000  # characters in the name of a nested module


class Storage(NamedTuple):
    """`count` numbers of `kind` from `start` on in the block `key` of the file."""

    key: str
    kind: str
    start: int
    count: int


class Tensor(NamedTuple):
    """A view of a storage as the file gives it: not to be trusted before `view` has checked it."""

    storage: Storage
    offset: int
    shape: Tuple[int, ...]
    strides: Tuple[int, ...]


class Content(NamedTuple):
    """The content of a file: tensors by name, {key of a storage: (kind, bytes)}, and the byte order, "<" or ">"."""

    tensors: Dict[str, Tensor]
    blocks: Dict[str, Tuple[str, bytes]]
    order: str


def read_pth(path: Union[str, Path]) -> Dict[str, np.ndarray]:
    """Read the weights by name; half precision and bfloat16 as float32. `{"state_dict": ...}` is unwrapped.

    Raises `AgedgeError`, one line, for a file that is missing, damaged, not of PyTorch, without weights, or that
    imports anything but tensors; nothing in it is executed.
    """
    path = Path(path)
    if not path.is_file():
        raise AgedgeError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
        tensors, blocks, order = (read_zip if is_zip else read_legacy)(path)
        arrays = {
            key: to_float(kind, np.frombuffer(block, order + DTYPES[kind])) for key, (kind, block) in blocks.items()
        }
        weights = {name: view(tensor, arrays) for name, tensor in tensors.items()}
    except AgedgeError as error:
        raise AgedgeError(f"{path}: {error}") from None
    # Damaged bytes can raise any exception in the parser.
    except Exception as error:
        raise AgedgeError(f"{path}: damaged, or not a PyTorch file ({type(error).__name__})") from error
    if not weights:
        raise AgedgeError(f"{path}: no weights in it")
    return weights


# ---- the two formats ---------------------------------------------------------------------------------------------


def read_zip(path: Path) -> Content:
    """Read the format since PyTorch 1.6, and TorchScript's."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        pickles = [entry.filename for entry in entries if entry.filename.split("/")[-1] == "data.pkl"]
        if len(pickles) != 1:
            raise AgedgeError("a zip file, but not of PyTorch: it has no data.pkl")
        folder = pickles[0][: -len("data.pkl")]
        # The entries that are read; TorchScript's code, beside them, is compressed.
        parts = [entry for entry in entries if entry.filename.startswith((f"{folder}data", f"{folder}byteorder"))]
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in parts):
            raise AgedgeError("its weights are compressed, which PyTorch never does")
        if sum(entry.file_size for entry in parts) > path.stat().st_size:
            raise AgedgeError("its parts are larger than the file")
        tensors = find_tensors(Unpickler(io.BytesIO(archive.read(pickles[0]))).load())
        names = {entry.filename for entry in parts}
        order = "<"
        if folder + "byteorder" in names:
            order = {b"little": "<", b"big": ">"}[archive.read(folder + "byteorder").strip()]
        kinds = find_kinds(tensors)
        lost = [key for key in kinds if f"{folder}data/{key}" not in names]
        if lost:
            raise AgedgeError(f"damaged: the storage {plain(lost[0])} is not in it")
        blocks = {key: (kind, archive.read(f"{folder}data/{key}")) for key, kind in kinds.items()}
    return Content(tensors, blocks, order)


def read_legacy(path: Path) -> Content:
    """Read the format before PyTorch 1.6: four pickles, then the storages."""
    total = path.stat().st_size
    with path.open("rb") as file:
        is_pickle = file.read(1) == b"\x80"  # that of 2016 was a tar file
        file.seek(0)
        if not is_pickle or Unpickler(file).load() != MAGIC:
            raise AgedgeError("not a PyTorch file")
        if Unpickler(file).load() != PROTOCOL:
            raise AgedgeError("a PyTorch file of an unknown protocol")
        order = "<" if Unpickler(file).load()["little_endian"] else ">"
        unpickler = Unpickler(file)
        tensors = find_tensors(unpickler.load())
        kinds, blocks = find_kinds(tensors), {}
        for key in Unpickler(file).load():
            key = require_key(key)
            count = int.from_bytes(file.read(8), "little" if order == "<" else "big", signed=True)
            size = count * np.dtype(DTYPES[unpickler.kinds[key]]).itemsize
            if not 0 <= size <= total - file.tell():
                raise AgedgeError(f"truncated: the storage {plain(key)} of {count} numbers is incomplete")
            if key in kinds:
                blocks[key] = (kinds[key], file.read(size))
            else:
                file.seek(size, io.SEEK_CUR)
    return Content(tensors, blocks, order)


def find_kinds(tensors: Dict[str, Tensor]) -> Dict[str, str]:
    """Return {key: kind} of the storages of these tensors; others, such as an optimizer's, are not read."""
    kinds: Dict[str, str] = {}
    for tensor in tensors.values():
        if kinds.setdefault(tensor.storage.key, tensor.storage.kind) != tensor.storage.kind:
            raise AgedgeError(f"damaged: the storage {plain(tensor.storage.key)} is of two kinds")
    return kinds


# ---- the pickle --------------------------------------------------------------------------------------------------


class Inert:
    """The object that a name in a pickle leads to: it can be called, returns plain data, and cannot be changed."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]):
        object.__setattr__(self, "_call", call)

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AgedgeError("it tries to change its reader")

    def __setstate__(self, state: Any) -> None:
        raise AgedgeError("it tries to change its reader")


class Module:
    """The attributes of a TorchScript module. Each class in a file becomes a subclass for that file."""

    def __setstate__(self, state: Any) -> None:
        object.__setattr__(self, "__dict__", state)  # not a copy: a file could demand any number of them


class Unpickler(pickle._Unpickler):  # in Python: the one in C allocates memory as the file demands
    """Unpickle dictionaries, lists, numbers, strings and `Tensor`s.

    No object is larger than those that it is built from, however often a file repeats it, so a small file cannot fill
    the memory.
    """

    dispatch: Dict[int, Any] = {**pickle._Unpickler.dispatch}

    def __init__(self, file: IO[bytes]):
        super().__init__(file, encoding="utf-8")
        self.kinds: Dict[str, str] = {}  # of every storage
        self.copied = 0

    def refuse_array(self) -> None:
        raise AgedgeError("damaged: a byte array, whose size cannot be trusted")

    dispatch[pickle.BYTEARRAY8[0]] = refuse_array

    def make_dictionary(self, items: Sequence[Any] = ()) -> OrderedDict:
        """Return an ordered dictionary, as long as the total of items is small."""
        self.copied += len(items)
        if self.copied > MOST_COPIED:
            raise AgedgeError(f"damaged: dictionaries of over {MOST_COPIED:,} items")
        return OrderedDict(items)

    def find_class(self, module: str, name: str) -> Any:
        """Return the inert object for a name. Raises `AgedgeError` for an unknown name."""
        if (module, name) == ("collections", "OrderedDict"):
            return Inert(self.make_dictionary)
        if module == "torch" and name in DTYPES:
            return Inert(lambda: name)
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return Inert(rebuild_tensor)
        if module == "torch._utils" and name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            return Inert(lambda tensor, *_: tensor)
        if (module, name) == ("torch", "Size"):
            return Inert(lambda sizes=(): sizes)
        if (module, name) == ("torch", "device"):
            return Inert(lambda *arguments: arguments)
        if module == "torch.jit._pickle":  # typed lists and dictionaries: their content, without the type
            return Inert(lambda value, *_: value)
        if module.startswith("__torch__"):
            return type("Module", (Module,), {})
        raise AgedgeError(f"it imports {plain(f'{module}.{name}')}; only weights are read, and nothing was executed")

    def persistent_load(self, reference: Any) -> Storage:
        """Return a storage from ("storage", kind, key, place, count).

        Before 1.6 a reference ends with None, or with (name, start, count) of a part.
        """
        word, kind, key, _, count, *rest = reference
        if word != "storage" or not isinstance(kind, Inert):
            raise AgedgeError("damaged: it refers to something that is not a storage")
        start = 0
        if rest and rest[0] is not None:
            _, start, count = rest[0]
        storage = Storage(require_key(key), kind(), *map(require_count, (start, count)))
        self.kinds.setdefault(storage.key, storage.kind)
        return storage

    def get_extension(self, code: int) -> None:
        raise AgedgeError(f"it imports the extension {code}; only weights are read, and nothing was executed")


def rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    """Return a tensor of valid numbers. Raises `AgedgeError` for anything else."""
    if not isinstance(storage, Storage):
        raise AgedgeError("damaged: a tensor without storage")
    if max(len(shape), len(strides)) > MOST_AXES:
        raise AgedgeError(f"damaged: a tensor of over {MOST_AXES} axes")
    return Tensor(storage, require_count(offset), tuple(map(require_count, shape)), tuple(map(require_count, strides)))


def require_key(key: Any) -> str:
    """Return the name of a storage. Raises `AgedgeError` if it is neither a string nor a number."""
    if not isinstance(key, (str, int)):
        raise AgedgeError("damaged: the name of a storage is not a string")
    return str(key)


def require_count(number: Any) -> int:
    """Return a count. Raises `AgedgeError` if it is not an integer from 0 to 2^63 - 1."""
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 1 << 63:
        raise AgedgeError("damaged: a shape, a stride or a size is not a count")
    return number


def plain(text: str) -> str:
    """Return a text of the file for a message: without line breaks and escape sequences, and not too long."""
    return "".join(sign if sign.isprintable() else "?" for sign in text[:100])


def find_tensors(content: Any) -> Dict[str, Tensor]:
    """Return the tensors of a state dictionary or a TorchScript module by name; nested names are joined by dots."""
    for _ in WRAPPERS:
        inside = [
            content[key] for key in WRAPPERS if isinstance(content, Mapping) and isinstance(content.get(key), Mapping)
        ]
        content = inside[0] if inside else content
    if isinstance(content, Tensor):
        raise AgedgeError("a single tensor without a name, not the weights of a network")
    return dict(walk_modules(content, "", set()))


def walk_modules(content: Any, prefix: str, seen: Set[int]) -> Iterator[Tuple[str, Tensor]]:
    """Yield (name, tensor) of a module and its submodules, or of a dictionary."""
    seen.add(id(content))
    if len(prefix) > LONGEST:
        raise AgedgeError("damaged: modules are nested without an end")
    named = vars(content) if isinstance(content, Module) else content if isinstance(content, Mapping) else {}
    for name, value in named.items():
        if isinstance(value, (Tensor, Module)) and not (isinstance(name, str) and name.isprintable()):
            raise AgedgeError("damaged: the name of a weight has characters that cannot be printed")
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, Module) and id(value) not in seen:
            yield from walk_modules(value, f"{prefix}{name}.", seen)


# ---- the numbers -------------------------------------------------------------------------------------------------


def to_float(kind: str, numbers: np.ndarray) -> np.ndarray:
    """Return the numbers of a storage in the byte order of this machine, half precision and bfloat16 as float32."""
    if kind == "BFloat16Storage":
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    return numbers.astype(numbers.dtype.newbyteorder("=") if kind != "HalfStorage" else np.float32, copy=False)


def view(tensor: Tensor, arrays: Dict[str, np.ndarray]) -> np.ndarray:
    """Return the array of a tensor. Raises `AgedgeError` if it exceeds its storage, or that exceeds the file."""
    storage, offset, shape, strides = tensor
    numbers = arrays[storage.key][storage.start : storage.start + storage.count]
    if len(numbers) != storage.count:
        raise AgedgeError(f"truncated: the storage {plain(storage.key)} has fewer than its {storage.count} numbers")
    count = math.prod(shape)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides))
    if len(shape) != len(strides) or count > storage.count or (count and last >= storage.count):
        raise AgedgeError(f"damaged: a tensor of {'x'.join(map(str, shape))} exceeds its storage {plain(storage.key)}")
    if not count:
        return np.zeros(shape, numbers.dtype)
    steps = [stride * numbers.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps, writeable=False)
