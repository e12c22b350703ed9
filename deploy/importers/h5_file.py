"""Read Keras 2 weights from HDF5: files of `save_weights`, and of `save`, where the weights are a group of the file.

Only numbers in the file itself are read. Links to other files, which HDF5 follows silently, are refused; the model's
description, which may hold code, is not read.
"""

import math
from pathlib import Path
from typing import Any, Dict, List, Tuple, Union

import numpy as np

from agedge.errors import AgedgeError

# HDF5 stores huge empty arrays in a few bytes: at most so many bytes are read, or so many times the file's size.
ALWAYS, TIMES = 64 << 20, 8
MOST_NAMES = 1 << 20  # bytes of a list of names; Keras cuts at 64 KiB


class KerasWeights(Dict[str, np.ndarray]):
    """{"layer/weight": float32 array} in the file's order. `layers`: the names of all layers, with weights or not."""

    layers: Tuple[str, ...] = ()


def read_h5(path: Union[str, Path]) -> KerasWeights:
    """Read the weights of a file by name, without TensorFlow's ":0": "conv2d_1/kernel".

    Kernels have Keras' layout (H, W, I, O), dense weights (I, O). Raises `AgedgeError`, one line, if the file is not
    one of Keras, is damaged, or refers to another file.
    """
    try:
        import h5py
    except ImportError:
        raise AgedgeError(f"{path}: h5py, which reads Keras files, is not installed: `pip install h5py`") from None
    if not Path(path).is_file():
        raise AgedgeError(f"{path}: no such file")
    try:
        if not h5py.is_hdf5(str(path)):
            raise AgedgeError(f"{path}: not an HDF5 file")
        with h5py.File(str(path), "r") as file:
            most = max(ALWAYS, TIMES * Path(path).stat().st_size)
            return read_group(find(file, "model_weights") if "model_weights" in file else file, most)
    except AgedgeError as error:
        text = str(error)
        raise error if text.startswith(str(path)) else AgedgeError(f"{path}: {text}") from None
    except (
        OSError,
        RuntimeError,
        KeyError,
        ValueError,
        TypeError,
        UnicodeDecodeError,
    ) as error:  # all of which h5py raises
        reason = " ".join(str(error).split()) or type(error).__name__
        raise AgedgeError(f"{path}: damaged or truncated: {reason}") from error


def read_group(root: Any, most: int) -> KerasWeights:
    """Read the weights below a group with Keras' lists of names, of at most `most` bytes in memory."""
    layers = read_names(root, "layer_names")
    if not layers:
        raise AgedgeError("not a file of Keras weights: it lists no layers")
    weights, total = KerasWeights(), 0
    weights.layers = tuple(layers)
    for layer in layers:
        group = find(root, layer)
        for name in read_names(group, "weight_names"):
            dataset = find(group, name)
            key = name_weight(layer, name)
            check_dataset(dataset, key)
            # HDF5 reads whole chunks, even if they are larger than the array; the values are converted to float32.
            size = max(math.prod(dataset.shape), math.prod(dataset.chunks or ()))
            total += size * (dataset.dtype.itemsize + 4)
            if total > most:
                raise AgedgeError(f"{key} would take {total:,} bytes, which so small a file does not hold")
            if key in weights:
                raise AgedgeError(f"it lists {key} twice")
            weights[key] = dataset[()].astype(np.float32)
    if not weights:
        raise AgedgeError("not a file of Keras weights: its layers have none")
    return weights


def read_names(group: Any, attribute: str) -> List[str]:
    """Read a list of names, which Keras splits into `NAME0`, `NAME1`, .. over 64 KiB; [] if it is absent."""
    attributes: Any = getattr(group, "attrs", {})
    chunks = [attribute] if attribute in attributes else []
    while not chunks or chunks[0] != attribute:
        chunk = f"{attribute}{len(chunks)}"
        if chunk not in attributes:
            break
        chunks.append(chunk)
    found = [attributes.get_id(chunk) for chunk in chunks]
    if any(math.prod(each.shape) * each.dtype.itemsize > MOST_NAMES for each in found):
        raise AgedgeError(f"a list of names of over {MOST_NAMES >> 20} MB")
    names = [name for chunk in chunks for name in np.ravel(attributes[chunk]).tolist()]
    return [name.decode("utf-8") if isinstance(name, bytes) else str(name) for name in names]


def find(group: Any, name: str) -> Any:
    """Return the object at a path below a group, where each step lies in the file itself."""
    import h5py

    for step in name.split("/"):
        link = group.get(step, getlink=True) if isinstance(group, h5py.Group) and step not in ("", ".", "..") else None
        if link is None:
            raise AgedgeError(f"'{name}' is listed, but missing")
        if not isinstance(link, h5py.HardLink):
            raise AgedgeError(f"'{name}' is a link to another place, which is not followed")
        group = group[step]
    return group


def check_dataset(dataset: Any, name: str) -> None:
    """Raise `AgedgeError` if a dataset is not an array of numbers, or its numbers lie in another file."""
    import h5py

    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiu" or dataset.shape is None:
        raise AgedgeError(f"{name} is not an array of numbers")
    if dataset.external or dataset.is_virtual:
        raise AgedgeError(f"{name} lies in another file, which is not read")


def name_weight(layer: str, name: str) -> str:
    """Return "conv2d_1/kernel" for the layer "conv2d_1" and its weight "conv2d_1/kernel:0" or "kernel:0"."""
    name = name[:-2] if name.endswith(":0") else name
    return name if name.startswith(f"{layer}/") else f"{layer}/{name}"


def channels_last(shape: Tuple[int, ...]) -> Tuple[int, ...]:
    """Return the shape in Keras of a weight in MXNet."""
    return tuple(shape[axis] for axis in (2, 3, 1, 0)) if len(shape) == 4 else shape[::-1]
