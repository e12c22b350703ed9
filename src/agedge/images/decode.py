"""Decode images to upright BGR uint8 (h, w, 3), after a check of their structure.

JPEG, PNG, WebP, BMP, PNM and common TIFF are decoded by OpenCV, the others in a child process.
"""

from typing import Optional, Union

import cv2
import numpy as np

from agedge.images.bit_depth import find_depth, scale_to_uint8
from agedge.images.check import CHECKS, check_structure, check_tiff, is_animated, strip_png
from agedge.images.header import AVIF, GIF, HEIC, JP2, JPEG_2000, PNG, TIFF, Header, is_truncated, read_header
from agedge.images.isolated import decode_isolated
from agedge.images.kinds import explain_unreadable
from agedge.images.tiff_pages import FLOATING, SIGNED, UNSIGNED, Page, read_pages, read_size

MAX_PIXELS = 100e6  # an image decodes to three bytes per pixel
MAX_BYTES_PER_PIXEL = 4  # on average, for more than eight bits per channel; OpenCV holds the pixels twice: 800 MB
ISOLATED_FORMATS = {**dict.fromkeys(GIF, "GIF"), AVIF: "AVIF", HEIC: "HEIF", JP2: "JPEG2000", JPEG_2000: "JPEG2000"}
PNM, ASCII_PNM = (b"P2", b"P3", b"P5", b"P6"), (b"P2", b"P3")
PLAIN_TIFF = (
    1,
    5,
    8,
    32773,
    32946,
    34676,
)  # compressions that OpenCV decodes: none, LZW, deflate, PackBits, deflate, SGILog; all fuzzed
TIFF_SAMPLES = {UNSIGNED: (1, 2, 4, 8, 10, 12, 14, 16), SIGNED: (8, 16), FLOATING: (32, 64)}
SAMPLE_FORMATS = {UNSIGNED: "unsigned", SIGNED: "signed", FLOATING: "floating-point"}
MAX_UNIT_RANGE = 2  # floating-point samples: if none is larger, white is 1
LARGE = 16_000_000  # samples: the range of a larger image is estimated from a part of them
TURNS = {  # by EXIF orientation: the function that turns the stored image upright
    2: lambda image: cv2.flip(image, 1),
    3: lambda image: cv2.rotate(image, cv2.ROTATE_180),
    4: lambda image: cv2.flip(image, 0),
    5: cv2.transpose,
    6: lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE),
    7: lambda image: cv2.rotate(cv2.transpose(image), cv2.ROTATE_180),
    8: lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


def decode_image(content: bytes, max_pixels: float = MAX_PIXELS) -> np.ndarray:
    """Return the image in a file's bytes, as `agedge.sources.read_image` does. Raises `ValueError` with the reason."""
    return decode_pixels(content, header=check_image(content, max_pixels))


def check_image(content: bytes, max_pixels: float = MAX_PIXELS) -> Header:
    """Return the header of an encoded image, after a check of its structure.

    Raises `ValueError` if the format is not supported, if the file is truncated or damaged, or if a page has more than
    `max_pixels`.
    """
    if not content:
        raise ValueError("empty file")
    header = read_header(content)
    if is_truncated(content, header):
        raise ValueError("truncated")
    if header is None:
        if content.startswith(TIFF):
            check_tiff(content)
        raise ValueError(explain_unreadable(content))
    _check_size(header, max_pixels)
    if header.kind in CHECKS:
        check_structure(content, header)
    if header.kind in TIFF:
        for page in read_pages(content):
            _check_size(page, max_pixels)
            _check_depth(page, page.channels, max_pixels)
    elif header.bits > 8:
        _check_depth(header, 3, max_pixels)
    return header


def decode_pixels(content: bytes, flags: int = cv2.IMREAD_COLOR, header: Optional[Header] = None) -> np.ndarray:
    """Return the pixels of an image that `check_image` accepted; `header` is what it returned.

    `flags`: OpenCV's other IMREAD flags, such as a reduced size; ignored for formats that OpenCV does not decode.
    Raises `ValueError` with the reason.
    """
    header = header or check_image(content)
    kind = "WEBP" if is_animated(content) else ISOLATED_FORMATS.get(header.kind)
    if header.kind in TIFF:
        page = read_size(content)
        if page.compression not in PLAIN_TIFF and page.bits <= 8:
            kind = "TIFF"
        elif page.compression not in PLAIN_TIFF:
            raise ValueError(f"a TIFF of {page.bits} bits, compression {page.compression}, is not supported")
        elif page.bits not in TIFF_SAMPLES.get(page.sample_format, ()):
            samples = SAMPLE_FORMATS.get(page.sample_format, "unknown")
            raise ValueError(f"a TIFF of {page.bits} bits, {samples} samples, is not supported")
    if kind:
        return _to_eight_bits(decode_isolated(content, kind, MAX_PIXELS), header)
    deep = flags == cv2.IMREAD_COLOR and (header.bits > 8 or header.largest not in (0, 255))
    if deep:
        flags = cv2.IMREAD_UNCHANGED if header.kind in TIFF else cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    if header.kind == PNG:
        content = strip_png(content)
    try:
        # Even so, OpenCV applies the orientation of every TIFF.
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ValueError(f"cannot be decoded: {error.err}") from None
    if image is None:
        raise ValueError(explain_unreadable(content))
    if deep:
        image = _to_eight_bits(image, header)
    return TURNS[header.orientation](image) if header.orientation in TURNS and header.kind not in TIFF else image


def _check_size(size: Union[Header, Page], max_pixels: float) -> None:
    if size.width * size.height > max_pixels:
        raise ValueError(f"{size.width}x{size.height} pixels, more than {max_pixels / 1e6:g} million")


def _check_depth(size: Union[Header, Page], channels: int, max_pixels: float) -> None:
    if size.width * size.height * channels * size.bits / 8 > MAX_BYTES_PER_PIXEL * max_pixels:
        limit = f"{MAX_BYTES_PER_PIXEL * max_pixels / 1e6:g} MB"
        raise ValueError(f"{size.width}x{size.height} pixels of {channels} times {size.bits} bits, more than {limit}")


def _to_eight_bits(image: np.ndarray, header: Header) -> np.ndarray:
    """Return an image of one, three or four channels of any sample type as (h, w, 3) BGR uint8, scaled by its range."""
    if image.ndim == 3 and image.shape[2] not in (1, 3, 4):
        raise ValueError(f"{image.shape[2]} channels are not supported")
    if image.dtype in (np.int8, np.int16):
        if image.min() < 0:
            raise ValueError("samples below zero are not supported")
        image = image.view(np.uint8 if image.dtype == np.int8 else np.uint16)
    if image.dtype.kind == "f":
        image = _scale_floats(image)
    elif header.kind in PNM and header.largest < 65535:
        if image.dtype != np.uint8 or header.kind not in ASCII_PNM:  # OpenCV scales these itself
            image = cv2.convertScaleAbs(image, alpha=255 / header.largest)
    elif image.dtype == np.uint16:
        image = _scale_deep(image, header.largest)
    channels = image.shape[2] if image.ndim == 3 else 1
    if channels == 3:
        return image
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR)


def _scale_floats(image: np.ndarray) -> np.ndarray:
    """Scale floats from 0 to 1 or 0 to 255 to uint8. Resampling and lossy compression may exceed the range a little."""
    if not np.isfinite(image).all():
        raise ValueError("floating-point samples are not finite")
    low, high = float(image.min()), float(image.max())
    white = 1 if high <= MAX_UNIT_RANGE else 255
    if low < -white / 4 or high > 1.25 * white + 1:
        raise ValueError(f"floating-point samples from {low:g} to {high:g}, not 0 to 1 or 0 to 255")
    return cv2.convertScaleAbs(np.maximum(image, 0, out=image), alpha=255 / white)


def _scale_deep(image: np.ndarray, white: int) -> np.ndarray:
    """Scale uint16 to uint8 by the range in use. `white`: the largest value by a PNG's sBIT, or 0 if unknown.

    The samples of a PNG should fill 16 bits whatever its sBIT; if none exceeds `white`, the writer did not spread them.
    """
    if white and white < 65535:
        shift = max(0, white.bit_length() - 8) if image.max() <= white else 8
    elif image.size <= LARGE:
        return scale_to_uint8(image)
    else:
        step = int(np.ceil(np.sqrt(image.size / LARGE)))
        shift = find_depth(np.append(image[::step, ::step], image.max())) - 8
    scaled = np.empty(image.shape, np.uint8)
    for rows, out in zip(image, scaled):  # row by row, to save memory
        np.minimum(rows >> shift, 255, out=out, casting="unsafe")
    return scaled
