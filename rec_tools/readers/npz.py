"""Faces in NumPy archives, as the tools of SSR-Net and its descendants write and read them.

Yang, Huang, Lin, Hsiu, Chuang: "SSR-Net: a compact soft stagewise regression network for age estimation", IJCAI 2018.
An .npz holds `image` (n, size, size, 3) BGR, `age` (n,), mostly `gender` (n,), and `img_size`. The images are read one
by one, so an archive may be larger than the memory. Arrays of Python objects, which are pickles, are refused.
"""

import io
import itertools
import math
import zipfile
import zlib
from pathlib import Path
from typing import Dict, Iterator, Literal, Optional, Tuple, Union

import cv2
import numpy as np

from agedge.errors import AgedgeError, UsageError
from agedge.labels import FEMALE, MALE, UNKNOWN
from rec_tools.formats.file_names import exact_row
from rec_tools.formats.table import check_numbers
from rec_tools.records.stored import join_first
from rec_tools.rows import Dropped, Row, Rows

SOURCE = "faces in .npz archives"
TERMS = "as the data set allows from which the .npz was made"
GENDERS: Dict[str, Dict[float, int]] = {"female0": {0: FEMALE, 1: MALE}, "male0": {0: MALE, 1: FEMALE}}

LONGEST_HEADER = 10_000  # bytes: NumPy's own limit
MOST_BYTES = 100e6  # of an image: 4 megapixels of float64; the tools write 64 or 112 pixels square
SAMPLE = 100_000  # labels whose coding is checked
SMALLEST = 8  # pixels of a side: zeros compress so well that 2 MB hold 10^9 images of a pixel

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read(root: Path, *, gender: Literal["auto", "female0", "male0"] = "auto") -> Rows:
    """Yield the faces of an .npz, or of every .npz in a folder by name, in order; an id is `FILE.npz#INDEX`.

    `gender`: what 0 means. The tools write IMDB-WIKI with female 0, as the data set does, but MORPH with male 0. "auto"
    is female 0, but refuses a file named after MORPH. Raises `AgedgeError` if a file is damaged, or if its arrays have
    other shapes, lengths or types.
    """
    root = Path(root)
    files = sorted(root.glob("*.npz")) if root.is_dir() else [root]
    if not files:
        raise AgedgeError(f"{root}: no .npz in it")
    for file in files:
        if gender == "auto" and "morph" in file.name.lower():
            raise UsageError(f"{file}: the tools write MORPH with male 0; give gender=male0, or gender=female0")
    return (row for file in files for row in read_file(file, GENDERS["female0" if gender == "auto" else gender]))


def read_file(file: Path, genders: Dict[float, int]) -> Rows:
    """Yield the faces of one archive; `genders` maps its numbers to 0 female, 1 male."""
    try:
        with zipfile.ZipFile(file) as archive:
            held = [name for name in ("age", "gender") if f"{name}.npy" in archive.namelist()]
            if not held or "image.npy" not in archive.namelist():
                raise AgedgeError(f"{file}: needs the arrays image and age or gender; it has {_names(archive)}")
            if refused := [f"{name}.npy" for name in ("image", *held) if not _is_usual(archive.getinfo(f"{name}.npy"))]:
                raise AgedgeError(f"{file}: {', '.join(refused)}: must be stored or deflated, as NumPy writes it")
            count, images = open_images(archive, file)
            numbers = [open_labels(archive, file, name, count) if name in held else None for name in ("age", "gender")]
            check_coding(file, {name: sample_labels(archive, file, name, count) for name in held})
            for index, (image, age, gender) in enumerate(
                zip(images, *(one or itertools.repeat(float(UNKNOWN)) for one in numbers))
            ):
                yield make_row(f"{file.name}#{index}", image, genders.get(gender, UNKNOWN), age)
    except FileNotFoundError:
        raise AgedgeError(f"{file}: missing") from None
    except OSError as error:
        raise AgedgeError(f"{file}: {error.strerror or error}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise AgedgeError(f"{file}: not an .npz, or a damaged one ({error})") from None


def sample_labels(archive: zipfile.ZipFile, file: Path, name: str, count: int) -> np.ndarray:
    """Return the first `SAMPLE` numbers of an array of `count`."""
    return np.fromiter(itertools.islice(open_labels(archive, file, name, count), SAMPLE), np.float64)


def check_coding(file: Path, labels: Dict[str, np.ndarray]) -> None:
    """Check that genders are 0 and 1, and ages years. Raises `AgedgeError`."""
    nothing = np.full(len(next(iter(labels.values()))), UNKNOWN)
    gender, age = (labels.get(name, nothing) for name in ("gender", "age"))
    check_numbers(file, np.stack([gender, age, age], axis=1).astype(np.float32))


def make_row(id: str, image: np.ndarray, gender: int, age: float) -> Union[Row, Dropped]:
    """Return a row with its image as a BMP, which is lossless and fast."""
    pixels = as_bytes(image)
    if pixels is None:
        return Dropped(id, "image values are not 0 to 255")
    if age == UNKNOWN and gender == UNKNOWN:
        return Dropped(id, "neither age nor gender")
    return exact_row(id, cv2.imencode(".bmp", pixels)[1].tobytes(), gender, age)


def as_bytes(image: np.ndarray) -> Optional[np.ndarray]:
    """Convert an image (h, w, 3) to uint8; return None if its values are not 0 to 255. Some tools write float64."""
    if image.dtype == np.uint8:
        return image
    low, high = image.min(), image.max()  # NaN where there is one, which fails both comparisons
    if not (low >= 0 and high <= 255) or (image.dtype.kind == "f" and 0 < high <= 1):
        return None
    return np.rint(image).astype(np.uint8)


def open_labels(archive: zipfile.ZipFile, file: Path, name: str, count: int) -> Iterator[float]:
    """Return an iterator over an array of `count` numbers. Raises `AgedgeError` at once for another shape."""
    start, shape, dtype = read_header(archive, file, name)
    if math.prod(shape) != count:
        raise AgedgeError(f"{file}: {count} image but {math.prod(shape)} {name}")
    return (float(np.frombuffer(one, dtype)[0]) for one in read_pieces(archive, name, start, dtype.itemsize, count))


def open_images(archive: zipfile.ZipFile, file: Path) -> Tuple[int, Iterator[np.ndarray]]:
    """Return the number of images and an iterator over the images (h, w, 3). Raises `AgedgeError` at once."""
    start, shape, dtype = read_header(archive, file, "image")
    if len(shape) != 4 or shape[3] != 3 or 0 in shape[1:]:
        raise AgedgeError(f"{file}: image is of shape {shape}, not (n, height, width, 3)")
    size = math.prod(shape[1:]) * dtype.itemsize
    if size > MOST_BYTES or min(shape[1:3]) < SMALLEST:
        raise AgedgeError(f"{file}: images of {shape[2]}x{shape[1]} pixels are not faces")
    pieces = read_pieces(archive, "image", start, size, shape[0])
    return shape[0], (np.frombuffer(one, dtype).reshape(shape[1:]) for one in pieces)


def read_pieces(archive: zipfile.ZipFile, name: str, start: int, size: int, count: int) -> Iterator[bytes]:
    """Yield `count` pieces of `size` bytes of an array, starting at the byte `start`."""
    with archive.open(f"{name}.npy") as member:
        member.read(start)
        for _ in range(count):
            yield member.read(size)


def read_header(archive: zipfile.ZipFile, file: Path, name: str) -> Tuple[int, Tuple[int, ...], np.dtype]:
    """Return (offset of its first number, shape, dtype) of an array. Raises `AgedgeError` if bytes are missing."""
    with archive.open(f"{name}.npy") as member:
        head = io.BytesIO(member.read(LONGEST_HEADER))
    try:
        shape, fortran, dtype = _HEADERS[np.lib.format.read_magic(head)](head)
    except Exception as error:  # a Python literal may fail in many ways: ValueError, TokenError, RecursionError
        raise AgedgeError(f"{file}: {name} is not a NumPy array ({error})") from None
    if dtype.kind not in "iuf":
        kind = "Python objects, which are not loaded" if dtype.hasobject else f"{dtype}, not numbers"
        raise AgedgeError(f"{file}: {name} holds {kind}")
    if fortran and name == "image":
        raise AgedgeError(f"{file}: image is in Fortran order; save it with np.ascontiguousarray")
    length = archive.getinfo(f"{name}.npy").file_size
    if min(shape, default=0) < 0 or head.tell() + math.prod(shape) * dtype.itemsize != length:
        raise AgedgeError(f"{file}: {name} does not have the length of its shape {shape}")
    return head.tell(), shape, dtype


def _is_usual(member: zipfile.ZipInfo) -> bool:
    """Return whether a member is compressed as NumPy does; other methods may need much memory before the first byte."""
    return member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def _names(archive: zipfile.ZipFile) -> str:
    return join_first([name.replace(".npy", "") for name in archive.namelist()]) or "none"
