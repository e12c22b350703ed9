"""Heads: block, loss and decoding of one output in one place.

An age head is a `HybridBlock` from features (N, C) to logits, with
`loss(F, logits, age_min, age_max)`: (N, 1) ages, -1 unknown -> (N,), 0 where unknown, and
`decode(F, logits)`: age in years (N, 1), and `distribution(F, logits)`: (N, 101), or None (`heads.ages.AgeHead`).
"""

import inspect
from typing import Any, Union

from symbols.heads.ages import AgeHead
from symbols.heads.cascade import CascadeHead
from symbols.heads.distribution import DexHead, DistributionHead, MeanVarianceHead
from symbols.heads.groups import GroupsHead
from symbols.heads.ordinal import OrdinalHead, OrdinalPairsHead
from symbols.heads.regression import RegressionHead
from symbols.heads.two_point import TwoPointHead

AGE_HEADS = {
    "distribution": DistributionHead,
    "dex": DexHead,
    "mean_variance": MeanVarianceHead,
    "groups": GroupsHead,
    "ordinal": OrdinalHead,
    "ordinal_pairs": OrdinalPairsHead,
    "regression": RegressionHead,
    "cascade": CascadeHead,
    "two_point": TwoPointHead,
}


def create_age_head(name: Union[str, dict], **options: Any) -> AgeHead:
    """Build the head of a name, or of {"name": name, option: value, ..} as recipes have it.

    Raises `ValueError`, with the choices, for an unknown name, option or value.
    """
    if isinstance(name, dict):
        options = {**name, **options}
        name = options.pop("name", None)
    if not (isinstance(name, str) and name in AGE_HEADS):
        raise ValueError(f"age_head: unknown '{name}'; choose one of {', '.join(AGE_HEADS)}")
    known = [option for option in inspect.signature(AGE_HEADS[name]).parameters if option != "prefix"]
    for option in options:
        if option not in known:
            raise ValueError(f"age_head: {name} has no option '{option}'; choose one of {', '.join(known)}")
    try:
        return AGE_HEADS[name](prefix="age_", **options)
    except ValueError as error:
        raise ValueError(f"age_head: {error}") from None
