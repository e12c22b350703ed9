"""Match the operations of two MXNet graphs regardless of their names, which follow the order of creation.

Two operations match where all operations before them, and those that take their output, are the same.
"""

import ast
from typing import Any, Dict, List, NamedTuple, Tuple

from deploy.graph import Edge, Node, is_true, walk

# Operations for gradients, or other shapes of the same numbers.
PASSING = {"Dropout", "Flatten", "_copy", "identity", "BlockGrad", "MAERegressionOutput", "LinearRegressionOutput"}
COMMUTING = {"elemwise_mul", "elemwise_add", "broadcast_mul", "broadcast_add"}
# The attributes that matter, with their defaults.
ATTRIBUTES = {
    "Convolution": {"kernel": None, "num_filter": 0, "stride": (1, 1), "pad": (0, 0), "num_group": 1, "no_bias": False},
    "FullyConnected": {"num_hidden": 0, "no_bias": False},
    "Pooling": {"kernel": (1, 1), "stride": (1, 1), "pad": (0, 0), "pool_type": "max", "global_pool": False},
    "Activation": {"act_type": ""},
    "LeakyReLU": {"act_type": "leaky"},
}
MXNET_EPSILON = 1e-3  # the default of BatchNorm


class Norm(NamedTuple):
    """The settings of a BatchNorm; with `fix_gamma`, gamma counts as 1."""

    epsilon: float
    fix_gamma: bool = False


def match_operations(ours: List[Edge], theirs: List[Edge]) -> Tuple[List[Tuple[Node, Node]], List[Node], List[Node]]:
    """Return pairs (ours, theirs) of operations with weights, and those of ours and of theirs without a match."""
    numbers: Dict[tuple, int] = {}
    mine, other = find_roles(ours, numbers), find_roles(theirs, numbers)
    alone = {role for role in mine if len(mine[role]) == len(other.get(role, ())) == 1}
    pairs = [(mine[role][0], other[role][0]) for role in mine if role in alone]
    left, theirs_left = (
        [node for role in roles if role not in alone for node in roles[role]] for roles in (mine, other)
    )
    return pairs, left, theirs_left


def find_roles(heads: List[Edge], numbers: Dict[tuple, int]) -> Dict[tuple, List[Node]]:
    """Return operations with weights by their role; `numbers`, of computations, grows and is shared between graphs."""
    nodes = walk(heads)
    path: Dict[int, int] = {}  # of a node: the number of the computation that ends in it
    roles: Dict[tuple, List[Node]] = {}
    for node in nodes:
        came = [path[id(source)] for source, _ in node.inputs if not is_weight(source)]
        if node.op in PASSING and came:
            path[id(node)] = came[0]
            continue
        if node.op in COMMUTING:
            came.sort()
        name = node.name if node.op == "null" else ""
        path[id(node)] = numbers.setdefault((node.op, name, describe(node), *came), len(numbers))
        if any(is_weight(source) for source, _ in node.inputs):
            follows = {(taker.op, describe(taker)) for taker in find_takers(nodes, node)}
            roles.setdefault((path[id(node)], frozenset(follows)), []).append(node)
    return roles


def find_takers(nodes: List[Node], node: Node) -> List[Node]:
    """Return the operations that take a node's output, skipping those that only pass it on."""
    takers = []
    for taker in nodes:
        if any(source is node for source, _ in taker.inputs):
            takers += find_takers(nodes, taker) if taker.op in PASSING else [taker]
    return takers


def is_weight(node: Node) -> bool:
    """Return whether a node is a variable other than the input."""
    return node.op == "null" and node.name != "data"


def describe(node: Node) -> tuple:
    """Return the attributes that matter, with defaults."""
    if node.op.endswith("_scalar"):
        return (float(node.attrs.get("scalar", "nan")),)
    read = {key: parse(node.attrs.get(key, default)) for key, default in ATTRIBUTES.get(node.op, {}).items()}
    if read.get("global_pool"):
        read.update(kernel=None, stride=None, pad=None)
    return tuple(sorted(read.items()))


def parse(value: Any) -> Any:
    """Return the Python value of an attribute, or its text."""
    try:
        return ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError):
        return value


def read_norm(node: Node) -> Norm:
    """Return the settings of a BatchNorm node, by default MXNet's."""
    return Norm(float(node.attrs.get("eps", MXNET_EPSILON)), is_true(node, "fix_gamma", True))
