"""Count the multiplications of a network per face, from the shapes of its operations' outputs."""

from math import prod
from typing import Tuple

from agedge.runtime.card import Card, fixed_inputs
from agedge.runtime.model_files import INPUT, read_checkpoint
from deploy.graph import Edge, infer_shapes, is_true, read_graph, walk


def count_multiplications(card: Card) -> int:
    """Return the multiply-adds of one face through the MXNet files of `card`, which papers call FLOPs.

    Convolutions, dense layers and matrix products count; norms, activations and pooling do not.
    """
    checkpoint = read_checkpoint(card.path("mxnet", "symbol"), card.path("mxnet", "params"), fixed_inputs(card))
    size = card.input["size"]
    known = {name: value.shape for name, value in checkpoint.args.items()}
    known.update({INPUT: (1, 3, size, size), **{name: value.shape for name, value in fixed_inputs(card).items()}})
    shapes = infer_shapes(checkpoint.symbol, known)

    def shape(edge: Edge) -> Tuple[int, ...]:
        node, index = edge
        return shapes[node.name][index]

    total = 0
    for node in walk(read_graph(checkpoint.symbol)):
        if node.op == "null":
            continue
        out = shapes[node.name][0]
        if node.op == "Convolution":
            total += prod(out) * prod(shape(node.inputs[1])[1:])
        elif node.op == "FullyConnected":
            total += prod(out) * shape(node.inputs[1])[1]
        elif node.op in ("batch_dot", "dot", "_linalg_gemm2"):
            left = shape(node.inputs[0])
            total += prod(out) * left[-2 if is_true(node, "transpose_a", default=False) else -1]
    return total
