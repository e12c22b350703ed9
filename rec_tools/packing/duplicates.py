"""Copies among faces: files that are byte for byte the same, and pictures of one photograph that are nearly so.

A fingerprint is a perceptual hash, the signs of low-frequency DCT coefficients (Zauner, "Implementation and
benchmarking of perceptual image hash functions", 2010). `find_copies` finds fingerprints that differ in few bits by
multi-index hashing (Norouzi, Punjani and Fleet, CVPR 2012): the 256 bits are cut into 16 bands, and where two differ in
at most 31 bits, they differ in one of the bands in at most one. So such pairs are met without comparing all with all.

A copy that is re-encoded, resized, grey, brighter, darker, moved by 0.5% of its side or turned by a degree is found; of
those moved by 1% or cropped by 3%, less than half; mirrored ones are not. benchmarks/copies.py measures it.
"""

from typing import Iterator, NamedTuple, Tuple

import cv2
import numpy as np

SIDE, FREQUENCIES, BANDS = 64, 16, 16
NEAR = 2 * BANDS - 1  # bits; of 28,215 faces (UTKFace, FairFace) the first two of different photographs differ in 48
WIDTH = 47  # bits between the two ends of a group: up to there each of the pairs in those sets was one photograph
FLAT = 4.0  # root mean square of the coefficients: the least of those faces has 20; one colour with noise of 2, below 4
CROWD = 256  # rows that a row is compared with in one band, where more have the same bits
BLOCK = 1 << 17  # pairs compared at a time: they stay in the cache
EDGES = 1 << 20  # near pairs held at a time

# The bits of a band are a diagonal of the frequencies, one of each row and column: low ones are far from independent.
_DIAGONALS = np.array(
    [[u * FREQUENCIES + (u + band) % FREQUENCIES for u in range(FREQUENCIES)] for band in range(BANDS)]
)


class Copies(NamedTuple):
    """(n,) int64 each: of a row's group, the index of its first row. Groups of `near` contain `identical` ones."""

    identical: np.ndarray
    near: np.ndarray


def fingerprint(image: np.ndarray) -> np.ndarray:
    """(4,) uint64: the perceptual hash of an image, (h, w, 3) BGR or (h, w) grey, uint8, of any size.

    All zeros, which `find_copies` calls nobody's copy, where there is nothing to recognise: one colour, or one gradient
    along an axis, be it with slight noise. Raises `ValueError` on any other kind of array.
    """
    if image.dtype != np.uint8 or not image.size or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise ValueError(f"an image (h, w, 3) or (h, w) of uint8 is wanted, not {image.shape} of {image.dtype}")
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if image.ndim == 3 else image
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    # Without frequency 0 in either direction, which is where the light and the background of aligned faces are.
    waves = cv2.dct(small)[1 : FREQUENCIES + 1, 1 : FREQUENCIES + 1].ravel()
    if cv2.norm(waves) < FLAT * FREQUENCIES:
        return np.zeros(4, np.uint64)
    return np.packbits(waves[_DIAGONALS.ravel()] > 0).view(np.uint64)


def find_copies(digests: np.ndarray, fingerprints: np.ndarray) -> Copies:
    """Group rows by `digests` (n,) uint64, checksums of the files, and by `fingerprints` (n, 4) uint64.

    Rows are near where at most `NEAR` bits differ, and a group is what hangs together so. Since that is not transitive,
    a group whose ends differ in more than `WIDTH` bits is cut in two, each row to the nearer end, until none is wider.
    Every near pair is met, unless more than `CROWD` rows share the 16 bits of a band: there a row is compared with the
    `CROWD` nearest to it in the order of further bits (of 500,000 rows in benchmarks/copies.py none is lost so).
    The groups do not depend on the order of the rows.
    Raises `ValueError` where the shapes do not fit.
    """
    digests, fingerprints = np.asarray(digests, np.uint64), np.asarray(fingerprints, np.uint64)
    if digests.ndim != 1 or fingerprints.shape != (len(digests), 4):
        raise ValueError(f"digests (n,) and fingerprints (n, 4) are wanted, not {digests.shape}, {fingerprints.shape}")
    _, first, same_file = np.unique(digests, return_index=True, return_inverse=True)
    sharp = np.flatnonzero(fingerprints[first].any(axis=1))
    codes, same_code = np.unique(fingerprints[first[sharp]], axis=0, return_inverse=True)
    group = -1 - np.arange(len(first))  # each alone, as the flat ones stay
    group[sharp] = _cut_chains(codes, _join(len(codes), _near_pairs(codes)))[same_code]
    return Copies(_number_by_first(same_file), _number_by_first(group[same_file]))


def labels_conflict(labels: np.ndarray) -> bool:
    """Whether labels (k, 3) [gender, age_min, age_max] cannot all be those of one photograph.

    They conflict where two known genders differ, or two known ages have no year in common.
    """
    ages, genders = _find_conflicts(np.asarray(labels, np.float32), np.zeros(len(labels), np.int64))
    return bool(ages.any() or genders.any())


def summarise(copies: Copies, labels: np.ndarray, parts: np.ndarray) -> dict:
    """What there is to tell of copies, ready for JSON; `labels` (n, 3) float32, `parts` (n,) int: the side of a split.

    For "identical" and for "near", which contains it, the groups of more than one row: their number, the rows in them,
    the rows too many (all but one of each group), the largest, and how many groups have conflicting ages, conflicting
    genders, and rows in more than one part.
    """
    summary = {"rows": len(copies.near)}
    for kind, groups in copies._asdict().items():
        _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        inside = sizes[group] > 1
        ages, genders = _find_conflicts(np.asarray(labels, np.float32)[inside], group[inside])
        low, high = _span(np.asarray(parts)[inside], group[inside])
        several = sizes[sizes > 1]
        summary[kind] = {
            "groups": len(several),
            "rows": int(several.sum()),
            "too_many": int((several - 1).sum()),
            "largest": int(several.max(initial=0)),
            "age_conflicts": int(ages.sum()),
            "gender_conflicts": int(genders.sum()),
            "across_parts": int((low < high).sum()),
        }
    return summary


def count_bits(words: np.ndarray) -> np.ndarray:
    """How many bits are set in each of uint64 `words`, as uint64 (Warren, "Hacker's Delight", 5-1)."""
    words = words - ((words >> np.uint64(1)) & np.uint64(0x5555555555555555))
    words = (words & np.uint64(0x3333333333333333)) + ((words >> np.uint64(2)) & np.uint64(0x3333333333333333))
    words = (words + (words >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (words * np.uint64(0x0101010101010101)) >> np.uint64(56)


def _find_conflicts(labels: np.ndarray, group: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Of the groups with known ages, which ones conflict in age; of those with known genders, which in gender."""
    aged, gendered = labels[:, 1] >= 0, labels[:, 0] >= 0
    _, latest_start = _span(labels[aged, 1], group[aged])
    earliest_end, _ = _span(labels[aged, 2], group[aged])
    low, high = _span(labels[gendered, 0], group[gendered])
    return latest_start > earliest_end, low < high


def _span(values: np.ndarray, group: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """The least and the greatest value of each group."""
    if not len(values):
        return values, values
    order = np.argsort(group, kind="stable")
    begins = np.flatnonzero(np.diff(group[order], prepend=-1))
    return np.minimum.reduceat(values[order], begins), np.maximum.reduceat(values[order], begins)


def _number_by_first(group: np.ndarray) -> np.ndarray:
    _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
    return first.astype(np.int64)[inverse]


def _near_pairs(codes: np.ndarray) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """Blocks of pairs (i, j) of different `codes` (n, 4) that differ in at most `NEAR` bits; a pair may come again."""
    bands = np.ascontiguousarray(codes).view(np.uint16).reshape(len(codes), BANDS)
    for band in range(BANDS):
        # A band's bits first, so that equal ones are neighbours, then 48 further bits.
        turned = np.ascontiguousarray(np.roll(bands, -band, axis=1)[:, 3::-1]).view(np.uint64).ravel()
        order = np.argsort(turned, kind="stable")
        keys, words = bands[order, band].astype(np.int64), np.ascontiguousarray(codes[order].T)
        words = np.roll(words, -1 - band // 4, axis=0)  # those first that the band does not make equal
        begins = np.searchsorted(keys, np.arange((1 << 16) + 1))
        for flip in (0, *(1 << np.arange(16))):
            rows = np.flatnonzero(keys & flip == 0)
            lows, highs = _choose_partners(rows, keys[rows], flip, begins)
            for one, other in _compare(words, rows, lows, highs):
                yield order[one], order[other]


def _choose_partners(rows, keys, flip, begins) -> Tuple[np.ndarray, np.ndarray]:
    """The span of sorted rows that each row is compared with: those whose key is its own but for the bit `flip`."""
    own, partner = begins[keys], keys | flip
    lows, highs = begins[partner], begins[partner + 1]
    if not flip:
        lows = rows + 1
        return lows, np.minimum(highs, lows + CROWD)
    # In a crowd, around the place that answers to the row's own among its equals: both are in order of further bits.
    sizes = highs - lows
    places = lows + (rows - own) * sizes // (begins[keys + 1] - own) - CROWD // 2
    lows = np.where(sizes > CROWD, np.clip(places, lows, highs - CROWD), lows)
    return lows, np.minimum(highs, lows + CROWD)


def _compare(words, rows, lows, highs) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """Of each row with the rows of its span, the pairs that differ in at most `NEAR` bits; `words` (4, n) uint64."""
    some = np.flatnonzero(highs > lows)
    rows, lows, counts = rows[some], lows[some], (highs - lows)[some]
    ends, start = np.cumsum(counts), 0
    while start < len(rows):
        done = ends[start] - counts[start]
        stop = max(start + 1, np.searchsorted(ends, done + BLOCK))
        count = counts[start:stop]
        one = np.repeat(rows[start:stop], count)
        other = np.arange(len(one)) + np.repeat(lows[start:stop] - (ends[start:stop] - count - done), count)
        bits = count_bits(words[0][one] ^ words[0][other]) + count_bits(words[1][one] ^ words[1][other])
        near = np.flatnonzero(bits <= NEAR)  # half of the bits tell nearly all
        one, other, bits = one[near], other[near], bits[near]
        bits += count_bits(words[2][one] ^ words[2][other]) + count_bits(words[3][one] ^ words[3][other])
        near = np.flatnonzero(bits <= NEAR)
        if len(near):
            yield one[near], other[near]
        start = stop


def _join(count: int, pairs) -> np.ndarray:
    """The number of the connected component of each of `count` rows."""
    group, waiting, held = np.arange(count), [(np.empty(0, np.int64),) * 2], 0
    for one, other in pairs:
        waiting.append((group[one], group[other]))
        held += len(one)
        if held > EDGES:
            group, waiting, held = _merge(group, waiting), waiting[:1], 0
    return _merge(group, waiting)


def _merge(group: np.ndarray, pairs) -> np.ndarray:
    if not len(group):
        return group
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    one, other = np.concatenate(pairs, axis=1)
    edges = coo_matrix((np.ones(len(one), bool), (one, other)), shape=(len(group), len(group)))
    return connected_components(edges, directed=False)[1].astype(np.int64)[group]


def _cut_chains(codes: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The groups of sorted `codes` (n, 4), cut until the two ends of none differ in more than `WIDTH` bits."""
    group, fresh = group.copy(), len(codes)
    rows = np.flatnonzero(np.bincount(group)[group] > 2)
    while len(rows):
        rows = rows[np.argsort(group[rows], kind="stable")]
        begins = np.flatnonzero(np.diff(group[rows], prepend=-1))
        place = np.repeat(np.arange(len(begins)), np.diff(begins, append=len(rows)))
        # The ends: what is farthest from some row, and what is farthest from that.
        one = _find_farthest(_differ(codes, rows, rows[begins][place]), begins, place)
        from_one = _differ(codes, rows, rows[one][place])
        other = _find_farthest(from_one, begins, place)
        from_other = _differ(codes, rows, rows[other][place])
        wide = (from_one[other] > WIDTH)[place]
        cut = wide & (from_other < from_one)
        group[rows[cut]] = fresh + place[cut]
        rows, fresh = rows[wide], fresh + len(begins)
    return group


def _differ(codes: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return count_bits(codes[one] ^ codes[other]).sum(axis=1)


def _find_farthest(away: np.ndarray, begins: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The index of the first row of each group that is `away` the most."""
    hits = np.flatnonzero(away == np.maximum.reduceat(away, begins)[place])
    return hits[np.searchsorted(hits, begins)]
