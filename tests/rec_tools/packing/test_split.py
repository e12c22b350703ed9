"""Splits: persons and copies stay together, folds follow the set, copies are dropped as asked."""

import numpy as np
import pytest

from agedge.errors import AgedgeError, UsageError
from agedge.labels import Label, exact
from rec_tools.packing.assign_splits import REASONS, FaceMetadata, assign_splits, parse_drop
from rec_tools.packing.split import SplitScheme, fold_name

rng = np.random.default_rng(0)


def metadata_of(rows):
    """The `FaceMetadata` of (digest as a number, fingerprint or None, label, identity, fold)."""
    metadata = FaceMetadata()
    for digest, *more in rows:
        metadata.add(f"{digest:032x}", *more)
    return metadata


def random_fingerprint():
    return rng.integers(0, 2**64, 4, np.uint64)


def places(metadata, scheme, drop=()):
    """Return the split of each row, or why it is dropped."""
    assignment = assign_splits(metadata, scheme, drop)
    return [
        assignment.splits[split] if split >= 0 else REASONS[why]
        for split, why in zip(assignment.split, assignment.reason)
    ]


def test_shares_are_kept_and_a_face_stays_where_it_is():
    split = SplitScheme.parse("train=0.8,val=0.1,test=0.1", seed=3)
    splits = [split.choose(f"person {i}") for i in range(5000)]
    assert [splits.count(name) / 5000 for name in split.shares] == pytest.approx([0.8, 0.1, 0.1], abs=0.015)
    other = SplitScheme.parse("train=0.8,val=0.1,test=0.1", seed=4)
    assert splits != [other.choose(f"person {i}") for i in range(5000)]
    rows = [(i << 64, random_fingerprint(), exact(0, 30), f"person {i % 50}", None) for i in range(300)]
    whole = places(metadata_of(rows), split)
    assert whole == [split.choose(f"person {i % 50}") for i in range(300)]  # whoever else comes along
    assert places(metadata_of(rows[::-1]), split) == whole[::-1]


def test_a_person_and_the_copies_of_an_image_are_in_one_split():
    same, split = random_fingerprint(), SplitScheme.parse("a=0.5,b=0.5")
    rows = [(i << 64, random_fingerprint(), exact(0, 30), f"person {i // 4}", None) for i in range(400)]
    rows += [
        (1000 + i << 64, same ^ np.uint64(1 << i), exact(0, 30), f"friend {i}", None) for i in range(8)
    ]  # nearly alike
    rows += [(7 << 64, random_fingerprint(), exact(0, 30), None, None)]  # the file of row 7, of nobody known
    found = places(metadata_of(rows), split)
    assert all(len(set(found[i : i + 4])) == 1 for i in range(0, 400, 4))
    assert len(set(found[400:408])) == 1 and found[-1] == found[7] and set(found) == {"a", "b"}


def test_copies_are_dropped_as_asked():
    same, one = random_fingerprint(), SplitScheme.parse("")
    rows = [
        (1 << 64, same, exact(0, 30), None, None),
        (1 << 64, same, exact(0, 30), None, None),  # the same file
        (2 << 64, same ^ np.uint64(3), exact(-1, 30), None, None),  # the same picture, its gender not known
        (3 << 64, same, exact(0, 50), None, None),  # the same picture, called 50
        (4 << 64, random_fingerprint(), exact(1, 20), None, None),
        (4 << 64, random_fingerprint(), Label(1, 15, 25), None, None),  # the same file, an interval around its age
    ]
    copy, conflict = "copy of an image", "copies with different labels"
    metadata = metadata_of(rows)
    assert places(metadata, one) == ["all"] * 6
    assert places(metadata, one, ("duplicates",)) == ["all", copy, copy, "all", "all", copy]
    assert places(metadata, one, ("conflicts",)) == [conflict] * 4 + ["all", "all"]
    assert places(metadata, one, ("duplicates", "conflicts")) == [conflict] * 4 + ["all", copy]
    counts = assign_splits(metadata, one).copies
    assert counts["identical"]["groups"] == 2 and counts["near"]["groups"] == 2 and counts["near"]["age_conflicts"] == 1
    assert assign_splits(metadata, one, ("conflicts", "duplicates")).copies["near"]["groups"] == 0
    with pytest.raises(UsageError, match="unknown 'doubles'; choose one of duplicates, conflicts"):
        parse_drop("duplicates,doubles")


def test_the_sets_own_parts_are_followed_unless_others_are_asked_for():
    folds = ["test", "train", "val", "train", None, "no/name"]
    metadata = metadata_of([(i << 64, None, exact(0, 30), f"p{i}", fold) for i, fold in enumerate(folds)])
    assert places(metadata, SplitScheme.parse("")) == ["test", "train", "val", "train", "all", "fold is not a name"]
    assert assign_splits(metadata, SplitScheme.parse("")).splits == ("train", "val", "test", "all")
    assert set(places(metadata, SplitScheme.parse("here=1"))) == {"here"}
    five = metadata_of([(i << 64, None, exact(0, 30), f"p{i}", str(i % 5)) for i in range(20)])
    assert (
        places(five, SplitScheme.parse(""))
        == [f"fold{i % 5}" for i in range(20)]
        == places(five, SplitScheme.parse(folds="5"))
    )
    assert assign_splits(five, SplitScheme.parse(folds="4")).splits == ("fold0", "fold1", "fold2", "fold3")
    own = metadata_of([(i << 64, None, exact(0, 30), f"p{i}", ["train", "val"][i % 2]) for i in range(200)])
    shares = SplitScheme.parse("train=0.2,val=0.8")
    assert places(own, shares) == [shares.choose(f"p{i}") for i in range(200)]  # not what the set says
    many = metadata_of([(i << 64, None, exact(0, 30), None, i) for i in range(12)])
    assert assign_splits(many, SplitScheme.parse("")).splits == tuple(f"fold{i}" for i in range(12))
    assert fold_name("03") == "fold3" and fold_name("") == fold_name(None) == "all"


def test_a_copy_across_the_sets_own_parts_is_told():
    rows = [(1 << 64, None, exact(0, 30), None, "train"), (1 << 64, None, exact(0, 31), None, "test")]
    counts = assign_splits(metadata_of(rows), SplitScheme.parse("")).copies
    assert (
        counts["identical"]["across_parts"] == 1 and counts["identical"]["age_conflicts"] == 1 and "near" not in counts
    )


def test_one_fold_a_person():
    persons = ["082", "001", "010", None, "001"]
    metadata = metadata_of([(i << 64, None, exact(0, 30), person, None) for i, person in enumerate(persons)])
    assert places(metadata, SplitScheme.parse(folds="persons")) == [
        "fold2",
        "fold0",
        "fold1",
        "person not known",
        "fold0",
    ]
    for persons in (2, 300):
        metadata = metadata_of([(i << 64, None, exact(0, 30), f"p{i}", None) for i in range(persons)])
        with pytest.raises(AgedgeError, match=f"must have 3 to 200 persons; it has {persons}"):
            assign_splits(metadata, SplitScheme.parse(folds="persons"))


@pytest.mark.parametrize(
    "text, folds, says",
    [
        ("train=1.2,val=-0.2", "", "must be positive and add up to 1"),
        ("train=1", "5", "give one of them"),
        ("", "1", "a number from 2 to 100, or 'persons'"),
        ("", "five", "a number from 2 to 100, or 'persons'"),
    ],
)
def test_wrong_splits(text, folds, says):
    with pytest.raises(UsageError, match=says):
        SplitScheme.parse(text, folds)


def test_nothing_and_one():
    assert assign_splits(FaceMetadata(), SplitScheme.parse("a=0.5,b=0.5")).split.size == 0
    assert places(metadata_of([(1 << 64, None, exact(0, 1), None, None)]), SplitScheme.parse("")) == ["all"]
