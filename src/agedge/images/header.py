"""Read the header of an encoded image (size, orientation, depth) without decoding its pixels.

An image of 200 megapixels can then be refused before it takes 600 MB, and a JPEG can be stored without decoding it.
"""

import re
import struct
from typing import Iterator, NamedTuple, Optional, Tuple

from agedge.images import tiff_pages

JPEG, PNG, BMP, WEBP = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF"
TIFF, JP2, JPEG_2000 = (b"II*\0", b"MM\0*"), b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"
GIF, AVIF, HEIC = (b"GIF87a", b"GIF89a"), b"avif", b"heic"
_SPACE = rb"\s+(?:#[^\n]*\n\s*)*"  # whitespace and comments
PNM_BITS = re.compile(rb"(P[14])" + _SPACE + rb"(\d{1,9})" + _SPACE + rb"(\d{1,9})()\s")
PNM = re.compile(rb"(P[2356])" + 3 * (_SPACE + rb"(\d{1,9})") + rb"\s")  # with the largest value, white
AVIF_BRANDS = {b"avif", b"avis"}
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
OS2_BMP = b"\x0c\0\0\0"  # the length of its header
UPRIGHT = 1  # of EXIF's eight orientations
START_OF_SCAN, END_OF_IMAGE, EXIF = 0xDA, b"\xff\xd9", 0xE1
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # SOF0..15; these three are DHT, JPG and DAC
HEIF_TURNS = (1, 8, 3, 6)  # EXIF orientation by quarter turns to the left (ISO 23008-12, irot)
HEIF_MIRRORED = {1: (4, 2), 8: (5, 7), 3: (2, 4), 6: (7, 5)}  # the same, then mirrored top to bottom or left to right


class Header(NamedTuple):
    """What the header of an encoded image declares."""

    width: int  # pixels, as stored
    height: int
    kind: bytes  # the signature of the format
    channels: int = 0  # known for JPEG only
    orientation: int = UPRIGHT  # 1 to 8, as in EXIF
    scan: int = 2  # byte offset of the first scan of a JPEG
    bits: int = 8  # per sample
    largest: int = 0  # the value of white of a PGM, a PPM or the sBIT of a PNG; 0 if not declared


class Chunk(NamedTuple):
    """A chunk or box of a file: its name, and the byte offsets of its data, which may exceed the file."""

    name: bytes
    start: int
    end: int


def read_header(content: bytes) -> Optional[Header]:
    """Return the header of a JPEG, PNG, BMP, WebP, TIFF, PNM, GIF, JPEG 2000, AVIF or HEIC.

    None if the format is another one or the header is damaged.
    """
    try:
        for signature, read in READERS:
            if content.startswith(signature):
                return read(content)
        if content[4:8] == b"ftyp":
            return _read_heif(content)
        return _read_pnm(content)
    except (struct.error, KeyError, ValueError, IndexError):
        return None


def is_truncated(content: bytes, header: Optional[Header]) -> bool:
    """Return whether the end of a JPEG or PNG is missing. OpenCV would silently fill the rest with grey."""
    if content.startswith(PNG):
        return b"IEND" not in content
    # Within a scan every other FF is followed by 00 or a restart marker.
    return content.startswith(JPEG) and content.rfind(END_OF_IMAGE, header.scan if header else 2) < 0


def read_orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8, in the first directory of EXIF's TIFF block; 1 if it is missing."""
    exif = exif[6:] if exif.startswith(b"Exif\0\0") else exif
    try:
        return tiff_pages.find_orientation(exif)
    except (struct.error, KeyError, ValueError):
        return UPRIGHT


def webp_chunks(content: bytes, at: int = 12, end: Optional[int] = None) -> Iterator[Chunk]:
    """Yield the chunks of a RIFF file between two offsets."""
    end = len(content) if end is None else end
    while at + 8 <= end:
        name, length = struct.unpack_from("<4sI", content, at)
        yield Chunk(name, at + 8, at + 8 + length)
        at += 8 + length + length % 2


def png_chunks(content: bytes) -> Iterator[Chunk]:
    """Yield the chunks of a PNG."""
    at = len(PNG)
    while at + 8 <= len(content):
        length, name = struct.unpack_from(">I4s", content, at)
        yield Chunk(name, at + 8, at + 8 + length)
        at += 12 + length


def boxes(content: bytes, at: int, end: int) -> Iterator[Chunk]:
    """Yield the boxes of an ISO base media file (ISO 14496-12) between two offsets."""
    while at + 8 <= end:
        length, name = struct.unpack_from(">I4s", content, at)
        if length < 8:  # 0: up to the end of the file, 1: a length of 64 bits; these are pixels, not a header
            length = end - at
        yield Chunk(name, at + 8, min(at + length, end))
        at += length


def _segments(content: bytes) -> Iterator[Tuple[int, int, int]]:
    """Yield (marker, start of the data, end) for each segment of a JPEG before the first scan."""
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
            orientation = read_orientation(content[start:end])
        elif marker in FRAMES and frame is None:
            frame = struct.unpack_from(">BHHB", content, start)
    if frame is None:
        return None
    bits, height, width, channels = frame
    return Header(width, height, JPEG, channels, orientation, end, bits)


def _read_png(content: bytes) -> Header:
    orientation, bits, largest = UPRIGHT, content[24], 0
    for name, start, end in png_chunks(content):
        if name == b"eXIf":
            orientation = read_orientation(content[start:end])
        elif name == b"sBIT" and bits == 16 and content[start:end]:
            largest = 2 ** min(16, max(content[start:end])) - 1
    width, height = struct.unpack_from(">II", content, 16)
    return Header(width, height, PNG, orientation=orientation, bits=bits, largest=largest)


def _read_bmp(content: bytes) -> Header:
    form = "<HH" if content[14:18] == OS2_BMP else "<ii"
    width, height = struct.unpack_from(form, content, 18)
    return Header(abs(width), abs(height), BMP)


def _read_webp(content: bytes) -> Header:
    """Return the header of a WebP (RFC 9649): lossy, lossless or extended."""
    kind = content[12:16]
    if content[8:12] != b"WEBP":
        raise ValueError("another kind of RIFF")
    if kind != b"VP8X":
        return Header(*read_webp_size(content, kind, 20), WEBP)
    exif = next((content[start:end] for name, start, end in webp_chunks(content) if name == b"EXIF"), b"")
    width, height = (1 + int.from_bytes(content[at : at + 3], "little") for at in (24, 27))
    return Header(width, height, WEBP, orientation=read_orientation(exif))


def read_webp_size(content: bytes, kind: bytes, start: int) -> Tuple[int, int]:
    """Return (width, height) of the chunk `VP8 ` or `VP8L` of a WebP whose data begin at `start`."""
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", content, start + 1)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", content, start + {b"VP8 ": 6}[kind])
    return width & 0x3FFF, height & 0x3FFF


def _read_tiff(content: bytes) -> Header:
    page = tiff_pages.read_size(content)
    return Header(page.width, page.height, content[:4], orientation=page.orientation, bits=page.bits)


def match_pnm(content: bytes) -> Optional[re.Match]:
    """Return the match of a PBM, PGM or PPM header: kind, width, height, value of white (empty for a PBM)."""
    return PNM.match(content) or PNM_BITS.match(content)


def _read_pnm(content: bytes) -> Optional[Header]:
    if not (pnm := match_pnm(content)):
        return None
    largest = int(pnm[4] or 1)
    bits = 8 if largest < 256 else 16
    return Header(int(pnm[2]), int(pnm[3]), pnm[1], bits=bits, largest=largest if pnm[4] else 0)


def _read_gif(content: bytes) -> Header:
    width, height = struct.unpack_from("<HH", content, 6)
    return Header(width, height, content[:6])


def _read_jpeg_2000(content: bytes) -> Header:
    """Return the header of a JP2 file, from its image header box, or of a codestream, from its SIZ segment."""
    if content.startswith(JPEG_2000):
        right, bottom, left, top = struct.unpack_from(">IIII", content, 8)
        return Header(right - left, bottom - top, JPEG_2000)
    height, width = struct.unpack_from(">II", content, content.index(b"ihdr") + 4)
    return Header(width, height, JP2)


def _read_heif(content: bytes) -> Optional[Header]:
    """Return the header of the largest image in an AVIF or HEIC; the others are tiles of it or previews."""
    length = struct.unpack_from(">I", content)[0]
    brands = {content[at : at + 4] for at in (8, *range(16, min(length, 256), 4))}
    if not brands & (AVIF_BRANDS | HEIC_BRANDS):
        return None
    found = [Chunk(b"meta", 0, len(content))]
    for name, skipped in ((b"meta", 0), (b"iprp", 4), (b"ipco", 0)):
        found = [box for box in boxes(content, found[0].start + skipped, found[0].end) if box.name == name]
    sizes, turn, mirror = [], 0, None
    for name, start, _ in boxes(content, found[0].start, found[0].end):
        if name == b"ispe":
            sizes.append(struct.unpack_from(">II", content, start + 4))
        elif name == b"irot":
            turn = content[start] & 3
        elif name == b"imir":
            mirror = content[start] & 1
    orientation = HEIF_TURNS[turn] if mirror is None else HEIF_MIRRORED[HEIF_TURNS[turn]][mirror]
    kind = AVIF if brands & AVIF_BRANDS else HEIC
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return Header(width, height, kind, orientation=orientation)


READERS = (
    (JPEG, _read_jpeg),
    (PNG, _read_png),
    (BMP, _read_bmp),
    (WEBP, _read_webp),
    (TIFF, _read_tiff),
    (GIF, _read_gif),
    ((JP2, JPEG_2000), _read_jpeg_2000),
)
