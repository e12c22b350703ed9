"""What is found of altered copies, how many copies a data set holds, and how long the search takes.

    python -m benchmarks.copies [--dataset utkface] [--root data/UTKFace] [--count 1000] [--many 500000]

Printed: for each alteration of `count` images the bits that change (median, 99th percentile) and the share found; how
many pairs of the set differ in so many bits; its groups; and what is found of changed fingerprints among `many` that
are drawn at random, their bits as unbalanced and about as correlated as the set's.
"""

import time
from hashlib import blake2b
from pathlib import Path
from typing import Callable, Dict

import cv2
import numpy as np

from agedge.cli import run_command
from rec_tools.packing.duplicates import NEAR, count_bits, find_duplicates, fingerprint, summarise_duplicates
from rec_tools.readers import find_reader
from rec_tools.rows import Row


def measure(dataset: str = "utkface", root: Path = Path("data/UTKFace"), count: int = 1000, many: int = 500000) -> None:
    """Print the figures of a data set whose reader yields files."""
    rows = [row for row in find_reader(dataset).read(root) if isinstance(row, Row)]
    images = (cv2.imread(str(row.image)) for row in rows)
    started = time.perf_counter()
    codes = np.array([fingerprint(image) for image in images])
    print(f"{len(rows)} images read and fingerprinted in {time.perf_counter() - started:.0f} s")
    checksums = b"".join(blake2b(Path(row.image).read_bytes(), digest_size=8).digest() for row in rows)
    started = time.perf_counter()
    copies = find_duplicates(np.frombuffer(checksums, np.uint64), codes)
    print(f"copies found in {time.perf_counter() - started:.2f} s")
    labels = np.array([row.label.as_array() for row in rows])
    print(summarise_duplicates(copies, labels, np.zeros(len(rows), np.int64)))
    _print_distances(codes)
    chosen = np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)
    _print_alterations([cv2.imread(str(rows[index].image)) for index in chosen], codes[chosen])
    _print_many(codes, many)


def _print_distances(codes: np.ndarray) -> None:
    pairs = np.zeros(257, np.int64)
    for index in range(1, len(codes)):
        pairs += np.bincount(count_bits(codes[:index] ^ codes[index]).sum(axis=1).astype(int), minlength=257)
    print("pairs within so many bits:", {bits: int(pairs[: bits + 1].sum()) for bits in (0, *range(7, 72, 8))})


def _print_alterations(images, codes: np.ndarray) -> None:
    for name, alter in _list_alterations().items():
        bits = [int(count_bits(fingerprint(alter(image)) ^ code).sum()) for image, code in zip(images, codes)]
        found = np.mean(np.array(bits) <= NEAR)
        print(f"{name:18} {np.median(bits):4.0f} {np.percentile(bits, 99):4.0f} {found:7.1%}")


def _print_many(codes: np.ndarray, count: int) -> None:
    rng = np.random.default_rng(0)
    signs = np.unpackbits(codes.view(np.uint8), axis=1) * 2.0 - 1
    root = np.linalg.cholesky(np.cov(signs.T) + 0.01 * np.eye(256)).T
    blocks = (
        rng.standard_normal((min(10000, count - at), 256)) @ root + signs.mean(0) for at in range(0, count, 10000)
    )
    packed = np.concatenate([np.packbits(block > 0, axis=1) for block in blocks])
    copied = count // 20
    changes = rng.integers(1, NEAR + 1, copied)
    places = rng.random((copied, 256)).argsort(axis=1).argsort(axis=1)
    packed[-copied:] = packed[:copied] ^ np.packbits(places < changes[:, None], axis=1)
    started = time.perf_counter()
    near = find_duplicates(np.arange(count, dtype=np.uint64), np.ascontiguousarray(packed).view(np.uint64)).near
    seconds, found = time.perf_counter() - started, near[-copied:] == near[:copied]
    false = len(near) - len(np.unique(near)) - found.sum()
    print(f"{count} rows in {seconds:.1f} s: {found.mean():.3%} of {copied} copies found, {false} false ones")


def _list_alterations() -> Dict[str, Callable[[np.ndarray], np.ndarray]]:
    return {
        **{f"JPEG {quality}": _encode(quality) for quality in (95, 75, 50, 20)},
        **{f"{side} pixels": lambda image, side=side: _resize(image, side) for side in (112, 64, 48)},
        "64 pixels, JPEG 75": lambda image: _encode(75)(_resize(image, 64)),
        "grey": lambda image: cv2.cvtColor(image, cv2.COLOR_BGR2GRAY),
        "brighter by 10%": lambda image: cv2.add(image, (25.5,) * 3),
        "darker by 10%": lambda image: cv2.subtract(image, (25.5,) * 3),
        "contrast 1.1": lambda image: cv2.convertScaleAbs(image, alpha=1.1, beta=-12.8),
        "contrast 0.9": lambda image: cv2.convertScaleAbs(image, alpha=0.9, beta=12.8),
        **{f"moved by {share:.1%}": _move(share) for share in (0.005, 0.01, 0.015)},
        **{f"cropped by {share:.0%}": _crop(share) for share in (0.02, 0.03, 0.05)},
        "turned by 1 degree": _turn(1),
        "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    }


def _encode(quality: int):
    return lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)


def _resize(image: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)


def _move(share: float):
    return lambda image: _warp(image, np.float32([[1, 0, share * image.shape[1]], [0, 1, share * image.shape[0]]]))


def _turn(degrees: float):
    return lambda image: _warp(image, cv2.getRotationMatrix2D((image.shape[1] / 2, image.shape[0] / 2), degrees, 1))


def _warp(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)


def _crop(share: float):
    def crop(image: np.ndarray) -> np.ndarray:
        rows, columns = (round(length * share / 2) for length in image.shape[:2])
        return image[rows : image.shape[0] - rows, columns : image.shape[1] - columns]

    return crop


if __name__ == "__main__":
    run_command(measure)
