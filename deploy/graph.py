"""Graphs of MXNet symbols as nodes that can be rewired: read, walk, replace and write them."""

import json
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Tuple

Edge = Tuple["Node", int]  # a node and which of its outputs


@dataclass(eq=False)
class Node:
    """One operation, or a variable (`op` "null"); `attrs` are strings, as MXNet writes them."""

    op: str
    name: str
    inputs: List[Edge] = field(default_factory=list)
    attrs: Dict[str, str] = field(default_factory=dict)


def variable(name: str) -> Node:
    """Return a variable: a weight or an input."""
    return Node("null", name)


def is_true(node: Node, attribute: str, default: bool) -> bool:
    """Return a boolean attribute; `default` is MXNet's for an absent one."""
    return node.attrs.get(attribute, str(default)) in ("True", "1")


def read_graph(symbol: Any) -> List[Edge]:
    """Return the outputs of a symbol, whose nodes lead to all others."""
    graph = json.loads(symbol.tojson())
    nodes = []
    for item in graph["nodes"]:
        inputs = [(nodes[edge[0]], edge[1]) for edge in item["inputs"]]
        nodes.append(Node(item["op"], item["name"], inputs, dict(item.get("attrs", {}))))
    return [(nodes[head[0]], head[1]) for head in graph["heads"]]


def walk(heads: List[Edge]) -> List[Node]:
    """Return every node that the outputs need, each after its inputs."""
    order, seen = [], set()
    stack = [(node, False) for node, _ in reversed(heads)]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((source, False) for source, _ in reversed(node.inputs))
    return order


def replace(heads: List[Edge], change: Callable[[Node], Optional[List[Edge]]]) -> List[Edge]:
    """Replace the outputs of each node by the edges that `change(node)` returns, if any. Returns the new heads."""
    moved = {}
    for node in walk(heads):
        node.inputs = [moved.get((id(source), index), (source, index)) for source, index in node.inputs]
        for index, edge in enumerate(change(node) or []):
            moved[id(node), index] = edge
    return [moved.get((id(node), index), (node, index)) for node, index in heads]


def write_graph(heads: List[Edge]) -> Any:
    """Return the MXNet symbol of these outputs."""
    import mxnet as mx

    nodes = walk(heads)
    place = {id(node): index for index, node in enumerate(nodes)}
    written = []
    for node in nodes:
        inputs = [[place[id(source)], index, 0] for source, index in node.inputs]
        written.append({"op": node.op, "name": node.name, "inputs": inputs, "attrs": node.attrs})
    graph = {
        "nodes": written,
        "arg_nodes": [index for index, node in enumerate(nodes) if node.op == "null"],
        "heads": [[place[id(node)], index, 0] for node, index in heads],
        "attrs": {"mxnet_version": ["int", 10901]},  # of the form written here, so that nothing is "upgraded"
    }
    return mx.sym.load_json(json.dumps(graph))


def infer_shapes(symbol: Any, known: Dict[str, tuple]) -> Dict[str, List[tuple]]:
    """Return the shapes of the outputs of every node by its name, from those of inputs and weights."""
    internals = symbol.get_internals()
    inputs = set(symbol.list_inputs())
    _, shapes, _ = internals.infer_shape(**{name: shape for name, shape in known.items() if name in inputs})
    found: Dict[str, List[tuple]] = {}
    for part, shape in zip(internals, shapes):
        found.setdefault(part.name, []).append(shape)
    return found
