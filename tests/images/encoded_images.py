"""Encoded images for the tests, built by hand where no library writes them."""

import io
import struct
import zlib

import cv2
import numpy as np

TURNED = {  # by EXIF orientation: the function from an upright image to the stored one
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image),
    7: lambda image: np.rot90(image, 2).transpose(1, 0, 2),
    8: lambda image: np.rot90(image, -1),
}


def corners() -> np.ndarray:
    """Return an image (40, 64, 3) with a colour in each corner, which every rotation and mirroring changes."""
    image = np.zeros((40, 64, 3), np.uint8)
    image[:20, :32], image[:20, 32:], image[20:, :32], image[20:, 32:] = (255, 0, 0), (0, 255, 0), (0, 0, 255), 255
    return image


def encode(image: np.ndarray, suffix: str = ".jpg", *options) -> bytes:
    return cv2.imencode(suffix, np.ascontiguousarray(image), list(options))[1].tobytes()


def encode_by_pillow(image: np.ndarray, kind: str, orientation: int = 0, **options) -> bytes:
    """Return a BGR image encoded in Pillow's format `kind`."""
    from PIL import Image

    if orientation:
        exif = Image.Exif()
        exif[0x112] = orientation
        options["exif"] = exif
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image[..., ::-1])).save(file, kind, **options)
    return file.getvalue()


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(*chunks: bytes, width=64, height=40, depth=8, colour=2) -> bytes:
    """Return a PNG with these chunks between its header and its end."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + png_chunk(b"IEND", b"")


def png_data(image: np.ndarray) -> bytes:
    """Return the IDAT chunk of a BGR image's pixels."""
    rows = b"".join(b"\0" + row.tobytes() for row in image[..., ::-1])
    return png_chunk(b"IDAT", zlib.compress(rows))


def tiff(*entries: tuple, data: bytes = b"", following: int = 0) -> bytes:
    """Return a TIFF of (tag, type, value) entries, one value each; None for tag 273 is the offset of `data`."""
    start = 8 + 2 + 12 * len(entries) + 4
    packed = b"".join(
        struct.pack("<HHII", tag, kind, 1, start if tag == 273 and value is None else value)
        for tag, kind, value in entries
    )
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + struct.pack("<I", following) + data


GREY_TIFF = ((256, 4, 8), (257, 4, 4), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, None), (277, 3, 1), (279, 4, 32))
