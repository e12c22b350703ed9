"""AEC from its Keras original. Its weights want BGR, which is folded into the first convolution here, and the "utkface"
crop: both were measured, see docs/networks.md.
"""

import re
from typing import Dict, List, Tuple

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
    """Layers are known by their numbers, which Keras gives in the order of creation, from any number on. How many
    convolutions stand before each pooling is read from the file's list of layers, for no shape tells it.

    Raises `AgedgeError` for weights of another network.
    """
    arguments = {"name": "aec"}
    blocks = count_blocks(getattr(weights, "layers", ()))
    if blocks:
        arguments["blocks"] = blocks
    block = symbols.create(**arguments)
    shapes = find_shapes(block)
    names = name_weights(shapes)
    wanted = {names.weights[ours]: channels_last(shape) for ours, shape in shapes.items()}
    given = renumber(weights)
    require_weights("aec", wanted, {name: array.shape for name, array in given.items()})
    arrays = {theirs: channels_first(theirs, given[theirs]) for theirs in names.weights.values()}
    return Imported(arguments, take_weights(block, names, arrays))


def count_blocks(layers: Tuple[str, ...]) -> List[int]:
    """Convolutions with a BatchNorm before each pooling; empty where the list of layers is not that of an AEC, with as
    many of both as ours has: then its weights do not fit either, or it is no list at all."""
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
    """The same weights, the layers of each kind numbered from 1 on; a model that was not the first of its session goes
    on where the one before it ended."""
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
    """Keras' names of all weights, the layers of each kind counted as they come: ours are created in the same order,
    the stage of the twenties first."""
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
    """A Keras array -> ours: kernels (H, W, I, O) -> (O, I, H, W), the first of them seeing RGB for BGR; denses (I, O)
    -> (O, I), those on the flattened map seeing it channels first."""
    if array.ndim == 4:
        if name == "conv2d_1/kernel":
            array = array[:, :, ::-1]  # what comes in only: what goes out is in the weights' own order
        array = array.transpose(3, 2, 0, 1)
    elif array.ndim == 2:
        if name in ("dense_1/kernel", "dense_4/kernel", "dense_7/kernel"):
            side = int(round((len(array) / symbols.aec.LAST) ** 0.5))
            array = array.reshape(side, side, symbols.aec.LAST, -1).transpose(2, 0, 1, 3).reshape(len(array), -1)
        array = array.T
    return np.ascontiguousarray(array)
