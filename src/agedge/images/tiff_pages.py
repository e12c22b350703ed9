"""The pages of a TIFF file, read without decoding them: sizes, depths, and where their pixels lie (TIFF 6.0, 1992).

The same directory serves as EXIF's block. libtiff takes the first of two entries with the same tag, others the last: a
file with such an entry is refused.
"""

import struct
from typing import Dict, Iterator, List, NamedTuple, Tuple

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIPS, ORIENTATION, CHANNELS = 256, 257, 258, 259, 262, 273, 274, 277
ROWS_PER_STRIP, STRIP_LENGTHS, PLANAR, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_LENGTHS = 278, 279, 284, 322, 323, 324, 325
SAMPLE_FORMAT = 339
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}  # bytes of a type's value
WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I"}  # the types of sizes and offsets
UNSIGNED, SIGNED, FLOATING = 1, 2, 3  # of sample formats
NO_COMPRESSION = 1
MOST_ENTRIES = 100_000  # of all directories: a third of a second
LARGEST_TILE = 16e6  # pixels more than its page has: a decoder makes room for a whole one

Entries = Dict[int, tuple]  # by tag, (type, count, where its values lie)


class Page(NamedTuple):
    """`width`, `height` in pixels, as stored; `bits` of a sample and its `form` (UNSIGNED, SIGNED, FLOATING)."""

    width: int
    height: int
    orientation: int = 1
    bits: int = 1
    channels: int = 1
    form: int = UNSIGNED
    compression: int = NO_COMPRESSION


def read_size(content: bytes) -> Page:
    """Return the first page. Raises `ValueError`, `KeyError` or `struct.error` where it cannot be read."""
    order, at = _read_start(content)
    return _read_page(content, order, _read_entries(content, order, at)[0])


def find_orientation(content: bytes) -> int:
    """Return the orientation, 1 to 8, of the first directory, whatever else is in it; 1 where there is none."""
    order, at = _read_start(content)
    for tag, kind, _, place in _list_entries(content, order, at):
        if tag == ORIENTATION:
            value = struct.unpack_from(order + WHOLE_NUMBERS.get(kind, "H"), content, place)[0]
            return value if 1 <= value <= 8 else 1
    return 1


def read_pages(content: bytes) -> List[Page]:
    """Return all pages, once all that a decoder follows has been found to lie in the file. Raises `ValueError`."""
    try:
        order, at = _read_start(content)
        pages, seen, count = [], set(), 0
        while at:
            if at in seen:
                raise ValueError("its pages form a loop")
            seen.add(at)
            entries, following = _read_entries(content, order, at)
            count += len(entries)
            if count > MOST_ENTRIES:
                raise ValueError(f"more than {MOST_ENTRIES:,} entries in its directories")
            pages.append(_read_page(content, order, entries))
            _check_pixels(content, order, entries, pages[-1])
            at = following
        return pages
    except KeyError as error:
        raise ValueError(f"no entry {error} in its directory") from None
    except struct.error:
        raise ValueError("a directory that ends behind the file") from None


def _read_start(content: bytes) -> Tuple[str, int]:
    """(byte order, where the first directory begins)."""
    order = {b"II": "<", b"MM": ">"}[content[:2]]
    return order, struct.unpack_from(order + "I", content, 4)[0]


def _list_entries(content: bytes, order: str, at: int) -> Iterator[tuple]:
    """(tag, type, count, where its values lie) of a directory's entries."""
    for number in range(struct.unpack_from(order + "H", content, at)[0]):
        place = at + 2 + 12 * number
        tag, kind, count = struct.unpack_from(order + "HHI", content, place)
        if SIZES.get(kind, 0) * count > 4:
            yield tag, kind, count, struct.unpack_from(order + "I", content, place + 8)[0]
        else:
            yield tag, kind, count, place + 8


def _read_entries(content: bytes, order: str, at: int) -> Tuple[Entries, int]:
    """The entries of a directory, and where the next directory begins, 0 where there is none."""
    entries: Entries = {}
    for tag, kind, count, place in _list_entries(content, order, at):
        if tag in entries:
            raise ValueError(f"two entries {tag} in a directory")
        if place + SIZES.get(kind, 0) * count > len(content):
            raise ValueError(f"entry {tag} ends behind the file")
        entries[tag] = kind, count, place
    end = at + 2 + 12 * len(entries)
    return entries, struct.unpack_from(order + "I", content, end)[0] if end + 4 <= len(content) else 0


def _numbers(content: bytes, order: str, entries: Entries, tag: int) -> tuple:
    """All values of an entry."""
    kind, count, place = entries[tag]
    if kind not in WHOLE_NUMBERS or not count:
        raise ValueError(f"entry {tag} is not a whole number")
    return struct.unpack_from(f"{order}{count}{WHOLE_NUMBERS[kind]}", content, place)


def _read_page(content: bytes, order: str, entries: Entries) -> Page:
    def first(tag: int, otherwise: int) -> int:
        return _numbers(content, order, entries, tag)[0] if tag in entries else otherwise

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
    """Raise `ValueError` where a page has no sides, or its strips or tiles are too few or leave the file."""
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
    if not width or not height or width * height > page.width * page.height + LARGEST_TILE:
        raise ValueError(f"tiles of {width}x{height} pixels")
    places = _numbers(content, order, entries, offsets)
    needed = -(-page.width // width) * -(-page.height // height) * (page.channels if separate else 1)
    if len(places) < needed:
        raise ValueError(f"{len(places)} strips or tiles of {needed}")
    if lengths in entries:
        sizes = _numbers(content, order, entries, lengths)
    elif needed == 1 and page.compression == NO_COMPRESSION:  # old writers leave it out
        sizes = (-(-page.width * page.bits * (1 if separate else page.channels) // 8) * page.height,)
    else:
        raise KeyError(lengths)
    if len(sizes) < needed or any(place + size > len(content) for place, size in zip(places, sizes)):
        raise ValueError("a strip or tile ends behind the file")
