"""Copies: what is found again after it was altered, what is not, and groups that no order and no crowd changes."""

import hashlib
import json
import tarfile
from collections import defaultdict
from itertools import islice

import cv2
import numpy as np
import pytest

from rec_tools.drawn.person import make_person
from rec_tools.drawn.scene import draw_photo, set_scene
from rec_tools.packing.duplicates import (
    CROWD,
    NEAR,
    WIDTH,
    DuplicateGroups,
    count_bits,
    find_duplicates,
    fingerprint,
    labels_conflict,
    summarise_duplicates,
)
from tests.paths import SHARED

CHIPS = SHARED / "data" / "utkface_dev.tar.gz"


def draw_faces(count, seed=0):
    rng = np.random.default_rng(seed)
    people = [make_person(rng, gender) for gender in rng.integers(0, 2, count)]
    return [draw_photo(person, rng.uniform(5, 80), rng, set_scene(rng)) for person in people]


def paint_smooth(count, seed=0):
    """Images without a face: blurred noise of full contrast."""
    rng = np.random.default_rng(seed)
    noise = (cv2.GaussianBlur(rng.normal(size=(120, 90, 3)), (0, 0), 6) for _ in range(count))
    return [cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8) for image in noise]


FACES = draw_faces(40)
IMAGES = FACES + paint_smooth(40)


def pack_bits(bits):
    return np.ascontiguousarray(np.packbits(bits, axis=1)).view(np.uint64)


def draw_codes(count, seed=0):
    """(count, 256) bits."""
    return np.random.default_rng(seed).integers(0, 2, (count, 256)).astype(np.uint8)


def flip(bits, count, rng):
    bits = bits.copy()
    bits[rng.choice(256, count, replace=False)] ^= 1
    return bits


def find_near(bits):
    """The near groups of rows that are all different files."""
    return find_duplicates(np.arange(len(bits), dtype=np.uint64), pack_bits(bits)).near


def as_sets(groups):
    members = defaultdict(set)
    for row, group in enumerate(groups):
        members[group].add(row)
    return set(map(frozenset, members.values()))


def differ(one, other):
    return int(count_bits(one ^ other).sum())


def encode(quality):
    return lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)


def shift(pixels):
    matrix = np.float32([[1, 0, pixels], [0, 1, 0]])
    return lambda image: cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)


ALTERATIONS = {
    "JPEG 95": encode(95),
    "JPEG 50": encode(50),
    "64 pixels": lambda image: cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA),
    "twice as large": lambda image: cv2.resize(image, None, fx=2, fy=2),
    "grey": lambda image: cv2.cvtColor(image, cv2.COLOR_BGR2GRAY),
    "brighter": lambda image: cv2.convertScaleAbs(image, alpha=0.9, beta=25),
    "darker": lambda image: cv2.convertScaleAbs(image, alpha=0.9),
    "half the contrast": lambda image: cv2.convertScaleAbs(image, alpha=0.5, beta=64),
    "moved by half a pixel": shift(0.5),
    "not contiguous": lambda image: np.asfortranarray(image),
}


@pytest.mark.parametrize("name", ALTERATIONS)
def test_an_altered_copy_of_a_face_is_found(name):
    codes = np.array([fingerprint(image) for image in FACES + [ALTERATIONS[name](image) for image in FACES]])
    near = find_duplicates(np.arange(len(codes), dtype=np.uint64), codes).near
    assert (near == np.tile(np.arange(len(FACES)), 2)).all()


def test_other_images_are_no_copies_and_their_fingerprints_are_far_apart():
    codes = np.array([fingerprint(image) for image in IMAGES])
    near = find_duplicates(np.arange(len(codes), dtype=np.uint64), codes).near
    assert (near == np.arange(len(codes))).all()
    distances = [differ(one, other) for index, one in enumerate(codes) for other in codes[:index]]
    assert min(distances) > NEAR and 110 < np.mean(distances) < 140


def test_a_mirrored_face_is_no_copy():
    assert min(differ(fingerprint(face), fingerprint(face[:, ::-1])) for face in FACES) > NEAR


def test_a_fingerprint_is_four_words_of_any_size_and_kind_of_image():
    for image in (
        FACES[0],
        FACES[0][:, :, 0],
        FACES[0][:9, :50],
        np.zeros((1, 1), np.uint8),
        np.zeros((3, 700, 3), np.uint8),
    ):
        code = fingerprint(image)
        assert code.shape == (4,) and code.dtype == np.uint64


@pytest.mark.parametrize("shape, kind", [((9, 9, 3), "f4"), ((0, 9, 3), "u1"), ((9, 9, 4), "u1"), ((9,), "u1")])
def test_what_is_no_image_is_refused(shape, kind):
    with pytest.raises(ValueError, match="of uint8, not"):
        fingerprint(np.zeros(shape, kind))


def test_images_with_nothing_on_them_are_copies_only_where_their_bytes_are():
    noise = np.random.default_rng(0).normal(0, 2, (112, 112, 3))  # the same in all, as a camera's or an encoder's is
    colours = [np.full((112, 112, 3), colour, np.uint8) for colour in (20, 128, 180, 230)]
    noisy = [np.uint8(image + noise) for image in colours]
    gradient = np.tile(np.linspace(0, 255, 112).astype(np.uint8), (112, 1))
    images = [*colours, *noisy, gradient, gradient.T.copy(), gradient]
    digests = np.array([hash(image.tobytes()) & (2**64 - 1) for image in images], np.uint64)
    copies = find_duplicates(digests, np.array([fingerprint(image) for image in images]))
    assert copies.near.tolist() == copies.identical.tolist() == [*range(10), 8]


def test_identical_groups_are_those_of_a_dict_and_lie_inside_near_ones():
    rng = np.random.default_rng(1)
    files = [bytes([number]) for number in rng.integers(0, 60, 300)]
    digests = np.array([int.from_bytes(hashlib.sha256(file).digest()[:8], "big") for file in files], np.uint64)
    first = {}
    for index, file in enumerate(files):
        first.setdefault(file, index)
    bits = draw_codes(60)
    bits[30:] = [flip(row, NEAR, rng) for row in bits[:30]]
    copies = find_duplicates(digests, pack_bits(bits[[file[0] for file in files]]))
    assert copies.identical.tolist() == [first[file] for file in files]
    assert copies.identical.dtype == copies.near.dtype == np.int64
    assert as_sets(copies.near) == as_sets([file[0] % 30 for file in files])
    assert (copies.near[copies.near] == copies.near).all()


def test_every_pair_that_comparing_all_with_all_finds():
    rng = np.random.default_rng(2)
    bits = draw_codes(400)
    bits[200:] = [flip(row, int(rng.integers(NEAR - 6, NEAR + 7)), rng) for row in bits[:200]]
    distances = (bits[:, None] != bits).sum(axis=2)
    near = find_near(bits)
    assert ((near[:, None] == near) == (distances <= NEAR)).all()


@pytest.mark.parametrize("bands", [[b for b in range(16) if b != clean] for clean in (0, 7, 15)])
def test_the_hardest_pair_differs_in_two_bits_of_each_band_but_one(bands):
    bits = np.repeat(draw_codes(1), 2, axis=0)
    bits[1, [16 * band + place for band in bands for place in (3, 11)]] ^= 1
    spare = next(band for band in range(16) if band not in bands)
    bits[1, 16 * spare + 5] ^= 1
    assert (bits[0] != bits[1]).sum() == NEAR and find_near(bits).tolist() == [0, 0]
    bits[1, 16 * spare + 6] ^= 1
    assert find_near(bits).tolist() == [0, 1]


def test_groups_do_not_depend_on_the_order_of_rows():
    rng = np.random.default_rng(3)
    bits = draw_codes(60)
    for _ in range(3):  # copies of copies, which make chains
        bits = np.concatenate([bits, [flip(row, 25, rng) for row in bits]])
    digests = rng.integers(0, 400, len(bits)).astype(np.uint64)
    codes = pack_bits(bits)[digests.astype(int)]
    copies, order = find_duplicates(digests, codes), rng.permutation(len(bits))
    again = find_duplicates(digests[order], codes[order])
    for whole, shuffled in zip(copies, again):
        assert as_sets(whole) == {frozenset(order[list(group)]) for group in as_sets(shuffled)}


def test_a_chain_is_cut_into_groups_that_are_not_wide():
    bits = np.repeat(draw_codes(1), 26, axis=0)
    for link in range(1, 26):
        bits[link:, 10 * (link - 1) : 10 * link] ^= 1  # ten bits from each to the next
    sets = as_sets(find_near(bits))
    assert 5 < len(sets) < 13
    assert all(max(group) - min(group) == len(group) - 1 <= WIDTH // 10 for group in sets)
    assert as_sets(find_near(bits[:5])) == {frozenset(range(5))}


def test_no_rows_and_one_row():
    none = find_duplicates(np.empty(0, np.uint64), np.empty((0, 4), np.uint64))
    assert none.identical.shape == none.near.shape == (0,)
    one = find_duplicates(np.array([7], np.uint64), pack_bits(draw_codes(1)))
    assert one.identical.tolist() == one.near.tolist() == [0]
    summary = summarise_duplicates(none, np.empty((0, 3), np.float32), np.empty(0, int))
    assert summary["rows"] == summary["near"]["groups"] == summary["near"]["largest"] == 0


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="must be digests"):
        find_duplicates(np.zeros(3, np.uint64), np.zeros((2, 4), np.uint64))


def test_ten_thousand_files_of_one_fingerprint_are_one_group():
    codes = np.repeat(pack_bits(draw_codes(1)), 10000, axis=0)
    assert (find_duplicates(np.arange(10000, dtype=np.uint64), codes).near == 0).all()


def test_a_crowd_of_like_fingerprints_is_one_group():
    rng = np.random.default_rng(4)
    crowd = np.array([flip(row, 4, rng) for row in np.repeat(draw_codes(1), 3 * CROWD, axis=0)])
    assert (find_near(crowd) == 0).all()


def test_pairs_in_two_crowds_are_found_where_their_further_bits_are_near_in_order():
    bits = draw_codes(8 * CROWD)
    bits[:, :16] = bits[0, :16]
    bits[1::2, 3] ^= 1  # two crowds that differ in one bit of the first band, the only band that can show the pairs
    pairs = np.arange(0, 40, 2)
    bits[pairs + 1] = bits[pairs]
    # Two bits of each other band, in each the least of the 16: the bytes are turned in memory.
    changed = [3, *(16 * band + place for band in range(1, 16) for place in (6, 7))]
    bits[np.ix_(pairs + 1, changed)] ^= 1
    assert len(changed) == NEAR
    near = find_near(bits)
    assert (near[pairs + 1] == pairs).all() and len(set(near)) == len(bits) - len(pairs)


def test_labels_conflict_where_ages_have_no_year_in_common_or_genders_differ():
    assert not labels_conflict(np.empty((0, 3)))
    assert not labels_conflict([[0, 20, 29], [-1, 29, 35], [0, -1, -1]])
    assert labels_conflict([[0, 20, 29], [-1, 25, 35], [0, 30, 30]])
    assert labels_conflict([[-1, 24, 24], [-1, 25, 25]])
    assert labels_conflict([[0, -1, -1], [-1, -1, -1], [1, -1, -1]])


def test_a_summary_counts_groups_rows_conflicts_and_parts():
    copies = DuplicateGroups(np.array([0, 0, 2, 3, 3, 3, 6, 7]), np.array([0, 0, 0, 3, 3, 3, 6, 6]))
    labels = np.float32([[0, 5, 5], [1, 5, 5], [0, 9, 9], [1, 20, 29], [-1, 25, 25], [1, -1, -1], [0, 3, 3], [0, 4, 4]])
    summary = summarise_duplicates(copies, labels, np.array([0, 0, 1, 0, 0, 2, 1, 1]))
    assert json.loads(json.dumps(summary)) == {
        "rows": 8,
        "identical": {
            "groups": 2,
            "rows": 5,
            "too_many": 3,
            "largest": 3,
            "age_conflicts": 0,
            "gender_conflicts": 1,
            "across_parts": 1,
        },
        "near": {
            "groups": 3,
            "rows": 8,
            "too_many": 5,
            "largest": 3,
            "age_conflicts": 2,
            "gender_conflicts": 1,
            "across_parts": 2,
        },
    }


@pytest.mark.skipif(not CHIPS.is_file(), reason="utkface_dev.tar.gz lies in ../shared/data, which is absent")
def test_files_that_are_the_same_are_found_among_utkface_chips():
    with tarfile.open(CHIPS) as archive:
        files = [archive.extractfile(entry).read() for entry in islice(archive, 3001) if entry.isfile()]
    images = [cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR) for file in files]
    files, images = zip(*((file, image) for file, image in zip(files, images) if image is not None))
    digests = np.array([int.from_bytes(hashlib.sha256(file).digest()[:8], "big") for file in files], np.uint64)
    codes = np.array([fingerprint(image) for image in images])
    same = as_sets([files.index(file) for file in files])
    assert any(len(group) > 1 for group in same)
    assert as_sets(find_duplicates(digests, codes).identical) == same
    # By what is to be seen alone: each pair that comparing all with all finds.
    near = find_duplicates(np.arange(len(files), dtype=np.uint64), codes).near
    assert all(len({near[row] for row in group}) == 1 for group in same)
    assert len(same) > len(set(near)) > 0.9 * len(files)
    for index in range(1, len(codes)):
        others = np.flatnonzero(count_bits(codes[:index] ^ codes[index]).sum(axis=1) <= NEAR)
        assert (near[others] == near[index]).all()
