"""A network as it was trained -> the network that is shipped: no dropout, losses, labels or arithmetic on constants.

ncnn has no arange, and the networks that count stages by one (SSR-Net) carry several: they become plain constants, or
inputs `stage_num0`, `stage_num1`, ... where a user's program already feeds those.
"""

import copy
from pathlib import Path
from typing import Dict, List

import numpy as np

from agedge.errors import AgedgeError, choices
from agedge.results.overwrite import check_model_folder
from agedge.runtime.card import Card
from agedge.runtime.model import open_model
from agedge.runtime.model_files import Checkpoint, find_model, move_model, read_checkpoint, save_checkpoint
from agedge.safe_write import naming, temporary_folder
from deploy.graph import Edge, Node, read_graph, replace, variable, walk, write_graph
from deploy.probe_images import draw_probes
from deploy.tolerances import Gate, compare_raw

ARANGE = ("constant", "inputs")
# Nothing but a place for a gradient: for prediction each is its first input.
PASSING = {"Dropout", "BlockGrad", "MakeLoss", "make_loss", "LinearRegressionOutput", "MAERegressionOutput"}
# A loss that is an operation for prediction: (that operation, its attributes).
ANSWERING = {
    "SoftmaxOutput": ("softmax", {"axis": "1"}),
    "SoftmaxActivation": ("softmax", {"axis": "1"}),
    "LogisticRegressionOutput": ("sigmoid", {}),
}
# The same numbers but for the rounding of another order of fused operations, in years, logits or probabilities.
SAME = Gate(most=2e-5)


def slim_model(model, out, arange: str = "constant") -> Card:
    """Write the slim MXNet graph of a model folder, a run or "PREFIX,EPOCH" into the folder `out`, with its card.

    A slim model comes out as it went in, byte for byte. Raises `AgedgeError` where the model cannot be read, or where
    the slim graph says something else than the one it came from.
    """
    if arange not in ARANGE:
        raise choices("arange", arange, ARANGE)
    card = find_model(model)
    symbol_file = card.path("mxnet", "symbol")
    constants = card.input.get("constants", {})
    checkpoint = read_checkpoint(symbol_file, card.path("mxnet", "params"), inputs=constants)
    before = open_model(card, "mxnet")

    slim = copy.deepcopy(card)
    checkpoint, stages = slim_checkpoint(checkpoint, arange)
    if stages:
        slim.input["constants"] = {**constants, **{name: value.tolist() for name, value in stages.items()}}
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with naming(out), temporary_folder(out) as stage:
        save_checkpoint(checkpoint, slim, stage)
        probes = draw_probes(card.input["size"])
        difference = compare_raw(before.raw_outputs(probes), open_model(slim, "mxnet").raw_outputs(probes))
        fault = SAME.fault(difference)
        if fault:
            raise AgedgeError(f"{symbol_file}: the slim graph answers otherwise: {fault}")
        check_model_folder(out, stage, list(slim.sha256), (symbol_file, card.path("mxnet", "params")))
        move_model(slim, out)
    return slim


def slim_checkpoint(checkpoint: Checkpoint, arange: str = "constant"):
    """(slim checkpoint, {name: value} of the inputs that stand for aranges)."""
    heads = read_graph(checkpoint.symbol)
    heads = drop_training(heads)
    heads = unfuse_batchnorm(heads)
    heads, constants = fold_constants(heads)
    stages = {}
    if arange == "inputs":
        heads, stages = name_stages(heads, constants)
    symbol = write_graph(heads)
    given = {**checkpoint.args, **constants}
    args = {name: given[name] for name in symbol.list_arguments() if name in given and name not in stages}
    aux = {name: checkpoint.aux[name] for name in symbol.list_auxiliary_states()}
    return Checkpoint(symbol, args, aux), stages


def drop_training(heads: List[Edge]) -> List[Edge]:
    """Take out what only training needs. An output keeps its name."""
    outputs = {id(node) for node, _ in heads}

    def change(node: Node):
        if node.op in ANSWERING:
            op, attrs = ANSWERING[node.op]
            return [(Node(op, node.name, node.inputs[:1], dict(attrs)), 0)]
        if node.op in PASSING:
            return [(Node("_copy", node.name, node.inputs[:1]), 0)] if id(node) in outputs else node.inputs[:1]
        return None

    return replace(heads, change)


def unfuse_batchnorm(heads: List[Edge]) -> List[Edge]:
    """BatchNormWithReLU, which trains faster on CPUs, exists in no other format: BatchNorm, then ReLU."""

    def change(node: Node):
        if node.op != "_contrib_BatchNormWithReLU":
            return None
        norm = Node("BatchNorm", node.name + "_norm", node.inputs, node.attrs)
        return [(Node("Activation", node.name, [(norm, 0)], {"act_type": "relu"}), 0)]

    return replace(heads, change)


def fold_constants(heads: List[Edge]):
    """Compute what depends on no variable once, here. Returns (heads, {name of the new weight: its NDArray})."""
    fixed = set()
    for node in walk(heads):
        random = node.op.startswith(("_random", "_sample"))
        if node.op != "null" and not random and all(id(source) in fixed for source, _ in node.inputs):
            fixed.add(id(node))
    wanted = {}  # the last fixed nodes, which are used by others
    for node in walk(heads):
        if id(node) not in fixed:
            wanted.update({id(source): source for source, _ in node.inputs if id(source) in fixed})
    values = {node.name: write_graph([(node, 0)]).eval()[0] for node in wanted.values()}
    return replace(heads, lambda node: [(variable(node.name), 0)] if id(node) in wanted else None), values


def name_stages(heads: List[Edge], constants: Dict[str, object]):
    """Make inputs `stage_num0`, ... of constants 0, 1, 2, ..., in the graph's order. Returns (heads, {name: value})."""
    stages: Dict[str, np.ndarray] = {}

    def change(node: Node):
        if node.op != "null" or node.name not in constants:
            return None
        value = constants[node.name].asnumpy()
        if not np.array_equal(value.reshape(-1), np.arange(value.size)):
            return None
        name = f"stage_num{len(stages)}"
        stages[name] = value
        return [(variable(name), 0)]

    return replace(heads, change), stages
