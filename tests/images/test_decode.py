"""Images of every format, orientation and depth decode to upright BGR uint8."""

import struct
import sys
from importlib.util import find_spec

import cv2
import numpy as np
import pytest

from agedge.images import decode, isolated
from agedge.images.decode import check_image, decode_image
from tests.images.encoded_images import TURNED, corners, encode, encode_by_pillow, png, png_chunk, png_data

RAMP = np.linspace(0, 1, 64 * 40).reshape(40, 64)
WITH_EXIF = {
    "JPEG": {"quality": 95},
    "PNG": {},
    "WEBP": {},
    "WEBP lossless": {"lossless": True},
    "TIFF": {},
    "TIFF tiff_lzw": {"compression": "tiff_lzw"},
    "MPO": {},
}


def is_near(image: np.ndarray, expected: np.ndarray, tolerance: float = 8) -> bool:
    return image.shape == expected.shape and np.abs(image.astype(int) - expected).mean() < tolerance


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("name", WITH_EXIF)
def test_every_orientation_of_every_format(name, orientation):
    content = encode_by_pillow(TURNED[orientation](corners()), name.split()[0], orientation, **WITH_EXIF[name])
    assert is_near(decode_image(content), corners())
    assert check_image(content).orientation == orientation


@pytest.mark.parametrize("orientation", TURNED)
def test_every_orientation_of_an_avif(orientation):
    content = avif(TURNED[orientation](corners()), orientation)
    assert check_image(content)[:2] == TURNED[orientation](corners()).shape[1::-1]
    assert check_image(content).orientation == orientation
    if orientation in (1, 5, 6):  # a process each
        assert is_near(decode_image(content), corners())


def avif(image, orientation=0) -> bytes:
    from PIL import features

    if "avif" not in features.modules or not features.check("avif"):
        pytest.skip("this Pillow cannot write AVIF")
    return encode_by_pillow(image, "AVIF", orientation, quality=90)


def test_sixteen_bits_are_turned_too():
    deep = encode(TURNED[6](corners()).astype(np.uint16) * 257, ".png")
    exif = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x112, 3, 1, 6, 0, 0)
    np.testing.assert_array_equal(decode_image(deep[:33] + png_chunk(b"eXIf", exif) + deep[33:]), corners())


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("suffix", [".png", ".tiff", ".pgm", ".ppm"])
def test_ten_to_sixteen_bits_are_scaled_by_their_range(suffix, bits):
    grey = (RAMP * (2**bits - 1)).astype(np.uint16)
    deep = np.dstack([grey] * 3) if suffix == ".ppm" else grey
    image = decode_image(encode(deep, suffix))
    assert image.shape == (40, 64, 3) and image.dtype == np.uint8
    assert np.abs(image - 255 * RAMP[..., None]).max() <= 1


def test_the_range_that_a_png_declares_overrides_its_largest_value():
    dark = encode((RAMP * 900).astype(np.uint16), ".png")  # 12 bits by its sBIT, 10 by its values
    image = decode_image(dark[:33] + png_chunk(b"sBIT", bytes([12])) + dark[33:])
    assert image.max() == 900 >> 4
    spread = encode((RAMP * 900).astype(np.uint16) << 4, ".png")  # as the PNG specification requires
    assert decode_image(spread[:33] + png_chunk(b"sBIT", bytes([12])) + spread[33:]).max() == 900 >> 4


@pytest.mark.parametrize("white", [1, 15, 100, 255, 1023, 4095, 16383])
@pytest.mark.parametrize("kind", ["P5", "P2"])
def test_a_pgm_is_scaled_by_the_value_of_its_white(kind, white):
    values = (RAMP * white / 2).astype(">u2" if white > 255 else np.uint8)  # white does not occur
    data = values.tobytes() if kind == "P5" else b" ".join(b"%d" % value for value in values.ravel()) + b"\n"
    image = decode_image(b"%s 64 40 %d\n" % (kind.encode(), white) + data)
    assert np.abs(image[..., 0] - 255.0 * values / white).max() <= 1


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("white", [1, 255])
@pytest.mark.parametrize("channels", [1, 3])
def test_floating_point_tiffs_are_scaled_by_their_range(kind, white, channels):
    image = decode_image(encode(np.dstack([RAMP * white] * channels).astype(kind), ".tiff"))
    most = 6 if channels == 3 and kind == np.float32 else 1  # OpenCV writes these with a loss of 2%
    assert np.abs(image - 255 * RAMP[..., None]).max() <= most


@pytest.mark.parametrize(
    "values, reason",
    [
        ((RAMP * 3000).astype(np.float32), "from 0 to 3000, not 0 to 1 or 0 to 255"),
        ((RAMP * np.nan).astype(np.float32), "not finite"),
        ((RAMP * 30000).astype(np.int32), "a TIFF of 32 bits, signed samples"),
        ((RAMP * 100 - 50).astype(np.int16), "below zero"),
    ],
)
def test_a_tiff_of_other_numbers_is_refused_with_the_reason(values, reason):
    with pytest.raises(ValueError, match=reason):
        decode_image(encode(values, ".tiff"))


def test_a_large_deep_image_is_scaled_as_a_small_one(monkeypatch):
    for deep in (np.dstack([RAMP * 4095] * 3), RAMP * 4095, RAMP * 65535):
        content = encode(deep.astype(np.uint16), ".png")
        small = decode_image(content)
        monkeypatch.setattr(decode, "LARGE", 100)
        np.testing.assert_array_equal(decode_image(content), small)
        monkeypatch.undo()


@pytest.mark.parametrize("kind", ["GIF", "JPEG2000"])
def test_lossless_formats_of_the_child_process(kind):
    np.testing.assert_array_equal(decode_image(encode_by_pillow(corners(), kind)), corners())


def test_jpeg_2000_equals_the_decoding_by_opencv():
    content = encode(cv2.blur(corners(), (9, 9)), ".jp2", cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 200)
    expected = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decode_image(content), expected)


def test_the_first_of_several_images_is_decoded():
    from PIL import Image

    for kind in ("GIF", "MPO", "PNG", "WEBP", "TIFF"):
        options: dict = {"compression": "tiff_lzw"} if kind == "TIFF" else {}
        content = encode_by_pillow(
            corners(), kind, save_all=True, append_images=[Image.fromarray(corners()[::-1])], **options
        )
        assert is_near(decode_image(content), corners()), kind


def test_a_fax_tiff_is_decoded_by_the_child_process():
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(corners()[..., 0]).convert("1").save(file, "TIFF", compression="group4")
    np.testing.assert_array_equal(decode_image(file.getvalue())[..., 0], corners()[..., 0])


def test_the_error_for_a_heic_names_the_missing_package():
    if find_spec("pillow_heif"):
        pytest.skip("pillow-heif is installed")
    size = b"\0\0\0\x14ispe\0\0\0\0" + struct.pack(">II", 64, 40)
    properties = struct.pack(">I", 16 + len(size)) + b"iprp" + struct.pack(">I", 8 + len(size)) + b"ipco" + size
    meta = struct.pack(">I", 12 + len(properties)) + b"meta\0\0\0\0" + properties
    content = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + meta
    assert check_image(content)[:2] == (64, 40)
    with pytest.raises(ValueError, match="a HEIC image needs pillow-heif: install it"):
        decode_image(content)


def test_a_child_process_that_cannot_be_started_is_an_error(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(ValueError, match="the child process that decodes GIF cannot be started: No such file"):
        decode_image(encode_by_pillow(corners(), "GIF"))


def test_a_decoder_that_dies_or_hangs_is_an_error(monkeypatch, tmp_path):
    child = tmp_path / "child.py"
    monkeypatch.setattr(isolated, "CHILD", child)
    content = encode_by_pillow(corners(), "GIF")
    child.write_text("import os; os.kill(os.getpid(), 11)")
    with pytest.raises(ValueError, match="its decoder crashed .*signal 11"):
        decode_image(content)
    monkeypatch.setattr(isolated, "SECONDS", 1)
    monkeypatch.setattr(isolated, "WALL_TIME_FACTOR", 0.5)
    child.write_text("import time; time.sleep(30)")
    with pytest.raises(ValueError, match="decoding takes longer than"):
        decode_image(content)


NAMED = {
    "a PDF": b"%PDF-1.7\n",
    "an SVG": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "a PSD": b"8BPS\0\1" + bytes(20),
    "an HTML page": b"<!DOCTYPE html><html><body>404",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
    "a video": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
    "Radiance HDR": encode(corners(), ".hdr"),
    "Sun raster": encode(corners(), ".ras"),
    "a BigTIFF": b"II+\0\x08\0\0\0" + bytes(30),
    "JPEG XL": b"\xff\x0a" + bytes(30),
}


@pytest.mark.parametrize("name", NAMED)
def test_other_formats_are_named(name):
    with pytest.raises(ValueError, match=rf"^not an image of a known format \({name}"):
        decode_image(NAMED[name])


def test_a_png_is_read_as_opencv_does():
    np.testing.assert_array_equal(decode_image(png(png_data(corners()))), corners())
