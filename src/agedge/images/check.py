"""Check the structure of an encoded image before a native decoder reads it.

OpenCV 4.11 allocates whatever length a chunk declares, and its decoders of PNG, WebP and TIFF follow counts and offsets
of a damaged file. In an image that passes these checks all segments, chunks, strips and frames lie inside the file.
"""

import re
import struct
import zlib
from typing import Callable, Dict, List, Optional, Tuple

from agedge.images.header import (
    BMP,
    FRAMES,
    JPEG,
    OS2_BMP,
    PNG,
    TIFF,
    WEBP,
    Chunk,
    Header,
    match_pnm,
    png_chunks,
    read_webp_size,
    webp_chunks,
)
from agedge.images.tiff_pages import read_pages

DAMAGED = "truncated or damaged"
START_OF_IMAGE, END_OF_IMAGE, START_OF_SCAN = 0xD8, 0xD9, 0xDA
WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}  # markers without a segment: TEM, RST0..7, SOI
MAX_SCANS = 100  # of a progressive JPEG, each a pass over all pixels; 10 are common, libjpeg's fuzzing stops at 500
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # in a scan, FF 00 is a byte of data, FF D0 to D7 a restart
PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # by colour type
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PNG_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")  # chunks that the pixels need; the others are metadata
MAX_DEFLATE_RATIO = 1032  # bytes that one byte can inflate to (zlib, technical details)
BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
BMP_DEPTHS = {0: (1, 4, 8, 16, 24, 32), 1: (8,), 2: (4,), 3: (16, 32), 6: (16, 32)}  # by compression
PNM_BYTES = {b"P5": 1, b"P6": 3}


def check_structure(content: bytes, header: Header) -> None:
    """Raise `ValueError` with the reason if a JPEG, PNG, BMP, WebP, TIFF or PNM is truncated or damaged."""
    try:
        CHECKS[header.kind](content, header)
    except (struct.error, IndexError):
        raise ValueError(f"{DAMAGED}: ends in the middle of a header") from None


def check_jpeg(content: bytes, header: Header) -> None:
    """Raise `ValueError` if a segment of a JPEG exceeds the file, its frame is not valid, or its end is missing."""
    at, frames, scans = 2, 0, 0
    while marker := _MARKER.search(content, at):
        kind, at = content[marker.end() - 1], marker.end()
        if kind == END_OF_IMAGE:
            break
        if kind in WITHOUT_LENGTH:
            continue
        length = struct.unpack_from(">H", content, at)[0]
        if length < 2 or at + length > len(content):
            raise ValueError(f"{DAMAGED}: a segment exceeds the file")
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
    if scans > MAX_SCANS:
        raise ValueError(f"{scans} scans, more than {MAX_SCANS}")


def _check_frame(frame: bytes, header: Header) -> None:
    bits, height, width, channels = struct.unpack_from(">BHHB", frame)
    if bits != 8:
        raise ValueError(f"a JPEG of {bits} bits is not supported")
    if (width, height) != header[:2] or not width or not height or not 1 <= channels <= 4:
        raise ValueError(f"{DAMAGED}: a frame of {width}x{height} pixels, {channels} channels")
    factors = frame[7 : 6 + 3 * channels : 3]
    if len(frame) != 6 + 3 * channels or any(not (1 <= f >> 4 <= 4 and 1 <= f & 15 <= 4) for f in factors):
        raise ValueError(f"{DAMAGED}: invalid frame header")


def check_png(content: bytes, header: Header) -> None:
    """Raise `ValueError` if a PNG's chunks exceed the file, have wrong checksums or do not fit its header."""
    names, data = [], 0
    for name, start, end in png_chunks(content):
        if end + 4 > len(content):
            raise ValueError(f"{DAMAGED}: a chunk exceeds the file")
        if names and name == b"IHDR" or not names and name != b"IHDR":
            raise ValueError(
                f"{DAMAGED}: must begin with its only header"
                if name != b"CgBI"
                else "a PNG for iOS only is not supported"
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
    if data * MAX_DEFLATE_RATIO < row * header.height:
        raise ValueError(f"{DAMAGED}: too little data for {header.width}x{header.height} pixels")


def _check_png_chunk(name: bytes, data: bytes, before: List[bytes]) -> None:
    if name == b"IHDR":
        width, height, depth, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", data)
        if not width or not height or depth not in PNG_DEPTHS.get(colour, ()) or compression or filtering:
            raise ValueError(f"{DAMAGED}: invalid header")
        if interlace > 1:
            raise ValueError(f"{DAMAGED}: invalid header")
    elif name == b"PLTE" and (not data or len(data) % 3 or len(data) > 768 or {b"PLTE", b"IDAT"} & set(before)):
        raise ValueError(f"{DAMAGED}: invalid palette")
    elif name == b"tRNS" and (len(data) > 256 or {b"tRNS", b"IDAT"} & set(before)):
        raise ValueError(f"{DAMAGED}: invalid transparency")
    elif name == b"IDAT" and b"IDAT" in before and before[-1] != b"IDAT":
        raise ValueError(f"{DAMAGED}: its IDAT chunks are not consecutive")


def strip_png(content: bytes) -> bytes:
    """Return a PNG without animation, colour profile and texts, so that OpenCV 4.11 reads nothing but the pixels."""
    kept = [content[:8]]
    for name, start, end in png_chunks(content):
        if name in PNG_NEEDED:
            kept.append(content[start - 8 : end + 4])
        if name == b"IEND":
            break
    return b"".join(kept)


def check_webp(content: bytes, header: Header) -> None:
    """Raise `ValueError` if a WebP's chunks exceed the file, or its frames exceed its canvas."""
    end = 8 + struct.unpack_from("<I", content, 4)[0]
    if end > len(content):
        raise ValueError(DAMAGED)
    stills, frames = 0, 0
    for name, start, stop in webp_chunks(content, 12, end):
        if stop > end:
            raise ValueError(f"{DAMAGED}: a chunk exceeds the file")
        if name in (b"VP8 ", b"VP8L"):
            stills += 1
            _check_webp_frame(content, Chunk(name, start, stop), header[:2])
        elif name == b"ANMF":
            frames += 1
            left, top, width, height = (
                int.from_bytes(content[start + n : start + n + 3], "little") for n in (0, 3, 6, 9)
            )
            if 2 * left + width + 1 > header.width or 2 * top + height + 1 > header.height:
                raise ValueError(f"{DAMAGED}: a frame exceeds its canvas")
            inside = [chunk for chunk in webp_chunks(content, start + 16, stop) if chunk.name in (b"VP8 ", b"VP8L")]
            if len(inside) != 1 or any(chunk.end > stop for chunk in webp_chunks(content, start + 16, stop)):
                raise ValueError(f"{DAMAGED}: a frame must have one image")
            _check_webp_frame(content, inside[0], (width + 1, height + 1))
    animated = is_animated(content)
    if (stills, bool(frames)) != (0 if animated else 1, animated):
        raise ValueError(f"{DAMAGED}: {stills} images and {frames} frames")


def is_animated(content: bytes) -> bool:
    """Return whether a file is an animated WebP, of which OpenCV 4.11 returns frames that it failed to decode."""
    return content.startswith(WEBP) and content[12:16] == b"VP8X" and bool(content[20] & 2)


def _check_webp_frame(content: bytes, chunk: Chunk, size: Tuple[int, int]) -> None:
    name, start, end = chunk
    mark = content[start] == 0x2F if name == b"VP8L" else content[start + 3 : start + 6] == b"\x9d\x01\x2a"
    if end - start < 10 and name == b"VP8 " or not mark or read_webp_size(content, name, start) != size:
        raise ValueError(f"{DAMAGED}: an image does not have its declared size")


def check_bmp(content: bytes, header: Header) -> None:
    """Raise `ValueError` if a BMP's header is not valid, or if pixels are missing."""
    start, length = struct.unpack_from("<II", content, 10)
    if length not in BMP_HEADERS:
        raise ValueError(f"{DAMAGED}: invalid header")
    os2 = content[14:18] == OS2_BMP
    planes, depth = struct.unpack_from("<HH", content, 22 if os2 else 26)
    compression = 0 if os2 else struct.unpack_from("<I", content, 30)[0]
    colours = 0 if os2 else struct.unpack_from("<I", content, 46)[0]
    if depth not in BMP_DEPTHS.get(compression, ()) or colours > 256 or planes > 1:
        raise ValueError(f"a BMP of {depth} bits with compression {compression} and {colours} colours is not supported")
    if not header.width or not header.height or not 14 + length <= start < len(content):
        raise ValueError(f"{DAMAGED}: invalid header")
    if compression not in (1, 2):  # rows of a fixed length
        row = (header.width * depth + 31) // 32 * 4
        if start + row * (header.height - 1) + (header.width * depth + 7) // 8 > len(content):
            raise ValueError("truncated")


def check_tiff(content: bytes, header: Optional[Header] = None) -> None:
    """Raise `ValueError` if a page of a TIFF is not completely inside the file."""
    try:
        read_pages(content)
    except ValueError as error:
        raise ValueError(f"{DAMAGED}: {error}") from None


def check_pnm(content: bytes, header: Header) -> None:
    """Raise `ValueError` if a PBM, PGM or PPM has too few pixels for its size."""
    start = match_pnm(content)
    if start is None:
        raise ValueError(f"{DAMAGED}: invalid header")
    pixels, left = header.width * header.height, len(content) - start.end()
    if not pixels or header.largest > 65535 or (not header.largest and header.kind not in (b"P1", b"P4")):
        raise ValueError(f"{DAMAGED}: invalid header")
    if header.kind in PNM_BYTES:
        needed = pixels * PNM_BYTES[header.kind] * (2 if header.bits == 16 else 1)
    elif header.kind == b"P4":
        needed = (header.width + 7) // 8 * header.height
    else:  # in ASCII: one digit per sample, and a blank between samples except in P1
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
