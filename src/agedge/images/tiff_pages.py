"""Read the pages of a TIFF file without decoding them: sizes, depths and the offsets of the pixels (TIFF 6.0, 1992).

EXIF uses the same directory. A file with two entries of the same tag is refused, because libtiff uses the first one and
other readers use the last.
"""

import struct
from typing import Dict, Iterator, List, NamedTuple, Tuple

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIPS, ORIENTATION, CHANNELS = 256, 257, 258, 259, 262, 273, 274, 277
ROWS_PER_STRIP, STRIP_LENGTHS, PLANAR, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_LENGTHS = 278, 279, 284, 322, 323, 324, 325
SAMPLE_FORMAT = 339
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}  # bytes of a value, by type
WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I"}  # the types of sizes and offsets
UNSIGNED, SIGNED, FLOATING = 1, 2, 3  # sample formats
NO_COMPRESSION = 1
MAX_ENTRIES = 100_000  # in all directories; reading them takes a third of a second
MAX_TILE_EXCESS = 16e6  # pixels of a tile beyond its page: a decoder allocates a whole tile

Entries = Dict[int, Tuple[int, int, int]]  # by tag: (type, count, offset of the values)


class Page(NamedTuple):
    """What the directory of a page declares."""

    width: int  # pixels, as stored
    height: int
    orientation: int = 1  # 1 to 8, as in EXIF
    bits: int = 1  # per sample
    channels: int = 1
    sample_format: int = UNSIGNED  # or SIGNED, FLOATING
    compression: int = NO_COMPRESSION


def read_size(content: bytes) -> Page:
    """Return the first page. Raises `ValueError`, `KeyError` or `struct.error` if it cannot be read."""
    order, at = _read_start(content)
    return _read_page(content, order, _read_entries(content, order, at)[0])


def find_orientation(content: bytes) -> int:
    """Return the orientation, 1 to 8, in the first directory; 1 if it is missing. Other entries are not checked."""
    order, at = _read_start(content)
    for tag, kind, _, place in _list_entries(content, order, at):
        if tag == ORIENTATION:
            value = struct.unpack_from(order + WHOLE_NUMBERS.get(kind, "H"), content, place)[0]
            return value if 1 <= value <= 8 else 1
    return 1


def read_pages(content: bytes) -> List[Page]:
    """Return all pages. Raises `ValueError` if an offset that a decoder follows lies outside the file."""
    try:
        order, at = _read_start(content)
        pages, seen, count = [], set(), 0
        while at:
            if at in seen:
                raise ValueError("the pages form a loop")
            seen.add(at)
            entries, following = _read_entries(content, order, at)
            count += len(entries)
            if count > MAX_ENTRIES:
                raise ValueError(f"more than {MAX_ENTRIES:,} entries in its directories")
            pages.append(_read_page(content, order, entries))
            _check_pixels(content, order, entries, pages[-1])
            at = following
        return pages
    except KeyError as error:
        raise ValueError(f"entry {error} is missing in a directory") from None
    except struct.error:
        raise ValueError("a directory exceeds the file") from None


def _read_start(content: bytes) -> Tuple[str, int]:
    """Return (byte order for `struct`, offset of the first directory)."""
    order = {b"II": "<", b"MM": ">"}[content[:2]]
    return order, struct.unpack_from(order + "I", content, 4)[0]


def _list_entries(content: bytes, order: str, at: int) -> Iterator[Tuple[int, int, int, int]]:
    """Yield (tag, type, count, offset of the values) for each entry of a directory."""
    for number in range(struct.unpack_from(order + "H", content, at)[0]):
        place = at + 2 + 12 * number
        tag, kind, count = struct.unpack_from(order + "HHI", content, place)
        if SIZES.get(kind, 0) * count > 4:
            yield tag, kind, count, struct.unpack_from(order + "I", content, place + 8)[0]
        else:
            yield tag, kind, count, place + 8


def _read_entries(content: bytes, order: str, at: int) -> Tuple[Entries, int]:
    """Return the entries of a directory, and the offset of the next directory, 0 after the last."""
    entries: Entries = {}
    for tag, kind, count, place in _list_entries(content, order, at):
        if tag in entries:
            raise ValueError(f"two entries {tag} in a directory")
        if place + SIZES.get(kind, 0) * count > len(content):
            raise ValueError(f"entry {tag} exceeds the file")
        entries[tag] = kind, count, place
    end = at + 2 + 12 * len(entries)
    return entries, struct.unpack_from(order + "I", content, end)[0] if end + 4 <= len(content) else 0


def _numbers(content: bytes, order: str, entries: Entries, tag: int) -> Tuple[int, ...]:
    """Return all values of an entry."""
    kind, count, place = entries[tag]
    if kind not in WHOLE_NUMBERS or not count:
        raise ValueError(f"entry {tag} is not a whole number")
    return struct.unpack_from(f"{order}{count}{WHOLE_NUMBERS[kind]}", content, place)


def _read_page(content: bytes, order: str, entries: Entries) -> Page:
    def first(tag: int, default: int) -> int:
        return _numbers(content, order, entries, tag)[0] if tag in entries else default

    orientation = first(ORIENTATION, 1)
    return Page(
        _numbers(content, order, entries, WIDTH)[0],
        _numbers(content, order, entries, HEIGHT)[0],
        orientation if 1 <= orientation <= 8 else 1,
        first(BITS, 1),
        first(CHANNELS, 1),
        first(SAMPLE_FORMAT, UNSIGNED),
        first(COMPRESSION, NO_COMPRESSION),
    )


def _check_pixels(content: bytes, order: str, entries: Entries, page: Page) -> None:
    """Raise `ValueError` if a page has no pixels, or if its strips or tiles are too few or exceed the file."""
    if not page.width or not page.height:
        raise ValueError("a page without pixels")
    if not 1 <= page.bits <= 64 or not 1 <= page.channels <= 16:
        raise ValueError(f"{page.channels} channels of {page.bits} bits")
    if BITS in entries and len(set(_numbers(content, order, entries, BITS))) > 1:
        raise ValueError("channels of different depths")
    separate = PLANAR in entries and _numbers(content, order, entries, PLANAR)[0] == 2
    if TILES in entries or TILE_WIDTH in entries:
        width, height = (_numbers(content, order, entries, tag)[0] for tag in (TILE_WIDTH, TILE_HEIGHT))
        offsets, lengths = TILES, TILE_LENGTHS
    else:
        width, offsets, lengths = page.width, STRIPS, STRIP_LENGTHS
        height = _numbers(content, order, entries, ROWS_PER_STRIP)[0] if ROWS_PER_STRIP in entries else page.height
        height = min(height, page.height)
    if not width or not height or width * height > page.width * page.height + MAX_TILE_EXCESS:
        raise ValueError(f"tiles of {width}x{height} pixels")
    places = _numbers(content, order, entries, offsets)
    needed = -(-page.width // width) * -(-page.height // height) * (page.channels if separate else 1)
    if len(places) < needed:
        raise ValueError(f"{len(places)} strips or tiles instead of {needed}")
    if lengths in entries:
        sizes = _numbers(content, order, entries, lengths)
    elif needed == 1 and page.compression == NO_COMPRESSION:  # old writers omit the lengths
        sizes = (-(-page.width * page.bits * (1 if separate else page.channels) // 8) * page.height,)
    else:
        raise KeyError(lengths)
    if len(sizes) < needed or any(place + size > len(content) for place, size in zip(places, sizes)):
        raise ValueError("a strip or tile exceeds the file")
