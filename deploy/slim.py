"""Slim a trained network for deployment: remove dropout, losses, labels and arithmetic on constants.

ncnn has no arange, and SSR-Net contains several (0, 1, 2, .. numbers of its stages). They become constants, or inputs
`stage_num0`, `stage_num1`, .. for programs that already feed these.
"""

import copy
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

import numpy as np

from agedge.errors import AgedgeError, choices
from agedge.results.overwrite import check_model_folder
from agedge.runtime.card import Card
from agedge.runtime.model import open_model
from agedge.runtime.model_files import Checkpoint, find_model, move_model, read_checkpoint, save_checkpoint
from agedge.safe_write import naming, temporary_folder
from deploy.graph import Edge, Node, read_graph, replace, variable, walk, write_graph
from deploy.probe_images import draw_probes
from deploy.tolerances import Tolerance, compare_raw

ARANGE = ("constant", "inputs")
# Operations that only change gradients: in prediction each returns its first input.
PASSING = {"Dropout", "BlockGrad", "MakeLoss", "make_loss", "LinearRegressionOutput", "MAERegressionOutput"}
# Losses that also compute a prediction, as {loss: (operation that computes it, its attributes)}.
PREDICTING = {
    "SoftmaxOutput": ("softmax", {"axis": "1"}),
    "SoftmaxActivation": ("softmax", {"axis": "1"}),
    "LogisticRegressionOutput": ("sigmoid", {}),
}
# Tolerance for a slim network in years, logits or probabilities: another order of operations rounds differently.
SAME = Tolerance(most=2e-5)


class SlimModel(NamedTuple):
    """A slim network: the folder with its files, its card and checkpoint, and its outputs for the drawn images."""

    folder: Path
    card: Card
    checkpoint: Checkpoint
    outputs: Dict[str, np.ndarray]


def slim_model(model: Union[str, Path], out: Union[str, Path], arange: str = "constant") -> Card:
    """Write the slim MXNet graph of a model folder, a run or "PREFIX,EPOCH" with its card into the folder `out`.

    A model that is already slim stays the same, byte for byte. Raises `AgedgeError` if the model cannot be read, or if
    the outputs of the slim graph differ.
    """
    out = Path(out)
    if arange not in ARANGE:
        raise choices("arange", arange, ARANGE)
    card = find_model(model)
    sources = card.path("mxnet", "symbol"), card.path("mxnet", "params")
    out.mkdir(parents=True, exist_ok=True)
    with naming(out), temporary_folder(out) as stage:
        slim = slim_into(card, Path(stage), arange).card
        check_model_folder(out, stage, list(slim.sha256), sources)
        move_model(slim, out)
    return slim


def slim_into(card: Card, folder: Path, arange: str = "constant") -> SlimModel:
    """Write the slim MXNet files of the model of `card` into `folder`, and compare their outputs with the model's."""
    symbol_file = card.path("mxnet", "symbol")
    constants = card.input.get("constants", {})
    source = read_checkpoint(symbol_file, card.path("mxnet", "params"), inputs=constants)
    checkpoint, stages = slim_checkpoint(source, arange)
    slim = copy.deepcopy(card)
    if stages:
        slim.input["constants"] = {**constants, **{name: value.tolist() for name, value in stages.items()}}
    probes = draw_probes(card.input["size"])
    expected = open_model(card, "mxnet").raw_outputs(probes)
    save_checkpoint(checkpoint, slim, folder)
    outputs = open_model(slim, "mxnet").raw_outputs(probes)
    fault = SAME.find_fault(compare_raw(expected, outputs))
    if fault:
        raise AgedgeError(f"{symbol_file}: the outputs of the slim graph differ: {fault}")
    return SlimModel(folder, slim, checkpoint, outputs)


def slim_checkpoint(checkpoint: Checkpoint, arange: str = "constant") -> Tuple[Checkpoint, Dict[str, np.ndarray]]:
    """Return the slim checkpoint, and {name: value} of the inputs that replace aranges."""
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
    """Remove the operations that only training needs. An output keeps its name."""
    outputs = {id(node) for node, _ in heads}

    def change(node: Node) -> Optional[List[Edge]]:
        if node.op in PREDICTING:
            op, attrs = PREDICTING[node.op]
            return [(Node(op, node.name, node.inputs[:1], dict(attrs)), 0)]
        if node.op in PASSING:
            return [(Node("_copy", node.name, node.inputs[:1]), 0)] if id(node) in outputs else node.inputs[:1]
        return None

    return replace(heads, change)


def unfuse_batchnorm(heads: List[Edge]) -> List[Edge]:
    """Replace BatchNormWithReLU, which trains faster on CPUs but exists in no other format, by BatchNorm and ReLU."""

    def change(node: Node) -> Optional[List[Edge]]:
        if node.op != "_contrib_BatchNormWithReLU":
            return None
        norm = Node("BatchNorm", node.name + "_norm", node.inputs, node.attrs)
        return [(Node("Activation", node.name, [(norm, 0)], {"act_type": "relu"}), 0)]

    return replace(heads, change)


def fold_constants(heads: List[Edge]) -> Tuple[List[Edge], Dict[str, Any]]:
    """Compute the operations that depend on no variable. Returns (heads, {name of the new weight: its NDArray})."""
    fixed = set()
    for node in walk(heads):
        random = node.op.startswith(("_random", "_sample"))
        if node.op != "null" and not random and all(id(source) in fixed for source, _ in node.inputs):
            fixed.add(id(node))
    folded = {}  # the constant nodes that other nodes use
    for node in walk(heads):
        if id(node) not in fixed:
            folded.update({id(source): source for source, _ in node.inputs if id(source) in fixed})
    values = {node.name: write_graph([(node, 0)]).eval()[0] for node in folded.values()}
    return replace(heads, lambda node: [(variable(node.name), 0)] if id(node) in folded else None), values


def name_stages(heads: List[Edge], constants: Dict[str, Any]) -> Tuple[List[Edge], Dict[str, np.ndarray]]:
    """Turn constants 0, 1, 2, ... into inputs `stage_num0`, ..., in the graph's order.

    Returns (heads, {name: value}).
    """
    stages: Dict[str, np.ndarray] = {}

    def change(node: Node) -> Optional[List[Edge]]:
        if node.op != "null" or node.name not in constants:
            return None
        value = constants[node.name].asnumpy()
        if not np.array_equal(value.reshape(-1), np.arange(value.size)):
            return None
        name = f"stage_num{len(stages)}"
        stages[name] = value
        return [(variable(name), 0)]

    return replace(heads, change), stages
