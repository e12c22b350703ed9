"""Parameter groups: frozen parameters, separate learning rates, no weight decay.

A group is a pattern of structural names, such as `body.*`.
"""

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Dict, Iterable, Sequence, Set

from agedge.errors import UsageError

if TYPE_CHECKING:
    from mxnet.gluon import HybridBlock


def match_names(patterns: Sequence[str], names: Iterable[str], key: str) -> Set[str]:
    """Return the names that match any of the patterns. Raises `UsageError`, which names the recipe's `key`, if a
    pattern matches no name."""
    names, found = list(names), set()
    for pattern in patterns:
        matched = {name for name in names if fnmatchcase(name, pattern)}
        if not matched:
            blocks = ", ".join(dict.fromkeys(f"{name.split('.')[0]}.*" for name in names))
            raise UsageError(f"{key}: '{pattern}' matches no parameter of the network, which has {blocks}")
        found |= matched
    return found


def freeze(network: "HybridBlock", patterns: Sequence[str]) -> int:
    """Freeze parameters: they get no gradient, and a frozen BatchNorm uses its running statistics without
    updating them. Return the number of frozen parameters. Call before the network is hybridized."""
    from mxnet.gluon import nn

    parameters = network._collect_params_with_prefix()
    frozen = match_names(patterns, parameters, "optimizer.freeze")
    for name in frozen:
        parameters[name].grad_req = "null"
    ids = {id(parameters[name]) for name in frozen}

    def use_running_statistics(block: "HybridBlock") -> None:
        if isinstance(block, nn.BatchNorm) and {id(block.gamma), id(block.beta)} & ids:
            block._kwargs["use_global_stats"] = True

    network.apply(use_running_statistics)
    return len(frozen)


def set_rates(network: "HybridBlock", lr: float, lr_of: Dict[str, float]) -> None:
    """Set the learning rate of the parameters that match a pattern; a later pattern takes precedence.

    The schedule scales these rates like `lr`. Raises `UsageError` if `lr` is 0: rates are set as multiples of it.
    """
    if lr_of and not lr:
        raise UsageError("optimizer.lr=0: must be above 0 if optimizer.lr_of is given")
    parameters = network._collect_params_with_prefix()
    for pattern, rate in lr_of.items():
        for name in match_names([pattern], parameters, "optimizer.lr_of"):
            parameters[name].lr_mult = rate / lr


def decay_weights_alone(network: "HybridBlock") -> None:
    """Turn off weight decay for biases and for the scales and shifts of BatchNorm."""
    for name, parameter in network._collect_params_with_prefix().items():
        if name.rpartition(".")[2] in ("bias", "gamma", "beta"):
            parameter.wd_mult = 0.0
