"""Import AEC from its Keras original.

Its weights expect BGR, so the first convolution is reordered for RGB, and the "utkface" crop: both were measured, see
docs/networks.md.
"""

import re
from typing import Any, Dict, List, Tuple

import numpy as np

import symbols
from deploy.importers.h5_file import KerasWeights, channels_last
from deploy.importers.imported import Imported, require_weights
from deploy.importers.names import Names, find_shapes, take_weights
from deploy.importers.operations import Norm

NORM = Norm(1e-3)
WEIGHTS = {"weight": "kernel", "running_mean": "moving_mean", "running_var": "moving_variance"}
LAYER = re.compile(r"(conv2d|batch_normalization|dense)(?:_(\d+))?$")


def from_keras(weights: Dict[str, np.ndarray]) -> Imported:
    """Map the weights of an AEC by the numbers of its layers, which Keras gives in the order of creation.

    The first layer may have any number. The number of convolutions before each pooling is read from the file's list of
    layers, since no shape depends on it.

    Raises `AgedgeError` for weights of another network.
    """
    arguments: Dict[str, Any] = {"name": "aec"}
    blocks = count_blocks(getattr(weights, "layers", ()))
    if blocks:
        arguments["blocks"] = blocks
    block = symbols.create(**arguments)
    shapes = find_shapes(block)
    names = name_weights(shapes)
    expected = {names.weights[ours]: channels_last(shape) for ours, shape in shapes.items()}
    given = renumber(weights)
    require_weights("aec", expected, {name: array.shape for name, array in given.items()})
    arrays = {theirs: channels_first(theirs, given[theirs]) for theirs in names.weights.values()}
    return Imported(arguments, take_weights(block, names, arrays))


def count_blocks(layers: Tuple[str, ...]) -> List[int]:
    """Return the number of convolutions with a BatchNorm before each pooling.

    Empty if the list of layers is not that of an AEC with as many of both as `symbols.aec` has: then its weights do
    not fit either, or the file has no list.
    """
    counts = [0]
    for layer in layers:
        if layer.startswith("batch_normalization"):
            counts[-1] += 1
        elif layer.startswith("average_pooling2d"):
            counts.append(0)
    blocks = [count for count in counts[:-1] if count]
    usual = symbols.aec.BLOCKS
    return blocks if len(blocks) == len(usual) and sum(blocks) == sum(usual) else []


def renumber(weights: Dict[str, np.ndarray]) -> KerasWeights:
    """Return the weights with the layers of each kind numbered from 1.

    Keras numbers on from the model that was created before in the same session.
    """
    numbers: Dict[str, set] = {}
    for name in weights:
        found = LAYER.match(name.rpartition("/")[0])
        if found:
            numbers.setdefault(found[1], set()).add(int(found[2] or 0))
    places = {(kind, number): place for kind, known in numbers.items() for place, number in enumerate(sorted(known), 1)}
    renamed = KerasWeights()
    for name, array in weights.items():
        layer, _, weight = name.rpartition("/")
        found = LAYER.match(layer)
        kind = (found[1], int(found[2] or 0)) if found else None
        renamed[f"{kind[0]}_{places[kind]}/{weight}" if kind else name] = array
    return renamed


def name_weights(shapes: Dict[str, tuple]) -> Names:
    """Return Keras' names of all weights, with the layers of each kind counted in order of creation.

    The network creates its layers in the same order, the stage of the twenties first.
    """
    names, norms, places = {}, {}, {}
    for ours, shape in shapes.items():
        layer, _, weight = ours.rpartition(".")
        if layer not in places:
            norm = weight in ("gamma", "beta", "running_mean", "running_var")
            kind = "batch_normalization" if norm else "conv2d" if len(shape) == 4 else "dense"
            places[layer] = f"{kind}_{1 + sum(place.startswith(kind) for place in places.values())}"
            if norm:
                norms[layer] = NORM
        names[ours] = f"{places[layer]}/{WEIGHTS.get(weight, weight)}"
    return Names(names, norms)


def channels_first(name: str, array: np.ndarray) -> np.ndarray:
    """Convert a Keras array to MXNet's layout.

    Kernels (H, W, I, O) become (O, I, H, W), the first of them for RGB instead of BGR; dense weights (I, O) become
    (O, I), those on the flattened map with channels first.
    """
    if array.ndim == 4:
        if name == "conv2d_1/kernel":
            array = array[:, :, ::-1]  # inputs only: the outputs have the weights' own order
        array = array.transpose(3, 2, 0, 1)
    elif array.ndim == 2:
        if name in ("dense_1/kernel", "dense_4/kernel", "dense_7/kernel"):
            side = int(round((len(array) / symbols.aec.LAST) ** 0.5))
            array = array.reshape(side, side, symbols.aec.LAST, -1).transpose(2, 0, 1, 3).reshape(len(array), -1)
        array = array.T
    return np.ascontiguousarray(array)
