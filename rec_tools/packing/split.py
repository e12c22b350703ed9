"""Which part of a split a face is in: as the set itself says, or decided by whom it shows, so that no person and no
copy stands in two."""

import hashlib
import re
from dataclasses import dataclass, field

from agedge.errors import UsageError

PERSONS = "persons"
MOST_PARTS = 200  # each has three open files
PART, FOLD = re.compile(r"(?!dropped$)\w[\w-]*"), re.compile(r"fold[0-9]+")  # dropped.csv stands beside them


@dataclass(frozen=True)
class Split:
    """`shares`: named parts with their shares, in order; none: the parts that the set itself has, or one, "all".
    `one_person_out`: a part a person. A face's part follows from a hash of its group and the seed alone, so it stays
    the same however many other faces come along."""

    shares: dict = field(default_factory=dict)
    seed: int = 0
    one_person_out: bool = False

    @classmethod
    def parse(cls, text: str = "", folds: str = "", seed: int = 0) -> "Split":
        """From "train=0.9,val=0.1", or from a number of folds or "persons". Raises `UsageError`."""
        if text and folds:
            raise UsageError("split and folds: give one of them")
        if folds == PERSONS:
            return cls(seed=seed, one_person_out=True)
        if folds:
            if not re.fullmatch("[0-9]+", folds) or not 2 <= int(folds) <= 100:
                raise UsageError(f"folds '{folds}': a number from 2 to 100, or '{PERSONS}': one fold a person")
            return cls({fold_name(fold): 1 / int(folds) for fold in range(int(folds))}, seed)
        parts = [part.partition("=") for part in text.split(",") if part]
        try:
            shares = {name: float(share) for name, _, share in parts}
        except ValueError:
            shares = {}
        if len(shares) < len(parts) or not all(PART.fullmatch(name) for name in shares):
            raise UsageError(f"split '{text}': write it as train=0.9,val=0.1")
        if shares and not (abs(sum(shares.values()) - 1) <= 1e-6 and min(shares.values()) > 0):
            raise UsageError(f"split '{text}': the shares are to be positive and to add up to 1")
        return cls(shares, seed)

    def part_of(self, group: str) -> str:
        """The part of a face whose group (its person, or its image's checksum) is given."""
        digest = hashlib.blake2b(f"{self.seed}:{group}".encode(errors="surrogateescape"), digest_size=8).digest()
        at, end = int.from_bytes(digest, "big") / 2**64, 0.0
        for name, share in self.shares.items():
            end += share
            if at < end:
                return name
        return name

    def to_json(self) -> dict:
        if self.one_person_out:
            return {"folds": PERSONS}
        return {"shares": self.shares, "seed": self.seed}


def fold_name(fold) -> str:
    """The part of a row whose fold the set gives: of 3, "03", "fold03" it is "fold3", of a word that, of none "all"."""
    text = str("" if fold is None else fold)
    number = re.fullmatch("(?:fold)?([0-9]+)", text)
    return f"fold{int(number[1])}" if number else text or "all"
