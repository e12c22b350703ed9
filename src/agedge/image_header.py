"""What an encoded image says of itself before a pixel is decoded: its size, its orientation, whether its end is there.

So that an image of 200 megapixels is refused before it takes 600 MB, and a JPEG that is to stay as it is can.
"""

import re
import struct
from typing import Iterator, NamedTuple, Optional

JPEG, PNG, BMP, WEBP = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF"
TIFF, JP2, JPEG_2000 = (b"II*\0", b"MM\0*"), b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"
PNM = re.compile(rb"(P[1-6])\s+(?:#[^\n]*\n\s*)*(\d{1,9})\s+(?:#[^\n]*\n\s*)*(\d{1,9})\s")
OS2_BMP = b"\x0c\0\0\0"  # the length of its header
UPRIGHT = 1  # of EXIF's eight orientations
START_OF_SCAN, END_OF_IMAGE, EXIF = 0xDA, b"\xff\xd9", 0xE1
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # SOF0..15; these three are tables
WIDTH, HEIGHT, ORIENTATION = 0x0100, 0x0101, 0x0112  # TIFF's tags, which EXIF has as well
LONG = 4  # of TIFF's kinds of numbers; the others that a size or an orientation comes in begin with 16 bits


class Header(NamedTuple):
    """`width` and `height` in pixels, as stored; `kind`: the signature of the format. Known of a JPEG only: `channels`,
    `orientation` (1 to 8), and where its `scan` begins."""

    width: int
    height: int
    kind: bytes
    channels: int = 0
    orientation: int = UPRIGHT
    scan: int = 2


def read_header(content: bytes) -> Optional[Header]:
    """The header of a JPEG, PNG, BMP, WebP, TIFF, PNM or JPEG 2000; None of another format, or where it is damaged."""
    try:
        if content.startswith(JPEG):
            return _read_jpeg(content)
        if content.startswith(PNG):
            return Header(*struct.unpack_from(">II", content, 16), PNG)
        if content.startswith(BMP):
            form = "<HH" if content[14:18] == OS2_BMP else "<ii"
            width, height = struct.unpack_from(form, content, 18)
            return Header(abs(width), abs(height), BMP)
        if content.startswith(WEBP) and content[8:12] == b"WEBP":
            return Header(*_read_webp(content), WEBP)
        if content.startswith(TIFF):
            entries = dict(_read_directory(content))
            return Header(entries[WIDTH], entries[HEIGHT], content[:4])
        if content.startswith((JP2, JPEG_2000)):
            return Header(*_read_jpeg_2000(content), content[:4])
        if pnm := PNM.match(content):
            return Header(int(pnm[2]), int(pnm[3]), pnm[1])
    except (struct.error, KeyError, ValueError):
        pass
    return None


def is_cut_off(content: bytes, header: Optional[Header]) -> bool:
    """Whether a JPEG or PNG lacks its end: OpenCV would fill the rest with grey and say nothing."""
    if content.startswith(PNG):
        return b"IEND" not in content
    # Within a scan every other FF is followed by 00 or a restart marker.
    return content.startswith(JPEG) and content.rfind(END_OF_IMAGE, header.scan if header else 2) < 0


def _segments(content: bytes):
    """(marker, start, end) of the JPEG segments before the scan; `start` is that of the segment's data."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != START_OF_SCAN:
        if content[at + 1] == 0xFF:  # a fill byte
            at += 1
            continue
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        yield content[at + 1], at + 4, end
        at = end


def _read_jpeg(content: bytes) -> Optional[Header]:
    orientation, frame, end = UPRIGHT, None, 2
    for marker, start, end in _segments(content):
        if marker == EXIF and content[start : start + 6] == b"Exif\0\0":
            orientation = _read_orientation(content[start + 6 : end])
        elif marker in FRAMES and frame is None:
            frame = struct.unpack_from(">xHHB", content, start)
    if frame is None:
        return None
    height, width, channels = frame
    return Header(width, height, JPEG, channels, orientation, end)


def _read_orientation(tiff: bytes) -> int:
    """The orientation in the first directory of EXIF's TIFF block."""
    try:
        value = next((value for tag, value in _read_directory(tiff) if tag == ORIENTATION), UPRIGHT)
    except (struct.error, KeyError):
        return UPRIGHT
    return value if 1 <= value <= 8 else UPRIGHT


def _read_directory(tiff: bytes) -> Iterator[tuple]:
    """(tag, value) of what the first directory of a TIFF block holds, as if each entry were one number."""
    order = {b"II": "<", b"MM": ">"}[tiff[:2]]
    first = struct.unpack_from(order + "I", tiff, 4)[0]
    for entry in range(struct.unpack_from(order + "H", tiff, first)[0]):
        at = first + 2 + 12 * entry
        tag, kind = struct.unpack_from(order + "HH", tiff, at)
        yield tag, struct.unpack_from(order + ("I" if kind == LONG else "H"), tiff, at + 8)[0]


def _read_webp(content: bytes) -> tuple:
    """(width, height) of the three kinds of WebP (RFC 9649): lossy, lossless, extended."""
    kind = content[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(content[24:27], "little"), 1 + int.from_bytes(content[27:30], "little")
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", content, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", content, {b"VP8 ": 26}[kind])
    return width & 0x3FFF, height & 0x3FFF


def _read_jpeg_2000(content: bytes) -> tuple:
    """(width, height) of a JP2 file, from its image header box, or of a bare codestream, from its SIZ segment."""
    if content.startswith(JPEG_2000):
        right, bottom, left, top = struct.unpack_from(">IIII", content, 8)
        return right - left, bottom - top
    height, width = struct.unpack_from(">II", content, content.index(b"ihdr") + 4)
    return width, height
