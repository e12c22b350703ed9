"""Find copies among images: files with the same bytes, and nearly equal images of one photograph.

A fingerprint is a perceptual hash, the signs of low-frequency DCT coefficients (Zauner, "Implementation and
benchmarking of perceptual image hash functions", 2010). `find_duplicates` finds fingerprints that differ in few bits by
multi-index hashing (Norouzi, Punjani and Fleet, CVPR 2012): the 256 bits are cut into 16 bands, and where two differ in
at most 31 bits, they differ in one of the bands in at most one. So such pairs are found without comparing all pairs.

Copies that are re-encoded, resized, grey, brighter, darker, shifted by 0.5% of the side or turned by a degree are
found; of those shifted by 1% or cropped by 3%, less than half; mirrored ones are not. Measured by benchmarks/copies.py.
"""

from typing import Any, Dict, Iterable, Iterator, NamedTuple, Tuple

import cv2
import numpy as np

SIDE, FREQUENCIES, BANDS = 64, 16, 16
NEAR = 2 * BANDS - 1  # bits; of 28,215 faces (UTKFace, FairFace) the first two of different photographs differ in 48
WIDTH = 47  # bits between the two ends of a group: every pair in those sets that differs in fewer was one photograph
FLAT = 4.0  # root mean square of the coefficients: the least of those faces has 20; one colour with noise of 2, below 4
CROWD = 256  # rows that a row is compared with in one band, if more have the same bits
BLOCK = 1 << 17  # pairs compared at a time: they stay in the cache
EDGES = 1 << 20  # near pairs held at a time

# The bits of a band are a diagonal of the frequencies, one of each row and column: low ones are far from independent.
_DIAGONALS = np.array(
    [[u * FREQUENCIES + (u + band) % FREQUENCIES for u in range(FREQUENCIES)] for band in range(BANDS)]
)


class DuplicateGroups(NamedTuple):
    """The group of every row, as the index (n,) int64 of the group's first row, by two criteria.

    `identical`: the same bytes. `near`: similar fingerprints; these groups contain the identical ones.
    """

    identical: np.ndarray
    near: np.ndarray


def fingerprint(image: np.ndarray) -> np.ndarray:
    """Return the perceptual hash (4,) uint64 of an image, (h, w, 3) BGR or (h, w) grey, uint8, of any size.

    It is all zeros, which `find_duplicates` matches with no other, for an image without content: one colour, or one
    gradient along an axis, even with slight noise. Raises `ValueError` for any other kind of array.
    """
    if image.dtype != np.uint8 or not image.size or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise ValueError(f"the image must be (h, w, 3) or (h, w) of uint8, not {image.shape} of {image.dtype}")
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if image.ndim == 3 else image
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    # Without frequency 0 in either direction, which holds the light and the background of aligned faces.
    waves = cv2.dct(small)[1 : FREQUENCIES + 1, 1 : FREQUENCIES + 1].ravel()
    if cv2.norm(waves) < FLAT * FREQUENCIES:
        return np.zeros(4, np.uint64)
    return np.packbits(waves[_DIAGONALS.ravel()] > 0).view(np.uint64)


def find_duplicates(digests: np.ndarray, fingerprints: np.ndarray) -> DuplicateGroups:
    """Group rows by `digests` (n,) uint64, checksums of the files, and by `fingerprints` (n, 4) uint64.

    Two rows are near if at most `NEAR` bits differ, and groups are connected components of near rows. Since nearness is
    not transitive, a group whose ends differ in more than `WIDTH` bits is cut in two, each row going to the nearer end,
    until none is wider. Every near pair is found, unless more than `CROWD` rows share the 16 bits of a band: then a row
    is compared with the `CROWD` nearest to it in the order of further bits (of 500,000 rows in benchmarks/copies.py no
    pair is lost that way). The groups do not depend on the order of the rows. Raises `ValueError` if the shapes do not
    match.
    """
    digests, fingerprints = np.asarray(digests, np.uint64), np.asarray(fingerprints, np.uint64)
    if digests.ndim != 1 or fingerprints.shape != (len(digests), 4):
        raise ValueError(f"must be digests (n,) and fingerprints (n, 4), not {digests.shape}, {fingerprints.shape}")
    _, first, same_file = np.unique(digests, return_index=True, return_inverse=True)
    sharp = np.flatnonzero(fingerprints[first].any(axis=1))
    codes, same_code = np.unique(fingerprints[first[sharp]], axis=0, return_inverse=True)
    group = -1 - np.arange(len(first))  # each in a group of its own; images without content stay there
    group[sharp] = _cut_chains(codes, _join(len(codes), _near_pairs(codes)))[same_code]
    return DuplicateGroups(_number_by_first(same_file), _number_by_first(group[same_file]))


def labels_conflict(labels: np.ndarray) -> bool:
    """Return whether labels (k, 3) [gender, age_min, age_max] cannot all belong to one photograph.

    They conflict if two known genders differ, or if two known age intervals have no year in common.
    """
    ages, genders = _find_conflicts(np.asarray(labels, np.float32), np.zeros(len(labels), np.int64))
    return bool(ages.any() or genders.any())


def summarise_duplicates(copies: DuplicateGroups, labels: np.ndarray, splits: np.ndarray) -> Dict[str, Any]:
    """Return counts of copies, ready for JSON. `labels` (n, 3) float32; `splits` (n,) int: the split of each row.

    For "identical" and for "near", which contains it: the number of groups of more than one row, the rows in them, the
    rows too many (all but one of each group), the size of the largest, and how many groups have conflicting ages,
    conflicting genders, and rows in more than one split.
    """
    summary: Dict[str, Any] = {"rows": len(copies.near)}
    for kind, groups in copies._asdict().items():
        _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        inside = sizes[group] > 1
        ages, genders = _find_conflicts(np.asarray(labels, np.float32)[inside], group[inside])
        low, high = _span(np.asarray(splits)[inside], group[inside])
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
    """Count the set bits in each of uint64 `words`, as uint64 (Warren, "Hacker's Delight", 5-1)."""
    words = words - ((words >> np.uint64(1)) & np.uint64(0x5555555555555555))
    words = (words & np.uint64(0x3333333333333333)) + ((words >> np.uint64(2)) & np.uint64(0x3333333333333333))
    words = (words + (words >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (words * np.uint64(0x0101010101010101)) >> np.uint64(56)


def _find_conflicts(labels: np.ndarray, group: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return which of the groups with known ages conflict in age, and which of those with known genders in gender."""
    aged, gendered = labels[:, 1] >= 0, labels[:, 0] >= 0
    _, latest_start = _span(labels[aged, 1], group[aged])
    earliest_end, _ = _span(labels[aged, 2], group[aged])
    low, high = _span(labels[gendered, 0], group[gendered])
    return latest_start > earliest_end, low < high


def _span(values: np.ndarray, group: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return the least and the greatest value of each group."""
    if not len(values):
        return values, values
    order = np.argsort(group, kind="stable")
    begins = np.flatnonzero(np.diff(group[order], prepend=-1))
    return np.minimum.reduceat(values[order], begins), np.maximum.reduceat(values[order], begins)


def _number_by_first(group: np.ndarray) -> np.ndarray:
    _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
    return first.astype(np.int64)[inverse]


def _near_pairs(codes: np.ndarray) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """Yield blocks of pairs (i, j) of different `codes` (n, 4) that differ in at most `NEAR` bits, some repeatedly."""
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


def _choose_partners(
    rows: np.ndarray, keys: np.ndarray, flip: int, begins: np.ndarray
) -> Tuple[np.ndarray, np.ndarray]:
    """Return the span of sorted rows that each row is compared with: those whose key differs in the bit `flip` only."""
    own, partner = begins[keys], keys | flip
    lows, highs = begins[partner], begins[partner + 1]
    if not flip:
        lows = rows + 1
        return lows, np.minimum(highs, lows + CROWD)
    # In a crowd, around the place that corresponds to the row's own among its equals: both are sorted by further bits.
    sizes = highs - lows
    places = lows + (rows - own) * sizes // (begins[keys + 1] - own) - CROWD // 2
    lows = np.where(sizes > CROWD, np.clip(places, lows, highs - CROWD), lows)
    return lows, np.minimum(highs, lows + CROWD)


def _compare(
    words: np.ndarray, rows: np.ndarray, lows: np.ndarray, highs: np.ndarray
) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """Yield the pairs of a row and one of its span that differ in at most `NEAR` bits; `words` (4, n) uint64."""
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
        near = np.flatnonzero(bits <= NEAR)  # half of the bits rule out nearly all pairs
        one, other, bits = one[near], other[near], bits[near]
        bits += count_bits(words[2][one] ^ words[2][other]) + count_bits(words[3][one] ^ words[3][other])
        near = np.flatnonzero(bits <= NEAR)
        if len(near):
            yield one[near], other[near]
        start = stop


def _join(count: int, pairs: Iterable[Tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return the number of the connected component of each of `count` rows."""
    group, waiting, held = np.arange(count), [(np.empty(0, np.int64),) * 2], 0
    for one, other in pairs:
        waiting.append((group[one], group[other]))
        held += len(one)
        if held > EDGES:
            group, waiting, held = _merge(group, waiting), waiting[:1], 0
    return _merge(group, waiting)


def _merge(group: np.ndarray, pairs: list) -> np.ndarray:
    if not len(group):
        return group
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    one, other = np.concatenate(pairs, axis=1)
    edges = coo_matrix((np.ones(len(one), bool), (one, other)), shape=(len(group), len(group)))
    return connected_components(edges, directed=False)[1].astype(np.int64)[group]


def _cut_chains(codes: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Cut the groups of sorted `codes` (n, 4) until the ends of none differ in more than `WIDTH` bits."""
    group, fresh = group.copy(), len(codes)
    rows = np.flatnonzero(np.bincount(group)[group] > 2)
    while len(rows):
        rows = rows[np.argsort(group[rows], kind="stable")]
        begins = np.flatnonzero(np.diff(group[rows], prepend=-1))
        place = np.repeat(np.arange(len(begins)), np.diff(begins, append=len(rows)))
        # The ends: the row farthest from an arbitrary row, and the row farthest from that one.
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
    """Return the index of the first row of each group with the greatest distance `away`."""
    hits = np.flatnonzero(away == np.maximum.reduceat(away, begins)[place])
    return hits[np.searchsorted(hits, begins)]
