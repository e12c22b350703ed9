"""The structure of an encoded image, walked before a native decoder sees it.

OpenCV 4.11 takes the memory that a chunk's length asks for, and its decoders of PNG, WebP and TIFF follow counts and
offsets that a damaged file may hold. What passes here has its segments, chunks, strips and frames inside the file.
"""

import re
import struct
import zlib
from typing import Callable, Dict, Optional

from agedge.images.header import (
    BMP,
    FRAMES,
    JPEG,
    OS2_BMP,
    PNG,
    TIFF,
    WEBP,
    Header,
    match_pnm,
    png_chunks,
    read_webp_size,
    webp_chunks,
)
from agedge.images.tiff_pages import read_pages

DAMAGED = "truncated or damaged"
START_OF_IMAGE, END_OF_IMAGE, START_OF_SCAN = 0xD8, 0xD9, 0xDA
WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}  # markers that stand alone: TEM, RST0..7, SOI
MOST_SCANS = 100  # of a progressive JPEG, each a pass over all pixels; usual are 10, libjpeg's own fuzzing stops at 500
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # in a scan, FF 00 is a byte of data, FF D0 to D7 a restart
PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # by colour type
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PNG_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")  # for its pixels; the others say more about them
MOST_INFLATED = 1032  # bytes that deflate makes of one (zlib, technical details)
BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
BMP_DEPTHS = {0: (1, 4, 8, 16, 24, 32), 1: (8,), 2: (4,), 3: (16, 32), 6: (16, 32)}  # by compression
PNM_BYTES = {b"P5": 1, b"P6": 3}


def check_structure(content: bytes, header: Header) -> None:
    """Raise `ValueError` with the reason where a JPEG, PNG, BMP, WebP, TIFF or PNM is not whole or not sane."""
    try:
        CHECKS[header.kind](content, header)
    except (struct.error, IndexError):
        raise ValueError(f"{DAMAGED}: it ends in the middle of a header") from None


def check_jpeg(content: bytes, header: Header) -> None:
    """Raise `ValueError` where the segments of a JPEG leave the file, its frame is not one, or it has no end."""
    at, frames, scans = 2, 0, 0
    while marker := _MARKER.search(content, at):
        kind, at = content[marker.end() - 1], marker.end()
        if kind == END_OF_IMAGE:
            break
        if kind in WITHOUT_LENGTH:
            continue
        length = struct.unpack_from(">H", content, at)[0]
        if length < 2 or at + length > len(content):
            raise ValueError(f"{DAMAGED}: a segment ends behind the file")
        if kind in FRAMES:
            frames += 1
            _check_frame(content[at + 2 : at + length], header)
        elif kind == START_OF_SCAN:
            scans += 1
        at += length
    else:
        raise ValueError("truncated")
    if frames != 1 or not scans:
        raise ValueError(f"{DAMAGED}: {frames} frames and {scans} scans")
    if scans > MOST_SCANS:
        raise ValueError(f"{scans} scans, more than {MOST_SCANS}")


def _check_frame(frame: bytes, header: Header) -> None:
    bits, height, width, channels = struct.unpack_from(">BHHB", frame)
    if bits != 8:
        raise ValueError(f"a JPEG of {bits} bits, which is not read")
    if (width, height) != header[:2] or not width or not height or not 1 <= channels <= 4:
        raise ValueError(f"{DAMAGED}: a frame of {width}x{height} pixels, {channels} channels")
    factors = frame[7 : 6 + 3 * channels : 3]
    if len(frame) != 6 + 3 * channels or any(not (1 <= f >> 4 <= 4 and 1 <= f & 15 <= 4) for f in factors):
        raise ValueError(f"{DAMAGED}: its frame header")


def check_png(content: bytes, header: Header) -> None:
    """Raise `ValueError` where a PNG's chunks leave the file have wrong checksums or do not fit its header."""
    names, data = [], 0
    for name, start, end in png_chunks(content):
        if end + 4 > len(content):
            raise ValueError(f"{DAMAGED}: a chunk ends behind the file")
        if names and name == b"IHDR" or not names and name != b"IHDR":
            raise ValueError(
                f"{DAMAGED}: its header is not first and once" if name != b"CgBI" else "a PNG for iOS only"
            )
        if name in PNG_NEEDED:
            if zlib.crc32(content[start - 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
                raise ValueError(f"{DAMAGED}: the checksum of chunk {name.decode()} is wrong")
            _check_png_chunk(name, content[start:end], names)
            data += (end - start) * (name == b"IDAT")
        elif not name.isalpha() or name[:1].isupper():
            raise ValueError(f"{DAMAGED}: an unknown chunk")
        names.append(name)
        if name == b"IEND":
            break
    depth, colour = content[24:26]
    if names[-1:] != [b"IEND"] or b"IDAT" not in names or (colour == 3 and b"PLTE" not in names):
        raise ValueError(f"{DAMAGED}: a chunk is missing")
    row = (header.width * depth * PNG_CHANNELS[colour] + 7) // 8
    if data * MOST_INFLATED < row * header.height:
        raise ValueError(f"{DAMAGED}: too little data for {header.width}x{header.height} pixels")


def _check_png_chunk(name: bytes, data: bytes, before: list) -> None:
    if name == b"IHDR":
        width, height, depth, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", data)
        if not width or not height or depth not in PNG_DEPTHS.get(colour, ()) or compression or filtering:
            raise ValueError(f"{DAMAGED}: its header")
        if interlace > 1:
            raise ValueError(f"{DAMAGED}: its header")
    elif name == b"PLTE" and (not data or len(data) % 3 or len(data) > 768 or {b"PLTE", b"IDAT"} & set(before)):
        raise ValueError(f"{DAMAGED}: its palette")
    elif name == b"tRNS" and (len(data) > 256 or {b"tRNS", b"IDAT"} & set(before)):
        raise ValueError(f"{DAMAGED}: its transparency")
    elif name == b"IDAT" and b"IDAT" in before and before[-1] != b"IDAT":
        raise ValueError(f"{DAMAGED}: its data are in several places")


def strip_png(content: bytes) -> bytes:
    """Return a PNG with nothing but its pixels: OpenCV 4.11 sees neither animation nor colour profile nor texts."""
    kept = [content[:8]]
    for name, start, end in png_chunks(content):
        if name in PNG_NEEDED:
            kept.append(content[start - 8 : end + 4])
        if name == b"IEND":
            break
    return b"".join(kept)


def check_webp(content: bytes, header: Header) -> None:
    """Raise `ValueError` where a WebP's chunks leave the file, or its frames its canvas."""
    end = 8 + struct.unpack_from("<I", content, 4)[0]
    if end > len(content):
        raise ValueError(DAMAGED)
    stills, frames = 0, 0
    for name, start, stop in webp_chunks(content, 12, end):
        if stop > end:
            raise ValueError(f"{DAMAGED}: a chunk ends behind the file")
        if name in (b"VP8 ", b"VP8L"):
            stills += 1
            _check_webp_frame(content, name, start, stop, header[:2])
        elif name == b"ANMF":
            frames += 1
            left, top, width, height = (
                int.from_bytes(content[start + n : start + n + 3], "little") for n in (0, 3, 6, 9)
            )
            if 2 * left + width + 1 > header.width or 2 * top + height + 1 > header.height:
                raise ValueError(f"{DAMAGED}: a frame leaves its canvas")
            inside = [chunk for chunk in webp_chunks(content, start + 16, stop) if chunk[0] in (b"VP8 ", b"VP8L")]
            if len(inside) != 1 or any(chunk[2] > stop for chunk in webp_chunks(content, start + 16, stop)):
                raise ValueError(f"{DAMAGED}: a frame without its picture")
            _check_webp_frame(content, *inside[0], (width + 1, height + 1))
    animated = is_animated(content)
    if (stills, bool(frames)) != (0 if animated else 1, animated):
        raise ValueError(f"{DAMAGED}: {stills} pictures and {frames} frames")


def is_animated(content: bytes) -> bool:
    """Return whether a file is an animated WebP: OpenCV 4.11 reads a frame that it could not decode."""
    return content.startswith(WEBP) and content[12:16] == b"VP8X" and bool(content[20] & 2)


def _check_webp_frame(content: bytes, name: bytes, start: int, end: int, size: tuple) -> None:
    mark = content[start] == 0x2F if name == b"VP8L" else content[start + 3 : start + 6] == b"\x9d\x01\x2a"
    if end - start < 10 and name == b"VP8 " or not mark or read_webp_size(content, name, start) != tuple(size):
        raise ValueError(f"{DAMAGED}: a picture that is not of its size")


def check_bmp(content: bytes, header: Header) -> None:
    """Raise `ValueError` where a BMP's header is not one, or its pixels are not all there."""
    start, length = struct.unpack_from("<II", content, 10)
    if length not in BMP_HEADERS:
        raise ValueError(f"{DAMAGED}: its header")
    os2 = content[14:18] == OS2_BMP
    planes, depth = struct.unpack_from("<HH", content, 22 if os2 else 26)
    compression = 0 if os2 else struct.unpack_from("<I", content, 30)[0]
    colours = 0 if os2 else struct.unpack_from("<I", content, 46)[0]
    if depth not in BMP_DEPTHS.get(compression, ()) or colours > 256 or planes > 1:
        raise ValueError(f"a BMP of {depth} bits, compression {compression}, {colours} colours, which is not read")
    if not header.width or not header.height or not 14 + length <= start < len(content):
        raise ValueError(f"{DAMAGED}: its header")
    if compression not in (1, 2):  # of a fixed length
        row = (header.width * depth + 31) // 32 * 4
        if start + row * (header.height - 1) + (header.width * depth + 7) // 8 > len(content):
            raise ValueError("truncated")


def check_tiff(content: bytes, header: Optional[Header] = None) -> None:
    """Raise `ValueError` where a page of a TIFF is not all in the file."""
    try:
        read_pages(content)
    except ValueError as error:
        raise ValueError(f"{DAMAGED}: {error}") from None


def check_pnm(content: bytes, header: Header) -> None:
    """Raise `ValueError` where a PBM, PGM or PPM has too few pixels for its size."""
    pixels, left = header.width * header.height, len(content) - match_pnm(content).end()
    if not pixels or header.largest > 65535 or (not header.largest and header.kind not in (b"P1", b"P4")):
        raise ValueError(f"{DAMAGED}: its header")
    if header.kind in PNM_BYTES:
        needed = pixels * PNM_BYTES[header.kind] * (2 if header.bits == 16 else 1)
    elif header.kind == b"P4":
        needed = (header.width + 7) // 8 * header.height
    else:  # in digits: with a blank between, but for P1
        needed = {b"P1": pixels, b"P2": 2 * pixels - 1, b"P3": 6 * pixels - 1}[header.kind]
    if needed > left:
        raise ValueError("truncated")


CHECKS: Dict[bytes, Callable[[bytes, Header], None]] = {
    JPEG: check_jpeg,
    PNG: check_png,
    BMP: check_bmp,
    WEBP: check_webp,
    **dict.fromkeys(TIFF, check_tiff),
    **dict.fromkeys((b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"), check_pnm),
}
