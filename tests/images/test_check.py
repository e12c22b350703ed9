"""Damaged images are refused with the reason before a native decoder reads them, and do not affect later images."""

import resource
import struct
import zlib

import cv2
import numpy as np
import pytest

from agedge.images.decode import check_image, decode_image
from agedge.records import decode
from tests.images.encoded_images import GREY_TIFF, corners, encode, encode_by_pillow, png, png_chunk, png_data, tiff
from tests.paths import ROOT

CORPUS = ROOT / "tests/corpus"
JPEG = encode(corners())
WEBP = encode(corners(), ".webp")
EXTENDED_WEBP = encode_by_pillow(corners(), "WEBP", exif=b"II*\0\x08\0\0\0\0\0")
BMP = encode(corners(), ".bmp")
HEADER_END = JPEG.index(b"\xff\xda")


def damage(content: bytes, at: int, form: str, value: int) -> bytes:
    damaged = bytearray(content)
    struct.pack_into(form, damaged, at, value)
    return bytes(damaged)


DAMAGED = {
    "png: a chunk of 4 GB": (png(struct.pack(">I", 0xFFFFFFF0) + b"tEXt" + bytes(1500)), "a chunk exceeds"),
    "png: a checksum": (png(png_data(corners())[:-1] + b"\0"), "checksum of chunk IDAT"),
    "png: two headers": (png(png_chunk(b"IHDR", bytes(13)), png_data(corners())), "must begin with its only header"),
    "png: a header of no depth": (png(png_data(corners()), depth=3), "invalid header"),
    "png: no palette": (png(png_data(corners()), colour=3), "a chunk is missing"),
    "png: a palette of 257": (png(png_chunk(b"PLTE", bytes(771)), png_data(corners())), "invalid palette"),
    "png: no pixels": (png(), "a chunk is missing"),
    "png: pixels for a tenth": (png(png_data(corners()), width=9000, height=9000), "too little data"),
    "png: of an iPhone": (
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"CgBI", bytes(4)) + png(png_data(corners()))[8:],
        "a PNG for iOS only",
    ),
    "jpeg: a segment exceeds the file": (damage(JPEG, HEADER_END + 2, ">H", 60000), "a segment exceeds"),
    "jpeg: no channels": (damage(JPEG, JPEG.index(b"\xff\xc0") + 9, ">B", 0), "a frame of"),
    "jpeg: 12 bits": (damage(JPEG, JPEG.index(b"\xff\xc0") + 4, ">B", 12), "a JPEG of 12 bits"),
    "jpeg: two frames": (
        JPEG[:HEADER_END] + JPEG[JPEG.index(b"\xff\xc0") :][:19] + JPEG[HEADER_END:],
        "2 frames",
    ),
    "jpeg: scan after scan": (JPEG[:-2] + JPEG[HEADER_END:-2] * 200 + b"\xff\xd9", "201 scans"),
    "webp: truncated": (WEBP[:-30], "truncated or damaged"),
    "webp: a frame of another size": (
        encode_by_pillow(corners(), "WEBP", exif=b"II*\0\x08\0\0\0\0\0").replace(
            b"\x3f\0\0\x27\0\0", b"\x8f\0\0\x27\0\0", 1
        ),
        "not have its declared size",
    ),
    "bmp: truncated": (BMP[:-200], "truncated"),
    "bmp: of 7 bits": (damage(BMP, 28, "<H", 7), "a BMP of 7 bits"),
    "bmp: its header": (damage(BMP, 14, "<I", 41), "invalid header"),
    "tiff: two widths": (tiff((256, 4, 15000), *GREY_TIFF, data=bytes(32)), "two entries 256"),
    "tiff: a strip exceeds the file": (tiff(*GREY_TIFF, data=bytes(20)), "exceeds the file"),
    "tiff: a loop": (tiff(*GREY_TIFF, data=bytes(32), following=8), "a loop"),
    "tiff: no height": (tiff(*GREY_TIFF[:1], *GREY_TIFF[2:], data=bytes(32)), "truncated or damaged"),
    "tiff: too few strips": (tiff(*GREY_TIFF, (278, 3, 1), data=bytes(32)), "1 strips or tiles instead of 4"),
    "tiff: a huge tile": (
        tiff(*GREY_TIFF[:5], (322, 4, 65536), (323, 4, 65536), (324, 4, 8), (325, 4, 8)),
        "tiles of 65536x65536",
    ),
    "pgm: truncated": (b"P5 64 40 255\n" + bytes(2000), "truncated"),
    "ppm in ASCII: truncated": (b"P3 64 40 255\n" + b"1 2 3 " * 64, "truncated"),
    "pgm: a white of 100000": (b"P5 2 2 100000\n" + bytes(8), "invalid header"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_image_is_refused_with_its_reason(name):
    content, reason = DAMAGED[name]
    with pytest.raises(ValueError, match=reason):
        decode_image(content)
    assert decode(content) is None


def test_the_undamaged_images_are_read():
    for content in (JPEG, WEBP, BMP, png(png_data(corners())), tiff(*GREY_TIFF, data=bytes(32))):
        assert decode_image(content).ndim == 3
    np.testing.assert_array_equal(decode_image(png(png_data(corners()))), corners())


@pytest.mark.parametrize("folder", sorted(CORPUS.glob("image_pairs/*")), ids=lambda path: path.name)
def test_damaged_images_do_not_change_the_next_one(folder):
    good = cv2.imdecode(np.frombuffer(JPEG, np.uint8), cv2.IMREAD_COLOR)
    for path in sorted(folder.iterdir()):
        with pytest.raises(ValueError, match="damaged"):
            decode_image(path.read_bytes())
        np.testing.assert_array_equal(decode_image(JPEG), good)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("images/*")), ids=lambda path: path.name)
def test_images_that_crashed_a_decoder_are_refused(path, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("the image reached OpenCV"))
    with pytest.raises(ValueError, match="damaged"):
        decode_image(path.read_bytes())


def test_only_the_pixels_of_a_png_are_decoded():
    """OpenCV 4.11 reads an animation where there is an acTL chunk; the still image is in the IDAT chunks."""
    text = png_chunk(b"tEXt", b"Comment\0" + bytes(100))
    control = png_chunk(b"acTL", struct.pack(">II", 1 << 30, 0))
    frame = png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 60000, 60000, 4, 4, 1, 1, 0, 0))
    np.testing.assert_array_equal(decode_image(png(text, control, frame, png_data(corners()), text)), corners())


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG", "BMP", "GIF"])
def test_mutated_images_do_not_change_the_next_one(kind):
    content = encode_by_pillow(corners(), kind)
    good, rng = decode_image(JPEG), np.random.default_rng(0)
    for _ in range(4 if kind == "GIF" else 300):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            damaged[place] = rng.integers(256)
        if kind == "PNG":
            damaged = refresh_checksums(damaged)
        decode(bytes(damaged))
    np.testing.assert_array_equal(decode_image(JPEG), good)


def refresh_checksums(content: bytearray) -> bytearray:
    at = 8
    while at + 12 <= len(content):
        end = at + 8 + struct.unpack_from(">I", content, at)[0]
        if end + 4 > len(content):
            break
        struct.pack_into(">I", content, end, zlib.crc32(content[at + 4 : end]))
        at = end + 4
    return content


def test_a_page_above_the_limit_is_refused():
    first = tiff(*GREY_TIFF, data=bytes(32))
    large = ((256, 4, 30000), (257, 4, 30000), *GREY_TIFF[2:])
    second = tiff(*large)[8:]
    content = tiff(*GREY_TIFF, data=bytes(32) + second, following=len(first))
    with pytest.raises(ValueError, match="30000x30000 pixels"):
        check_image(content)


def test_declared_lengths_allocate_no_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name in ("png: a chunk of 4 GB", "tiff: two widths", "tiff: a huge tile"):
        with pytest.raises(ValueError):
            decode_image(DAMAGED[name][0])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


def test_the_limit_counts_sixteen_bits_twice():
    with pytest.raises(ValueError, match=r"9000x9000 pixels of 3 times 16 bits, more than 400 MB"):
        check_image(png(png_chunk(b"IDAT", bytes(500_000)), width=9000, height=9000, depth=16))
