"""The heads of the networks: each defines the layers, the loss and the decoding of one output.

An age head is a `HybridBlock` (`heads.ages.AgeHead`) from features (N, C) to logits, with three methods:
`loss(F, logits, age_min, age_max)` takes ages (N, 1), -1 if unknown, and returns (N,), 0 where unknown;
`decode(F, logits)` returns the age in years (N, 1); `distribution(F, logits)` returns (N, 101) or None.
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
    """Build an age head from its name, or from {"name": name, option: value, ..} as in recipes.

    Raises `ValueError` for an unknown name or option (with the choices) and for an invalid value.
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
