"""Which parameters of a network train, and how fast: by patterns of their structural names, such as `body.*`."""

from fnmatch import fnmatchcase
from typing import Dict, Iterable, Sequence, Set

from agedge.errors import UsageError


def match_names(patterns: Sequence[str], names: Iterable[str], key: str) -> Set[str]:
    """The names that match any of the patterns. Raises `UsageError` for a pattern that matches none, by its recipe's
    key."""
    names, found = list(names), set()
    for pattern in patterns:
        matched = {name for name in names if fnmatchcase(name, pattern)}
        if not matched:
            blocks = ", ".join(dict.fromkeys(f"{name.split('.')[0]}.*" for name in names))
            raise UsageError(f"{key}: '{pattern}' matches no parameter of the network; there are {blocks}")
        found |= matched
    return found


def freeze(network, patterns: Sequence[str]) -> int:
    """Keep parameters as they are: no gradient, and a frozen BatchNorm goes by its running statistics and leaves them
    alone. Returns how many parameters that are. Call before the network is hybridized."""
    from mxnet.gluon import nn

    parameters = network._collect_params_with_prefix()
    frozen = match_names(patterns, parameters, "optimizer.freeze")
    for name in frozen:
        parameters[name].grad_req = "null"
    still = {id(parameters[name]) for name in frozen}

    def use_running_statistics(block):
        if isinstance(block, nn.BatchNorm) and {id(block.gamma), id(block.beta)} & still:
            block._kwargs["use_global_stats"] = True

    network.apply(use_running_statistics)
    return len(frozen)


def set_rates(network, lr: float, lr_of: Dict[str, float]) -> None:
    """Give parameters that match a pattern their own learning rate in place of `lr`; a later pattern wins. Schedules
    scale it as they scale `lr`. Raises `UsageError` where `lr` is 0, of which nothing is a multiple."""
    if lr_of and not lr:
        raise UsageError("optimizer.lr=0: a rate above 0 is wanted with optimizer.lr_of")
    parameters = network._collect_params_with_prefix()
    for pattern, rate in lr_of.items():
        for name in match_names([pattern], parameters, "optimizer.lr_of"):
            parameters[name].lr_mult = rate / lr


def decay_weights_alone(network) -> None:
    """No weight decay of biases and of BatchNorms' scales and shifts, whatever the optimizer's is."""
    for name, parameter in network._collect_params_with_prefix().items():
        if name.rpartition(".")[2] in ("bias", "gamma", "beta"):
            parameter.wd_mult = 0.0
