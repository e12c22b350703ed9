"""PyTorch's files, written by hand: pickles, opcode by opcode where a class is named, and the storages beside them."""

import io
import pickle
import struct
import sys
import zipfile

import numpy as np

KINDS = {"f4": "FloatStorage", "f8": "DoubleStorage", "f2": "HalfStorage", "i8": "LongStorage", "u1": "ByteStorage"}
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class Named:
    """Pickles as the global `module.name`."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Stored:
    """Pickles as a persistent reference."""

    def __init__(self, *reference):
        self.reference = reference


class Called:
    """Pickles as a call of a global."""

    def __init__(self, function, *arguments, state=None):
        self.function, self.arguments, self.state = function, arguments, state


class Writer(pickle._Pickler):
    """A pickler of protocol 2 that names whatever it is told to, without importing it."""

    def persistent_id(self, thing):
        return thing.reference if isinstance(thing, Stored) else None

    def save(self, thing, save_persistent_id=True):
        if isinstance(thing, Named):
            self.write(b"c" + f"{thing.module}\n{thing.name}\n".encode())
        elif isinstance(thing, Called):
            self.save(thing.function)
            self.save(tuple(thing.arguments))
            self.write(pickle.REDUCE)
            if thing.state is not None:
                self.save(thing.state)
                self.write(pickle.BUILD)
        else:
            super().save(thing, save_persistent_id)


def pickled(thing, protocol=2) -> bytes:
    stream = io.BytesIO()
    Writer(stream, protocol).dump(thing)
    return stream.getvalue()


def tensor(key, kind="f4", count=6, shape=(2, 3), strides=(3, 1), offset=0, view=()):
    """A tensor in the storage `key`. `view`: what the format before 1.6 adds to the reference."""
    storage = Stored("storage", Named("torch", KINDS.get(kind, kind)), key, "cpu", count, *view)
    hooks = Called(Named("collections", "OrderedDict"))
    return Called(Named("torch._utils", "_rebuild_tensor_v2"), storage, offset, shape, strides, False, hooks)


def write_zip(path, content, storages, compression=zipfile.ZIP_STORED, byteorder="little", **more):
    """The format since 1.6. `content`: what is pickled, or bytes as they are; `storages`: {key: array or bytes}."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("net/data.pkl", content if isinstance(content, bytes) else pickled(content))
        if byteorder:
            archive.writestr("net/byteorder", byteorder)
        for key, numbers in storages.items():
            archive.writestr(f"net/data/{key}", bytes_of(numbers))
        for name, text in more.items():
            archive.writestr(f"net/{name}", text)
    return path


def write_legacy(path, content, storages, keys=None, sys_info=None):
    """The format before 1.6. `storages`: {key: array}."""
    info = {"protocol_version": PROTOCOL, "little_endian": sys.byteorder == "little", "type_sizes": {"int": 4}}
    with open(path, "wb") as file:
        for part in (MAGIC, PROTOCOL, sys_info or info, content, list(storages) if keys is None else keys):
            file.write(part if isinstance(part, bytes) else pickled(part))
        for numbers in storages.values():
            file.write(struct.pack("<q", len(numbers)) + bytes_of(numbers))
    return path


def bytes_of(numbers) -> bytes:
    return numbers if isinstance(numbers, bytes) else np.ascontiguousarray(numbers).tobytes()
