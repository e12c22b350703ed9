"""Import the one-megabyte MXNet checkpoints of age and gender: MobileNet 0.25 at 112 pixels, 202 outputs "fc1"."""

from typing import Any, Dict, List, NamedTuple, Tuple

import symbols
from agedge.errors import AgedgeError
from deploy.importers.imported import Imported, require_weights
from deploy.importers.names import Names, find_shapes, match_graph, take_weights
from deploy.importers.operations import Norm, read_norm
from deploy.importers.params_file import MxnetWeights

ARGUMENTS = {
    "name": "mobilenet025",
    "size": 112,
    "stem_stride": 1,
    "age_head": "ordinal_pairs",
    "prelu": True,
    "norm_logits": True,
}
# The last dense layer and its BatchNorm give both predictions: two gender logits, then 100 pairs of age logits.
SLICES = {"gender": slice(0, 2), "age": slice(2, 202)}
OUTPUTS = 202
HEADS = ["age.dense", "age_norm", "gender.dense", "gender_norm"]
# Names in the checkpoints by the names here. Body, last map and logits each have a BatchNorm with other settings.
RENAMED = {"running_mean": "moving_mean", "running_var": "moving_var", "alpha": "gamma"}
BODY, LAST, LOGITS = Norm(1e-3, fix_gamma=True), Norm(2e-5), Norm(2e-5, fix_gamma=True)


def from_mxnet(weights: MxnetWeights) -> Imported:
    """Map the weights by the graph, whatever their names; without a graph, by the names of the known checkpoints."""
    network = symbols.create(**ARGUMENTS)
    shapes = find_shapes(network)
    if weights.heads:
        names, dense, norm, reads = read_names(network, weights)
    else:
        names, dense, norm, reads = known_names(shapes)
    expected = {names.weights[ours]: shapes[ours] for ours in names.weights}
    for layer, theirs in (("gender.dense", dense), ("gender_norm", norm)):
        expected.update({name: (OUTPUTS, *shapes[f"{layer}.{weight}"][1:]) for weight, name in theirs.items()})
    require_weights("mobilenet025", expected, {name: array.shape for name, array in weights.arrays.items()})
    arrays = dict(weights.arrays)
    for head, part in SLICES.items():
        for layer, theirs in ((f"{head}.dense", dense), (f"{head}_norm", norm)):
            for weight, name in theirs.items():
                names.weights[f"{layer}.{weight}"] = f"{name} of {head}"
                arrays[f"{name} of {head}"] = weights.arrays[name][part]
        names.norms[f"{head}_norm"] = reads
    return Imported(dict(ARGUMENTS), take_weights(network, names, arrays))


class FusedNames(NamedTuple):
    """The names in a checkpoint: of the body, and by weight of the last dense layer and of its BatchNorm.

    `reads`: the settings of that BatchNorm.
    """

    body: Names
    dense: Dict[str, str]
    norm: Dict[str, str]
    reads: Norm


def read_names(network: Any, weights: MxnetWeights) -> FusedNames:
    """Find the names in the graph of a checkpoint. Raises `AgedgeError` if it is of another network."""
    matched = match_graph(network, weights.heads)
    if sorted(matched.ours) != HEADS or [node.op for node in matched.theirs] != ["FullyConnected", "BatchNorm"]:
        strangers = [name for name in matched.ours if name not in HEADS] + [node.name for node in matched.theirs]
        raise AgedgeError(f"not the graph of mobilenet025: {len(strangers)} layers differ, such as {strangers[0]}")
    dense, norm = matched.theirs
    kinds = (("weight", "bias"), ("gamma", "beta", "running_mean", "running_var"))
    dense_names, norm_names = (
        {weight: source.name for weight, (source, _) in zip(order, node.inputs[1:])}
        for order, node in zip(kinds, (dense, norm))
    )
    return FusedNames(matched.names, dense_names, norm_names, read_norm(norm))


def known_names(shapes: Dict[str, Tuple[int, ...]]) -> FusedNames:
    """Return the names in the known checkpoints."""
    layers: List[str] = []
    for block in ["conv_1", *(f"conv_{number}{part}" for number in range(2, 15) for part in ("_dw", ""))]:
        layers += [f"{block}_conv2d", f"{block}_batchnorm"]
    layers += ["bn1", "relu1"]
    names = Names({}, {})
    for ours in shapes:
        layer, _, weight = ours.rpartition(".")
        if layer.startswith("body."):
            theirs = layers[int(layer[len("body.") :])]
            names.weights[ours] = f"{theirs}_{RENAMED.get(weight, weight)}"
            if weight == "running_var":
                names.norms[layer] = LAST if theirs == "bn1" else BODY
    dense = {weight: f"pre_fc1_{weight}" for weight in ("weight", "bias")}
    norm = {name: f"fc1_{RENAMED.get(name, name)}" for name in ("gamma", "beta", "running_mean", "running_var")}
    return FusedNames(names, dense, norm, LOGITS)
