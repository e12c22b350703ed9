"""Faces in NumPy archives, as the tools of SSR-Net and its descendants write and read them.

Yang, Huang, Lin, Hsiu, Chuang: "SSR-Net: a compact soft stagewise regression network for age estimation", IJCAI 2018.
An .npz holds `image` (n, size, size, 3) BGR, `age` (n,), mostly `gender` (n,), and `img_size`. The images are read one
by one, so that an archive may be larger than the memory. Arrays of Python objects, which are pickles, are refused.
"""

import math
import zipfile
import zlib
from pathlib import Path
from typing import Iterator, Literal, Optional

import cv2
import numpy as np

from agedge.errors import AgedgeError, UsageError
from agedge.labels import FEMALE, MALE, UNKNOWN
from rec_tools.names import exact_row
from rec_tools.rows import Dropped, Rows
from rec_tools.table import check_numbers

SOURCE = "faces in .npz archives"
TERMS = "as the data set allows from which the .npz was made"
GENDERS = {"female0": {0: FEMALE, 1: MALE}, "male0": {0: MALE, 1: FEMALE}}

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read(root: Path, *, gender: Literal["auto", "female0", "male0"] = "auto") -> Rows:
    """The faces of an .npz, or of every .npz in a folder by name, in their order; an id is `FILE.npz#INDEX`.

    `gender` says what 0 means. The tools number IMDB-WIKI as it numbers itself, female 0, but MORPH male 0: "auto" is
    female 0, and wants to be told about a file that is named after MORPH. Raises `AgedgeError` where a file is
    damaged, or its arrays have other shapes, lengths or kinds than these.
    """
    root = Path(root)
    files = sorted(root.glob("*.npz")) if root.is_dir() else [root]
    if not files:
        raise AgedgeError(f"{root}: no .npz in it")
    for file in files:
        if gender == "auto" and "morph" in file.name.lower():
            raise UsageError(f"{file}: tools number MORPH with male 0; say gender=male0, or gender=female0")
    return (row for file in files for row in read_file(file, GENDERS["female0" if gender == "auto" else gender]))


def read_file(file: Path, genders: dict) -> Rows:
    """The faces of one archive; `genders` translates its numbers to the contract's."""
    try:
        with zipfile.ZipFile(file) as archive:
            held = [name for name in ("age", "gender") if f"{name}.npy" in archive.namelist()]
            if not held or "image.npy" not in archive.namelist():
                raise AgedgeError(f"{file}: needs the arrays image and age or gender; it has {_names(archive)}")
            labels = {name: read_labels(archive, file, name) for name in held}
            check_coding(file, labels)
            for index, image in enumerate(read_images(archive, file, labels)):
                age, gender = (float(labels[name][index]) if name in labels else UNKNOWN for name in ("age", "gender"))
                yield make_row(f"{file.name}#{index}", image, genders.get(gender, UNKNOWN), age)
    except FileNotFoundError:
        raise AgedgeError(f"{file}: missing") from None
    except OSError as error:
        raise AgedgeError(f"{file}: {error.strerror or error}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise AgedgeError(f"{file}: no .npz, or a damaged one ({error})") from None


def check_coding(file: Path, labels: dict) -> None:
    """Raise `AgedgeError` where genders are not 0 and 1, or ages not years."""
    lengths = [values.size for values in labels.values()]
    if len(set(lengths)) == 1:  # else it is said with the images
        nothing = np.full(lengths[0], UNKNOWN)
        gender, age = (np.ravel(labels.get(name, nothing)) for name in ("gender", "age"))
        check_numbers(file, np.stack([gender, age, age], axis=1).astype(np.float32))


def make_row(id: str, image: np.ndarray, gender: int, age: float):
    """A row whose image is a BMP: no loss, and little work."""
    image = as_bytes(image)
    if image is None:
        return Dropped(id, "image values are not 0 to 255")
    if age == UNKNOWN and gender == UNKNOWN:
        return Dropped(id, "neither age nor gender")
    return exact_row(id, cv2.imencode(".bmp", image)[1].tobytes(), gender, age)


def as_bytes(image: np.ndarray) -> Optional[np.ndarray]:
    """An image (h, w, 3) of whatever numbers as uint8; None where they are not 0 to 255. Some tools write float64."""
    if image.dtype == np.uint8:
        return image
    low, high = image.min(), image.max()  # NaN where there is one, which fails both comparisons
    if not (low >= 0 and high <= 255) or (image.dtype.kind == "f" and 0 < high <= 1):
        return None
    return np.rint(image).astype(np.uint8)


def read_labels(archive: zipfile.ZipFile, file: Path, name: str) -> np.ndarray:
    """(n,) numbers of a whole array."""
    with archive.open(f"{name}.npy") as member:
        shape, dtype = read_header(member, archive, file, name)
        return np.frombuffer(member.read(), dtype, math.prod(shape))


def read_images(archive: zipfile.ZipFile, file: Path, labels: dict) -> Iterator[np.ndarray]:
    """The images (h, w, 3) of the archive, one at a time, checked to be as many as the labels."""
    with archive.open("image.npy") as member:
        shape, dtype = read_header(member, archive, file, "image")
        if len(shape) != 4 or shape[3] != 3 or 0 in shape[1:]:
            raise AgedgeError(f"{file}: image is of shape {shape}, not (n, height, width, 3)")
        for name, values in labels.items():
            if len(values) != shape[0]:
                raise AgedgeError(f"{file}: {shape[0]} image but {len(values)} {name}")
        size = math.prod(shape[1:]) * dtype.itemsize
        for _ in range(shape[0]):
            yield np.frombuffer(member.read(size), dtype).reshape(shape[1:])


def read_header(member, archive: zipfile.ZipFile, file: Path, name: str) -> tuple:
    """(shape, dtype) of an array; `member` then stands at its first number, and holds all of them."""
    try:
        shape, fortran, dtype = _HEADERS[np.lib.format.read_magic(member)](member)
    except (ValueError, KeyError) as error:
        raise AgedgeError(f"{file}: {name} is no array of NumPy ({error})") from None
    if dtype.kind not in "iuf":
        kind = "Python objects, which are not loaded" if dtype.hasobject else f"{dtype}, not numbers"
        raise AgedgeError(f"{file}: {name} holds {kind}")
    if fortran and name == "image":
        raise AgedgeError(f"{file}: image lies in Fortran order; save it with np.ascontiguousarray")
    if member.tell() + math.prod(shape) * dtype.itemsize != archive.getinfo(f"{name}.npy").file_size:
        raise AgedgeError(f"{file}: {name} is not as long as its shape {shape} says")
    return shape, dtype


def _names(archive: zipfile.ZipFile) -> str:
    return ", ".join(name.replace(".npy", "") for name in archive.namelist()) or "none"
