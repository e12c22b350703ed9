"""Recognise images, videos and other files by their first bytes."""

import re
from typing import Iterable, Optional, Tuple

from agedge.images.header import AVIF_BRANDS, BMP, GIF, HEIC_BRANDS, JP2, JPEG, JPEG_2000, PNG, PNM, PNM_BITS, TIFF

IMAGES = (JPEG, PNG[:4], BMP, *TIFF, *GIF, JP2, JPEG_2000)
OTHER_FORMATS = (  # signatures from the specifications of the formats
    (rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--.{,400}?-->\s*)?(<!DOCTYPE svg[^>]*>\s*)?<svg", "an SVG"),
    (rb"(\xef\xbb\xbf)?\s*(<!doctype html|<html|<head)", "an HTML page"),
    (rb"version https://git-lfs", "a Git LFS pointer: the file itself has not been downloaded"),
    (rb"%PDF-", "a PDF"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "PostScript"),
    (rb"8BP[SB]", "a PSD"),
    (rb"PK\x03\x04[\x01-\x3f]", "a ZIP archive"),
    (rb"\x1f\x8b\x08", "a gzip archive"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (rb"Rar!\x1a\x07", "a RAR archive"),
    (rb"#\?(RADIANCE|RGBE)", "Radiance HDR"),
    (rb"\x76\x2f\x31\x01", "OpenEXR"),
    (rb"\x59\xa6\x6a\x95", "Sun raster"),
    (rb"P7\s", "a PAM"),
    (rb"P[Ff]\s", "a PFM"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "JPEG XL"),
    (rb"\0\0[\x01\x02]\0[\x01-\xff]\0", "an ICO or CUR"),
    (rb"(II\+\0|MM\0\+)", "a BigTIFF"),
    (rb"(IIRO|IIRS|MMOR|IIU\0|FUJIFILMCCD-RAW|.{4}ftypcrx )", "a camera's raw file"),
    (rb"AT&TFORM", "a DjVu"),
    (rb"SIMPLE  =", "a FITS"),
    (rb"\x89HDF\r\n", "an HDF5"),
    (rb"\x93NUMPY", "a NumPy array"),
    (rb"gimp xcf", "a GIMP image"),
    (rb"\x8aMNG", "an MNG"),
    (rb"ID3|fLaC|RIFF.{4}WAVE", "a sound file"),
)
VIDEOS = (
    (rb".{4}(ftyp|moov|mdat|wide|free|skip)", "a video (MP4, QuickTime)"),
    (rb"RIFF.{4}AVI ", "a video (AVI)"),
    (rb"\x1a\x45\xdf\xa3", "a video (Matroska, WebM)"),
    (rb"FLV\x01", "a video (Flash)"),
    (rb"OggS", "a video (Ogg)"),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a video (Windows Media)"),
    (rb"\x47.{187}\x47|.{4}\x47.{191}\x47", "a video (MPEG-TS)"),
    (rb"\0\0\x01[\xb3\xba]", "a video (MPEG)"),
    (rb"\0\0\0?\x01[\x67\x27\x09\x40\x42]", "a video (H.264, H.265)"),
    (rb"\x2eRMF", "a video (RealMedia)"),
    (rb"YUV4MPEG2 ", "a video (YUV4MPEG)"),
)


def is_image(content: bytes) -> bool:
    """Return whether bytes begin like an image of a supported format."""
    if content[4:8] == b"ftyp":
        return content[8:12] in AVIF_BRANDS | HEIC_BRANDS
    webp = content.startswith(b"RIFF") and content[8:12] in (b"WEBP", b"")
    return webp or content.startswith(IMAGES) or bool(PNM.match(content) or PNM_BITS.match(content))


def is_video(content: bytes) -> bool:
    """Return whether bytes begin like a video."""
    return not is_image(content) and _find(VIDEOS, content) is not None


def is_text(content: bytes) -> bool:
    """Return whether bytes begin like a text."""
    head = content[:1024]
    return b"\0" not in head and sum(byte < 32 and byte not in b"\t\n\r\f" for byte in head) == 0


def explain_unreadable(content: bytes) -> str:
    """Return why bytes cannot be decoded as an image."""
    if not content:
        return "empty file"
    if is_image(content):
        return "truncated or damaged"
    if name := _find(OTHER_FORMATS, content) or _find(VIDEOS, content):
        return f"not an image of a known format ({name})"
    return "not an image (a text file?)" if is_text(content) else "not an image of a known format"


def _find(formats: Iterable[Tuple[bytes, str]], content: bytes) -> Optional[str]:
    head = content[:1024]
    return next((name for pattern, name in formats if re.match(pattern, head, re.DOTALL | re.IGNORECASE)), None)
