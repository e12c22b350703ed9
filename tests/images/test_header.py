"""Headers of image files of every format that OpenCV writes: turned, truncated or damaged."""

import struct

import cv2
import numpy as np
import pytest

from agedge.images.header import JPEG, is_truncated, read_header
from agedge.sources import check_image, decode_image

IMAGE = np.random.default_rng(0).integers(0, 255, (37, 53, 3), np.uint8)


def encode(ext, *parameters, image=IMAGE):
    return cv2.imencode(ext, image, parameters)[1].tobytes()


def with_orientation(jpeg, orientation, order="<"):
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = mark + struct.pack(order + "IH", 8, 1) + entry + bytes(4)
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


@pytest.mark.parametrize(
    "content",
    [
        encode(".jpg"),
        encode(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        encode(".png"),
        encode(".bmp"),
        encode(".webp"),
        encode(".webp", cv2.IMWRITE_WEBP_QUALITY, 101),
        encode(".tiff"),
        encode(".jp2"),
        encode(".ppm"),
        encode(".pgm", image=IMAGE[..., 0]),
        encode(".ppm").replace(b"P6\n", b"P6 # by a scanner\n#\n", 1),
    ],
)
def test_the_size_in_the_header_is_the_size_of_the_decoded_image(content):
    header = read_header(content)
    assert header is not None
    assert (header.height, header.width) == decode_image(content).shape[:2] == (37, 53)
    assert not is_truncated(content, header)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_orientation_and_channels_of_a_jpeg(orientation, order):
    turned = with_orientation(encode(".jpg"), orientation, order)
    assert check_image(turned)[2:5] == (JPEG, 3, orientation)
    assert decode_image(turned).shape[:2] == ((53, 37) if orientation in (6, 8) else (37, 53))
    assert check_image(encode(".jpg", image=IMAGE[..., 0])).channels == 1


def test_damaged_headers_are_none_without_an_exception():
    rng = np.random.default_rng(1)
    kinds = (".png", ".webp", ".bmp", ".tiff", ".jp2", ".ppm")
    for content in (with_orientation(encode(".jpg"), 6), *map(encode, kinds)):
        for length in range(60):
            is_truncated(content[:length], read_header(content[:length]))
        for _ in range(300):
            damaged = bytearray(content)
            for place in rng.integers(0, 60, 3):
                damaged[place] = rng.integers(256)
            read_header(bytes(damaged))
    assert read_header(b"") is None and read_header(b"text") is None and read_header(encode(".jpg")[:10]) is None


def test_too_large_an_image_is_refused_before_it_is_decoded():
    header = struct.pack(">IIBBBBB", 20000, 10000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + bytes(4) + b"IEND"
    with pytest.raises(ValueError, match="20000x10000 pixels, more than 100 million"):
        check_image(bomb)
    with pytest.raises(ValueError, match="53x37 pixels, more than 0.001 million"):
        decode_image(encode(".jpg"), max_pixels=1000)
    entries = struct.pack("<HHHIIHHII", 2, 0x0100, 4, 1, 20000, 0x0101, 3, 1, 10000)
    for content in (b"II*\0" + struct.pack("<I", 8) + entries, b"P5 20000 10000 255\n"):
        with pytest.raises(ValueError, match="20000x10000 pixels, more than 100 million"):
            check_image(content)
    assert check_image(encode(".jpg"), max_pixels=53 * 37).width == 53


def test_a_format_without_a_known_header_is_refused():
    for ext in (".hdr", ".ras", ".pam"):
        with pytest.raises(ValueError, match="not an image of a known format"):
            decode_image(encode(ext))
    os2 = encode(".bmp")
    os2 = (
        b"BM"
        + struct.pack("<IHHI", 26 + 40 * 36, 0, 0, 26)
        + struct.pack("<IHHHH", 12, 13, 36, 1, 24)
        + os2[54:][: 40 * 36]
    )
    assert check_image(os2)[:2] == (13, 36) and decode_image(os2).shape[:2] == (36, 13)
