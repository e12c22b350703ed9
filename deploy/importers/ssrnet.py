"""Import SSR-Net from two earlier systems: MXNet checkpoints of age or gender, and the Keras original.

Both number their layers by the order of creation: stream x, stream s, then stage by stage.
"""

from typing import Any, Dict, List, Tuple

import numpy as np

import symbols
from agedge.errors import AgedgeError
from deploy.graph import Edge, Node, walk
from deploy.importers.h5_file import channels_last
from deploy.importers.imported import Imported, require_weights
from deploy.importers.names import Names, find_shapes, match_graph, take_weights
from deploy.importers.operations import PASSING, Norm, find_takers
from deploy.importers.params_file import MxnetWeights

HEADS = {"ssrnet": "age", "ssrnet_gender": "gender"}
SCALES = {"ssrnet": 101.0, "ssrnet_gender": 1.0}  # the factor of the score at the end
MXNET_NORM, KERAS_NORM = Norm(2e-5), Norm(1e-3)
MXNET_NAMES = {"running_mean": "moving_mean", "running_var": "moving_var"}
KERAS_NAMES = {"weight": "kernel", "running_mean": "moving_mean", "running_var": "moving_variance"}


def from_mxnet(weights: MxnetWeights, network: str = "ssrnet") -> Imported:
    """Map the weights by the graph, whatever their names; without a graph, by the names of the known checkpoints."""
    arguments: Dict[str, Any] = {"name": network}
    if weights.heads:
        matched = match_graph(symbols.create(network), weights.heads)
        strangers = [*matched.ours, *(node.name for node in matched.theirs)]
        if strangers:
            raise AgedgeError(f"not the graph of {network}: {len(strangers)} layers differ, such as {strangers[0]}")
        names = matched.names
        require_scale(network, weights.heads)
        arguments.update(read_lambdas(HEADS[network], weights.heads, matched.nodes))
    else:
        layers = {ours: mxnet_layer(*place) for ours, place in number_layers(HEADS[network]).items()}
        names = name_weights(find_shapes(symbols.create(network)), layers, "_", MXNET_NAMES, MXNET_NORM)
    block = symbols.create(**arguments)
    expected = {names.weights[ours]: shape for ours, shape in find_shapes(block).items()}
    require_weights(network, expected, {name: array.shape for name, array in weights.arrays.items()})
    return Imported(arguments, take_weights(block, names, weights.arrays))


def gender_from_mxnet(weights: MxnetWeights) -> Imported:
    """Map the weights of an SSR-Net for gender."""
    return from_mxnet(weights, "ssrnet_gender")


def from_keras(weights: Dict[str, np.ndarray]) -> Imported:
    """Map Keras weights: pixels are raw BGR, maps are flattened with channels last, and stage 1 has one more ReLU."""
    arguments = {"name": "ssrnet", "scaled": False, "first_relu": True}
    block = symbols.create(**arguments)
    shapes = find_shapes(block)
    layers = {ours: keras_layer(*place) for ours, place in number_layers("age").items()}
    names = name_weights(shapes, layers, "/", KERAS_NAMES, KERAS_NORM)
    expected = {names.weights[ours]: channels_last(shape) for ours, shape in shapes.items()}
    require_weights("ssrnet", expected, {name: array.shape for name, array in weights.items()})
    arrays = {theirs: channels_first(ours, weights[theirs]) for ours, theirs in names.weights.items()}
    return Imported(arguments, take_weights(block, names, arrays))


def channels_first(ours: str, array: np.ndarray) -> np.ndarray:
    """Convert a Keras array to MXNet's layout.

    Kernels (H, W, I, O) become (O, I, H, W), the first of them for RGB instead of BGR; dense weights (H * W * 10, O) of
    a flattened map become (O, 10 * H * W), others (I, O) become (O, I).
    """
    if array.ndim == 4:
        if ours in ("body.x.0.0.weight", "body.s.0.0.weight"):
            array = array[:, :, ::-1]
        array = array.transpose(3, 2, 0, 1)
    elif array.ndim == 2:
        if ours.endswith(("gate_s.weight", "gate_x.weight", "delta.weight")):
            side = int(round((len(array) / 10) ** 0.5))
            array = array.reshape(side, side, 10, -1).transpose(2, 0, 1, 3).reshape(len(array), -1)
        array = array.T
    return np.ascontiguousarray(array)


def number_layers(head: str) -> Dict[str, Tuple[str, int]]:
    """Return {structural name of a layer: (its kind, its number in the order of creation, from 0)}."""
    found = {}
    for number in range(8):
        layer = f"body.{'xs'[number // 4]}.{number % 4}"
        found[f"{layer}.0"], found[f"{layer}.1"] = ("convolution", number), ("norm", number)
    for stage in range(3):
        found[f"body.s_maps.{stage}.0"] = ("convolution", 8 + 2 * stage)
        found[f"body.x_maps.{stage}.0"] = ("convolution", 9 + 2 * stage)
        for place, layer in enumerate(("gate_s", "gate_x", "mix")):
            found[f"{head}.stages.{stage}.{layer}"] = ("dense", 3 * stage + place)
        for layer in ("p", "eta", "delta"):
            found[f"{head}.stages.{stage}.{layer}"] = (layer, stage)
    return found


def mxnet_layer(kind: str, number: int) -> str:
    """Return the name of a layer in the MXNet checkpoints."""
    counted = {"convolution": "convolution", "norm": "batchnorm", "dense": "fullyconnected"}
    staged = {"delta": "delta_s", "eta": "local_delta_stage", "p": "pred_age_stag" if number == 1 else "pred_age_stage"}
    return f"{counted[kind]}{number}" if kind in counted else f"{staged[kind]}{number + 1}"


def keras_layer(kind: str, number: int) -> str:
    """Return the name of a layer in the Keras original."""
    layers = {"convolution": "conv2d_", "norm": "batch_normalization_", "dense": "dense_"}
    layers.update({"delta": "delta_s", "eta": "local_delta_stage", "p": "pred_age_stage"})
    return f"{layers[kind]}{number + 1}"


def name_weights(shapes: Dict[str, tuple], layers: Dict[str, str], between: str, renamed: dict, norm: Norm) -> Names:
    """Return the names of all weights from those of the layers; `renamed`: {name of a weight here: theirs}."""
    names, norms = {}, {}
    for ours in shapes:
        layer, _, weight = ours.rpartition(".")
        names[ours] = f"{layers[layer]}{between}{renamed.get(weight, weight)}"
        if weight == "running_var":
            norms[layer] = norm
    return Names(names, norms)


def require_scale(network: str, heads: List[Edge]) -> None:
    """Raise `AgedgeError` if the graph's last factor is not this network's; age and gender differ in it."""
    node = heads[0][0]
    while node.op in PASSING:
        node = node.inputs[0][0]
    scale = float(node.attrs["scalar"]) if node.op == "_mul_scalar" else 1.0
    if scale != SCALES[network]:
        fitting = [name for name, known in SCALES.items() if known == scale]
        hint = f": --as {fitting[0]}" if fitting else ""
        raise AgedgeError(f"not the graph of {network}: it multiplies by {scale:g}, not {SCALES[network]:g}{hint}")


def read_lambdas(head: str, heads: List[Edge], nodes: Dict[str, Node]) -> Dict[str, float]:
    """Return lambda_local and lambda_d, the factors of tanh(eta) and tanh(delta); 1 where there is none."""
    graph = walk(heads)
    lambdas = {}
    for argument, layer in (("lambda_local", "eta"), ("lambda_d", "delta")):
        factors = set()
        for stage in range(3):
            (tanh,) = find_takers(graph, nodes[f"{head}.stages.{stage}.{layer}"])
            takers = find_takers(graph, tanh)
            factors |= {float(node.attrs["scalar"]) if node.op == "_mul_scalar" else 1.0 for node in takers}
        if len(factors) != 1:
            raise AgedgeError(f"not the graph of SSR-Net: {argument} is {', '.join(map(str, sorted(factors)))}")
        lambdas[argument] = factors.pop()
    return lambdas
