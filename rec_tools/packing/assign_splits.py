"""Who goes where: rows that belong together (a person, copies of an image), the part each goes to, and who is dropped.

What is remembered of a row is some seventy bytes, and a person's name once.
"""

import logging
from array import array
from typing import NamedTuple, Optional

import numpy as np

from agedge.errors import AgedgeError, UsageError, choices
from agedge.labels import Label
from rec_tools.packing.duplicates import Copies, find_copies, labels_conflict, summarise
from rec_tools.packing.split import FOLD, MOST_PARTS, PART, PERSONS, Split, fold_name

log = logging.getLogger(__name__)

DROP = ("duplicates", "conflicts")
KEPT, DUPLICATE, CONFLICT, NO_PERSON, NO_PART = range(5)
REASONS = ("", "copy of an image", "copies with different labels", "person not known", "fold is no name")
NOBODY = -1


def parse_drop(text: str) -> tuple:
    """From "duplicates,conflicts". Raises `UsageError` that lists the choices."""
    words = tuple(word for word in text.split(",") if word)
    for word in words:
        if word not in DROP:
            raise choices("drop", word, DROP)
    return words


class Ledger:
    """Every row in order: what its image looks like, its label, person and fold."""

    def __init__(self):
        self._digests, self._fingerprints, self._labels = array("Q"), array("Q"), array("f")
        self._persons, self._folds = array("i"), array("i")
        self.persons, self.folds = {}, {}  # by name: the number that stands for it

    def __len__(self) -> int:
        return len(self._persons)

    def add(self, digest: str, fingerprint: Optional[np.ndarray], label: Label, identity, fold) -> None:
        self._digests.extend((int(digest[:16], 16), int(digest[16:], 16)))
        if fingerprint is not None:
            self._fingerprints.extend(int(word) for word in fingerprint)
        self._labels.extend((label.gender, label.age_min, label.age_max))
        self._persons.append(self.persons.setdefault(identity, len(self.persons)) if identity else NOBODY)
        self._folds.append(self.folds.setdefault(fold_name(fold), len(self.folds)))

    @property
    def labels(self) -> np.ndarray:
        """(n, 3) float32, by the contract."""
        return np.array(self._labels, np.float32).reshape(-1, 3)

    @property
    def person(self) -> np.ndarray:
        """(n,) numbers of persons, -1 where not known."""
        return np.array(self._persons, np.int64)

    @property
    def fold(self) -> np.ndarray:
        """(n,) numbers of folds."""
        return np.array(self._folds, np.int64)

    @property
    def has_looks(self) -> bool:
        """Whether every row has a fingerprint."""
        return len(self._fingerprints) == 4 * len(self)

    def find_copies(self) -> Copies:
        """Groups of copies, by bytes and, where every row has a fingerprint, by looks."""
        nobody = np.zeros(4 * len(self), np.uint64)  # a fingerprint that is nobody's copy
        fingerprints = np.array(self._fingerprints, np.uint64) if self.has_looks else nobody
        return find_copies(np.array(self._digests[::2], np.uint64), fingerprints.reshape(-1, 4))

    def find_groups(self, copies: Copies) -> np.ndarray:
        """(n,) group numbers: rows of one person and copies of one image have the same."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        rows, person = np.arange(len(self)), self.person
        known = np.flatnonzero(person >= 0)
        # Each person is one more node, joined to all of their rows.
        left, right = np.concatenate([rows, known]), np.concatenate([copies.near, len(rows) + person[known]])
        nodes = len(rows) + len(self.persons)
        graph = coo_matrix((np.ones(len(left), bool), (left, right)), (nodes, nodes))
        return connected_components(graph, directed=False)[1][: len(rows)]

    def name_groups(self, groups: np.ndarray, rows: np.ndarray) -> dict:
        """A name for each group of `rows`, the same in whatever order they come: the first of its persons' names, else
        of its images' digests."""
        persons, names = list(self.persons), {}
        for row in rows.tolist():
            person, digest = self._persons[row], self._digests[2 * row : 2 * row + 2]
            name = (0, persons[person]) if person != NOBODY else (1, f"{digest[0]:016x}{digest[1]:016x}")
            names[groups[row]] = min(name, names.get(groups[row], name))
        return {group: name for group, (_, name) in names.items()}


class Plan(NamedTuple):
    """`parts`: their names, in order. `part` (n,): each row's, by number, or -1 where it is dropped; `reason` (n,): the
    number of `REASONS` that says why. `copy_of` (n,): the first row of its copies. `copies`: what to tell of them.
    `by`: how the parts came about, for NAME.json."""

    parts: tuple
    part: np.ndarray
    reason: np.ndarray
    copy_of: np.ndarray
    copies: dict
    by: dict


def plan(ledger: Ledger, split: Split, drop: tuple = ()) -> Plan:
    """Where every row goes. Raises `AgedgeError` where one fold a person is asked for and does not make sense."""
    copies, by = ledger.find_copies(), split.to_json()
    reason = find_drops(ledger.labels, copies.near, drop)
    if split.one_person_out:
        parts, part = take_one_out(ledger, reason)
    elif split.shares and not has_these_folds(ledger, split):
        parts, part = share_out(ledger, split, copies, reason)
    else:
        parts, part = follow_the_set(ledger, reason)
        by = {"by": "the set"}
    kept = reason == KEPT
    part = np.where(kept, part, NOBODY)
    told = summarise(Copies(copies.identical[kept], copies.near[kept]), ledger.labels[kept], part[kept])
    if not ledger.has_looks:
        del told["near"]
    return Plan(parts, part, reason, copies.near, told, by)


def has_these_folds(ledger: Ledger, split: Split) -> bool:
    """Whether folds are asked for and the set has just as many of its own."""
    return set(ledger.folds) == set(split.shares) and all(map(FOLD.fullmatch, split.shares))


def find_drops(labels: np.ndarray, groups: np.ndarray, drop: tuple) -> np.ndarray:
    """(n,) `KEPT`, `DUPLICATE` or `CONFLICT`. Of copies whose labels agree the first one stays; of copies that are
    called different ages or genders none does, for nothing says which is right."""
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


def take_one_out(ledger: Ledger, reason: np.ndarray) -> tuple:
    """A part a person, in the order of their names; who is not known is dropped."""
    reason[(reason == KEPT) & (ledger.person == NOBODY)] = NO_PERSON
    there = set(ledger.person[reason == KEPT].tolist())
    names = sorted(name for name, number in ledger.persons.items() if number in there)
    if not 2 < len(names) <= MOST_PARTS:
        raise AgedgeError(f"folds {PERSONS}: one a person is for 3 to {MOST_PARTS} persons; the set has {len(names)}")
    fold = {ledger.persons[name]: number for number, name in enumerate(names)}
    return tuple(map(fold_name, range(len(names)))), np.array([fold.get(one, NOBODY) for one in ledger.person.tolist()])


def share_out(ledger: Ledger, split: Split, copies: Copies, reason: np.ndarray) -> tuple:
    """Parts by their shares, every group in one of them."""
    groups = ledger.find_groups(copies)
    parts, names = tuple(split.shares), ledger.name_groups(groups, np.flatnonzero(reason == KEPT))
    part = {group: parts.index(split.part_of(name)) for group, name in names.items()}
    for name in set(range(len(parts))) - set(part.values()):
        log.warning("%s: no face in it: there are too few persons or images", parts[name])
    return parts, np.array([part.get(group, NOBODY) for group in groups.tolist()], np.int64)


def follow_the_set(ledger: Ledger, reason: np.ndarray) -> tuple:
    """The parts that the set gives its rows; "all" for those that it gives none."""
    good = np.array([bool(PART.fullmatch(name)) for name in ledger.folds], bool)
    reason[(reason == KEPT) & ~good[ledger.fold]] = NO_PART
    there = set(ledger.fold[reason == KEPT].tolist())
    names = [name for name, number in ledger.folds.items() if number in there]
    if len(names) > MOST_PARTS:
        raise AgedgeError(
            f"the set has {len(names)} parts of its own, more than {MOST_PARTS}; say --split all=1, or others"
        )
    parts = tuple(sorted(names, key=_rank))
    number = [parts.index(name) if name in parts else NOBODY for name in ledger.folds]
    return parts, np.array(number, np.int64)[ledger.fold]


def _rank(part: str) -> tuple:
    """train, val, test, then folds by their number, then the others by name."""
    usual = ("train", "val", "test")
    number = int(part[4:]) if FOLD.fullmatch(part) else -1
    return (usual.index(part) if part in usual else len(usual), number, part)


def check_shard(split: Split, drop: tuple) -> None:
    """Raises `UsageError` for what takes the whole set."""
    if split.shares or split.one_person_out or drop:
        raise UsageError("shard: to split or drop copies takes the whole set: pack the shards, merge them, then split")
