"""Which side of a split a face is on: decided by whom it shows, so that no person and no copy stands on both."""

import hashlib
import re
from dataclasses import dataclass

from agedge.errors import UsageError


@dataclass(frozen=True)
class Split:
    """Named parts with their shares, in order. A face's part follows from a hash of its group and the seed alone, so it
    stays the same however many other faces come along."""

    shares: dict
    seed: int = 0

    @classmethod
    def parse(cls, text: str, seed: int = 0) -> "Split":
        """From "train=0.9,val=0.1"; "" is one part, "all". Raises `UsageError`."""
        parts = [part.partition("=") for part in text.split(",") if part]
        try:
            shares = {name: float(share) for name, _, share in parts}
        except ValueError:
            shares = {}
        if len(shares) < len(parts) or not all(re.fullmatch(r"\w[\w-]*", name) for name in shares):
            raise UsageError(f"split '{text}': write it as train=0.9,val=0.1")
        if shares and not (abs(sum(shares.values()) - 1) <= 1e-6 and min(shares.values()) > 0):
            raise UsageError(f"split '{text}': the shares are to be positive and to add up to 1")
        return cls(shares or {"all": 1.0}, seed)

    def part_of(self, group: str) -> str:
        """The part of a face whose group (its person, or its image's checksum) is given."""
        digest = hashlib.blake2b(f"{self.seed}:{group}".encode(), digest_size=8).digest()
        at, end = int.from_bytes(digest, "big") / 2**64, 0.0
        for name, share in self.shares.items():
            end += share
            if at < end:
                return name
        return name
