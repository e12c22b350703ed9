"""Match the weights of another system with those of a network, by name or graph, and convert its BatchNorms."""

from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np
from mxnet import sym
from mxnet.gluon import nn
from mxnet.gluon.parameter import Constant
from mxnet.name import NameManager

from deploy.graph import Edge, Node, read_graph
from deploy.importers.operations import Norm, match_operations, read_norm


class Names(NamedTuple):
    """The names of a network's weights in another system.

    `weights`: {structural name: name there}. `norms`: {structural name of a BatchNorm: its settings there}.
    """

    weights: Dict[str, str]
    norms: Dict[str, Norm]


class Matched(NamedTuple):
    """The result of matching a network with an MXNet graph.

    `names`: of the weights. `nodes`: {structural name of a layer: its operation in the graph}. `ours` and `theirs`:
    layers of the network and operations of the graph with weights that have no counterpart.
    """

    names: Names
    nodes: Dict[str, Node]
    ours: List[str]
    theirs: List[Node]


def match_graph(network: Any, heads: List[Edge]) -> Matched:
    """Match a network's layers with an MXNet graph by structure."""
    structural = {value.name: name for name, value in find_weights(network).items()}
    pairs, ours, theirs = match_operations(read_graph(trace(network)), heads)
    names, nodes = Names({}, {}), {}
    for mine, other in pairs:
        layer = structural[mine.inputs[1][0].name].rpartition(".")[0]
        nodes[layer] = other
        for (source, _), (their_source, _) in zip(mine.inputs[1:], other.inputs[1:]):
            names.weights[structural[source.name]] = their_source.name
        if other.op == "BatchNorm":
            names.norms[layer] = read_norm(other)
    weights = [source.name for node in ours for source, _ in node.inputs]
    layers = dict.fromkeys(structural[name].rpartition(".")[0] for name in weights if name in structural)
    return Matched(names, nodes, list(layers), theirs)


def find_weights(network: Any) -> Dict[str, Any]:
    """Return {structural name: parameter} without constants."""
    given = network._collect_params_with_prefix()
    return {name: value for name, value in given.items() if not isinstance(value, Constant)}


def find_shapes(network: Any) -> Dict[str, Tuple[int, ...]]:
    """Return {structural name: shape} of a network's weights from its graph.

    No memory is allocated for them, since the arguments of a network may come from an untrusted file.
    """
    graph = trace(network)
    shapes, _, more = graph.infer_shape(data=(1, 3, network.size, network.size))
    known = dict(zip(graph.list_arguments() + graph.list_auxiliary_states(), shapes + more))
    return {name: known[value.name] for name, value in find_weights(network).items()}


def trace(network: Any) -> Any:
    """Return the symbol of all outputs that a network passes to its loss."""
    with NameManager():
        return sym.Group(list(network(sym.var("data"))))


def take_weights(network: Any, names: Names, arrays: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Return the arrays by structural name.

    The variance of a BatchNorm is shifted by the difference of the epsilons, which gives exactly the same outputs.
    If the other BatchNorm has `fix_gamma`, gamma becomes 1.
    """
    weights = {ours: arrays[theirs] for ours, theirs in names.weights.items()}
    epsilons = find_epsilons(network)
    for layer, norm in names.norms.items():
        variance = weights[f"{layer}.running_var"].astype(np.float64) + norm.epsilon - epsilons[layer]
        weights[f"{layer}.running_var"] = variance.astype(np.float32)
        if norm.fix_gamma:
            weights[f"{layer}.gamma"] = np.ones_like(weights[f"{layer}.gamma"])
    return weights


def find_epsilons(block: Any, name: str = "") -> Dict[str, float]:
    """Return {structural name: epsilon} of every BatchNorm in a network."""
    if isinstance(block, nn.BatchNorm):
        return {name: block._kwargs["eps"]}
    found: Dict[str, float] = {}
    for child_name, child in block._children.items():
        found.update(find_epsilons(child, f"{name}.{child_name}" if name else child_name))
    return found
