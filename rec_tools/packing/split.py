"""Choose the split (train, val, fold0, ..) of a face: as the data set gives it, or by a hash of the person.

Faces of one person, and copies of one image, are always in the same split.
"""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any, Dict

from agedge.errors import UsageError

PERSONS = "persons"
MOST_SPLITS = 200  # each has three open files
# A split is also a file name, beside which dropped.csv is written.
SPLIT_NAME, FOLD = re.compile(r"(?!dropped$)\w[\w-]*"), re.compile(r"fold[0-9]+")


@dataclass(frozen=True)
class SplitScheme:
    """How faces are shared out among splits.

    `shares`: the splits and their shares, in order; empty: the data set's own splits, or one named "all".
    `one_person_out`: one split per person. A face's split depends on a hash of its group and the seed alone, so it does
    not change when faces are added to the data set.
    """

    shares: Dict[str, float] = field(default_factory=dict)
    seed: int = 0
    one_person_out: bool = False

    @classmethod
    def parse(cls, text: str = "", folds: str = "", seed: int = 0) -> "SplitScheme":
        """Parse "train=0.9,val=0.1", or a number of folds or "persons". Raises `UsageError`."""
        if text and folds:
            raise UsageError("split and folds: give one of them")
        if folds == PERSONS:
            return cls(seed=seed, one_person_out=True)
        if folds:
            if not re.fullmatch("[0-9]+", folds) or not 2 <= int(folds) <= 100:
                raise UsageError(
                    f"folds '{folds}': must be a number from 2 to 100, or '{PERSONS}': one fold per person"
                )
            return cls({fold_name(fold): 1 / int(folds) for fold in range(int(folds))}, seed)
        pairs = [pair.partition("=") for pair in text.split(",") if pair]
        try:
            shares = {name: float(share) for name, _, share in pairs}
        except ValueError:
            shares = {}
        if len(shares) < len(pairs) or not all(SPLIT_NAME.fullmatch(name) for name in shares):
            raise UsageError(f"split '{text}': write it as train=0.9,val=0.1")
        if shares and not (abs(sum(shares.values()) - 1) <= 1e-6 and min(shares.values()) > 0):
            raise UsageError(f"split '{text}': the shares must be positive and add up to 1")
        return cls(shares, seed)

    def choose(self, group: str) -> str:
        """Return the split of a group of faces: a person's name, or the checksum of an image."""
        digest = hashlib.blake2b(f"{self.seed}:{group}".encode(errors="surrogateescape"), digest_size=8).digest()
        at, end = int.from_bytes(digest, "big") / 2**64, 0.0
        for name, share in self.shares.items():
            end += share
            if at < end:
                return name
        return list(self.shares)[-1]  # the shares add up to a little less than 1

    def to_json(self) -> Dict[str, Any]:
        """Return the scheme as NAME.json records it."""
        if self.one_person_out:
            return {"folds": PERSONS}
        return {"shares": self.shares, "seed": self.seed}


def fold_name(fold: object) -> str:
    """Return the split of a data set's fold: 3, "03" and "fold03" give "fold3", none gives "all"."""
    text = str("" if fold is None else fold)
    number = re.fullmatch("(?:fold)?([0-9]+)", text)
    return f"fold{int(number[1])}" if number else text or "all"
