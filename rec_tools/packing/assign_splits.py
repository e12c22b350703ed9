"""Assign each row to a split, or drop it: rows of one person and copies of one image stay together.

A row takes about seventy bytes of memory, and each person's name is stored once.
"""

import logging
from array import array
from typing import Any, Dict, NamedTuple, Optional, Tuple

import numpy as np

from agedge.errors import AgedgeError, UsageError, choices
from agedge.labels import Label
from rec_tools.packing.duplicates import DuplicateGroups, find_duplicates, labels_conflict, summarise_duplicates
from rec_tools.packing.split import FOLD, MOST_SPLITS, PERSONS, SPLIT_NAME, SplitScheme, fold_name

log = logging.getLogger(__name__)

DROP = ("duplicates", "conflicts")
KEPT, DUPLICATE, CONFLICT, NO_PERSON, NO_SPLIT = range(5)
REASONS = ("", "copy of an image", "copies with different labels", "person not known", "fold is not a name")
NONE = -1  # no person, or no split


def parse_drop(text: str) -> Tuple[str, ...]:
    """Parse "duplicates,conflicts". Raises `UsageError` that lists the choices."""
    words = tuple(word for word in text.split(",") if word)
    for word in words:
        if word not in DROP:
            raise choices("drop", word, DROP)
    return words


class FaceMetadata:
    """The digest, fingerprint, label, person and fold of every face, in order.

    `persons`, `folds`: {name: its number}.
    """

    def __init__(self):
        self._digests, self._fingerprints, self._labels = array("Q"), array("Q"), array("f")
        self._persons, self._folds = array("i"), array("i")
        self.persons: Dict[str, int] = {}
        self.folds: Dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._persons)

    def add(
        self, digest: str, fingerprint: Optional[np.ndarray], label: Label, identity: Optional[str], fold: object
    ) -> None:
        """Append a face. `digest`: 32 hexadecimal digits; `fingerprint` (4,) uint64."""
        self._digests.extend((int(digest[:16], 16), int(digest[16:], 16)))
        if fingerprint is not None:
            self._fingerprints.extend(int(word) for word in fingerprint)
        self._labels.extend((label.gender, label.age_min, label.age_max))
        self._persons.append(self.persons.setdefault(identity, len(self.persons)) if identity else NONE)
        self._folds.append(self.folds.setdefault(fold_name(fold), len(self.folds)))

    @property
    def labels(self) -> np.ndarray:
        """Return the labels (n, 3) float32 [gender, age_min, age_max]."""
        return np.array(self._labels, np.float32).reshape(-1, 3)

    @property
    def person(self) -> np.ndarray:
        """Return the numbers of the persons (n,), -1 where unknown."""
        return np.array(self._persons, np.int64)

    @property
    def fold(self) -> np.ndarray:
        """Return the numbers of the folds (n,)."""
        return np.array(self._folds, np.int64)

    @property
    def has_fingerprints(self) -> bool:
        """Return whether every face has a fingerprint."""
        return len(self._fingerprints) == 4 * len(self)

    def find_duplicates(self) -> DuplicateGroups:
        """Group copies by the bytes of their files and, if every face has a fingerprint, by fingerprint."""
        blank = np.zeros(4 * len(self), np.uint64)  # all zeros match no other fingerprint
        fingerprints = np.array(self._fingerprints, np.uint64) if self.has_fingerprints else blank
        return find_duplicates(np.array(self._digests[::2], np.uint64), fingerprints.reshape(-1, 4))

    def find_groups(self, copies: DuplicateGroups) -> np.ndarray:
        """Return group numbers (n,): faces of one person and copies of one image share a number."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        rows, person = np.arange(len(self)), self.person
        known = np.flatnonzero(person >= 0)
        # Each person is one more node, joined to all of their rows.
        left, right = np.concatenate([rows, known]), np.concatenate([copies.near, len(rows) + person[known]])
        nodes = len(rows) + len(self.persons)
        graph = coo_matrix((np.ones(len(left), bool), (left, right)), (nodes, nodes))
        return connected_components(graph, directed=False)[1][: len(rows)]

    def name_groups(self, groups: np.ndarray, rows: np.ndarray) -> Dict[int, str]:
        """Return a name for each group of `rows`, which does not depend on their order.

        It is the first of the group's persons in alphabetical order, or else the first of its digests.
        """
        persons, names = list(self.persons), {}
        for row in rows.tolist():
            person, digest = self._persons[row], self._digests[2 * row : 2 * row + 2]
            name = (0, persons[person]) if person != NONE else (1, f"{digest[0]:016x}{digest[1]:016x}")
            names[groups[row]] = min(name, names.get(groups[row], name))
        return {group: name for group, (_, name) in names.items()}


class Assignment(NamedTuple):
    """The split of every face.

    `splits`: names of the splits, in order. `split` (n,): index in `splits` of each face, -1 if it is dropped.
    `reason` (n,): why it is dropped, as an index of `REASONS`. `copy_of` (n,): the first face of its group of copies.
    `copies`: counts of copies, as `summarise_duplicates` returns them. `by`: how the splits were chosen, for NAME.json.
    """

    splits: Tuple[str, ...]
    split: np.ndarray
    reason: np.ndarray
    copy_of: np.ndarray
    copies: Dict[str, Any]
    by: Dict[str, Any]


def assign_splits(metadata: FaceMetadata, scheme: SplitScheme, drop: Tuple[str, ...] = ()) -> Assignment:
    """Assign every face to a split. Raises `AgedgeError` if one fold per person does not fit the data set."""
    copies, by = metadata.find_duplicates(), scheme.to_json()
    reason = find_drops(metadata.labels, copies.near, drop)
    if scheme.one_person_out:
        splits, split = leave_one_person_out(metadata, reason)
    elif scheme.shares and not has_these_folds(metadata, scheme):
        splits, split = split_by_shares(metadata, scheme, copies, reason)
    else:
        splits, split = keep_given_splits(metadata, reason)
        by = {"by": "the set"}
    kept = reason == KEPT
    split = np.where(kept, split, NONE)
    remaining = DuplicateGroups(copies.identical[kept], copies.near[kept])
    counts = summarise_duplicates(remaining, metadata.labels[kept], split[kept])
    if not metadata.has_fingerprints:
        del counts["near"]
    return Assignment(splits, split, reason, copies.near, counts, by)


def has_these_folds(metadata: FaceMetadata, scheme: SplitScheme) -> bool:
    """Return whether the scheme names folds and the data set has exactly these of its own."""
    return set(metadata.folds) == set(scheme.shares) and all(map(FOLD.fullmatch, scheme.shares))


def find_drops(labels: np.ndarray, groups: np.ndarray, drop: Tuple[str, ...]) -> np.ndarray:
    """Return `KEPT`, `DUPLICATE` or `CONFLICT` (n,).

    Of copies with compatible labels the first is kept; of copies with conflicting labels none, since it is unknown
    which label is right.
    """
    reason = np.full(len(labels), KEPT, np.int8)
    several = np.flatnonzero(np.bincount(groups, minlength=1)[groups] > 1 if drop else [])
    several = several[np.argsort(groups[several], kind="stable")]
    for rows in np.split(several, np.flatnonzero(np.diff(groups[several])) + 1) if several.size else ():
        if "conflicts" in drop and labels_conflict(labels[rows]):
            reason[rows] = CONFLICT
        elif "duplicates" in drop:
            kept = [rows[0]]
            for row in rows[1:]:
                if all(labels_conflict(labels[[row, one]]) for one in kept):
                    kept.append(row)
                else:
                    reason[row] = DUPLICATE
    return reason


def leave_one_person_out(metadata: FaceMetadata, reason: np.ndarray) -> Tuple[Tuple[str, ...], np.ndarray]:
    """Return one fold per person, in the order of their names; faces of unknown persons are dropped in `reason`."""
    reason[(reason == KEPT) & (metadata.person == NONE)] = NO_PERSON
    present = set(metadata.person[reason == KEPT].tolist())
    names = sorted(name for name, number in metadata.persons.items() if number in present)
    if not 2 < len(names) <= MOST_SPLITS:
        raise AgedgeError(f"folds {PERSONS}: the data set must have 3 to {MOST_SPLITS} persons; it has {len(names)}")
    fold = {metadata.persons[name]: number for number, name in enumerate(names)}
    numbers = [fold.get(one, NONE) for one in metadata.person.tolist()]
    return tuple(map(fold_name, range(len(names)))), np.array(numbers, np.int64)


def split_by_shares(
    metadata: FaceMetadata, scheme: SplitScheme, copies: DuplicateGroups, reason: np.ndarray
) -> Tuple[Tuple[str, ...], np.ndarray]:
    """Return the splits of the scheme, each group of faces in one of them."""
    groups = metadata.find_groups(copies)
    splits, names = tuple(scheme.shares), metadata.name_groups(groups, np.flatnonzero(reason == KEPT))
    split = {group: splits.index(scheme.choose(name)) for group, name in names.items()}
    for number in set(range(len(splits))) - set(split.values()):
        log.warning("%s: no face in it: the data set has too few persons or images", splits[number])
    return splits, np.array([split.get(group, NONE) for group in groups.tolist()], np.int64)


def keep_given_splits(metadata: FaceMetadata, reason: np.ndarray) -> Tuple[Tuple[str, ...], np.ndarray]:
    """Return the data set's own splits; faces without one go to "all"."""
    good = np.array([bool(SPLIT_NAME.fullmatch(name)) for name in metadata.folds], bool)
    reason[(reason == KEPT) & ~good[metadata.fold]] = NO_SPLIT
    present = set(metadata.fold[reason == KEPT].tolist())
    names = [name for name, number in metadata.folds.items() if number in present]
    if len(names) > MOST_SPLITS:
        raise AgedgeError(
            f"the data set has {len(names)} splits of its own, more than {MOST_SPLITS}; give --split all=1, or others"
        )
    splits = tuple(sorted(names, key=_rank))
    number = [splits.index(name) if name in splits else NONE for name in metadata.folds]
    return splits, np.array(number, np.int64)[metadata.fold]


def _rank(split: str) -> Tuple[int, int, str]:
    """Return a sort key: train, val, test, then folds by number, then other names."""
    usual = ("train", "val", "test")
    number = int(split[4:]) if FOLD.fullmatch(split) else -1
    return (usual.index(split) if split in usual else len(usual), number, split)


def check_shard(scheme: SplitScheme, drop: Tuple[str, ...]) -> None:
    """Check that packing a shard needs no other shard. Raises `UsageError`."""
    if scheme.shares or scheme.one_person_out or drop:
        raise UsageError(
            "shard: splitting or dropping copies needs the whole data set: pack the shards, merge them, then split"
        )
