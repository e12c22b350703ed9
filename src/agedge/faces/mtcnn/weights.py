"""Layers of MTCNN's three networks (P, R and O), and their weights from the installed `mtcnn` 1.0.0 wheel.

The wheel's code needs TensorFlow and is never imported: only its three weight files are read. They are joblib pickles,
so each must have the SHA-256 pinned here before it is opened.
"""

import hashlib
import io
from importlib import metadata
from pathlib import Path
from typing import Dict, List, Optional, Union

import numpy as np

from agedge.errors import AgedgeError

VERSION = "1.0.0"
SHA256 = {
    "pnet": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}
# Layers: ("conv", kernel, channels), ("pool", kernel, "full" rounds up | "valid" rounds down), ("dense", units).
LAYERS = {
    "pnet": (("conv", 3, 10), ("pool", 2, "full"), ("conv", 3, 16), ("conv", 3, 32)),
    "rnet": (("conv", 3, 28), ("pool", 3, "full"), ("conv", 3, 48), ("pool", 3, "valid"), ("conv", 2, 64),
             ("dense", 128)),
    "onet": (("conv", 3, 32), ("pool", 3, "full"), ("conv", 3, 64), ("pool", 3, "valid"), ("conv", 3, 64),
             ("pool", 2, "full"), ("conv", 2, 128), ("dense", 256)),
}  # fmt: skip
# Outputs in the order of the weights. Landmarks are five x, then five y; of `score` the second is the face.
HEADS = {
    "pnet": {"box": 4, "score": 2},
    "rnet": {"box": 4, "score": 2},
    "onet": {"box": 4, "landmarks": 10, "score": 2},
}
LAST_MAP = 3  # side of the map that is the input of the first dense layers of R and O


def find_weights() -> Path:
    """Return the folder of the weights in the installed wheel. Raises `AgedgeError` if it is not installed."""
    try:
        wheel = metadata.distribution("mtcnn")
    except metadata.PackageNotFoundError:
        raise AgedgeError(f"mtcnn {VERSION}: not installed; --det 0 reads the weights in it") from None
    return Path(wheel.locate_file("mtcnn/assets/weights"))


def load_weights(name: str, folder: Optional[Union[str, Path]] = None) -> List[np.ndarray]:
    """Return the arrays of a network in the order of its layers.

    Raises `AgedgeError` on a file that is missing or not the known one.
    """
    import joblib

    path = Path(folder or find_weights()) / f"{name}.lz4"
    if not path.is_file():
        raise AgedgeError(f"{path}: missing: MTCNN's weights come with mtcnn {VERSION}")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise AgedgeError(
            f"{path}: its SHA-256 is not that of mtcnn {VERSION}: not opened, since a pickle can run code"
        )
    return joblib.load(io.BytesIO(content))


def name_weights(name: str, arrays: List[np.ndarray]) -> Dict[str, np.ndarray]:
    """Return the wheel's arrays in MXNet's layout by name.

    Names are `layerN_weight`, `layerN_bias` and `preluN_gamma`, N counting the layers from 1, pools too, and
    `HEAD_weight` and `HEAD_bias`. The input is RGB, (x - 127.5) / 128: of the 62 faces of the development photographs
    they find 94% in RGB and 60% in BGR.
    """
    left, named = iter(arrays), {}
    for number, (kind, *_) in enumerate(LAYERS[name], 1):
        if kind == "pool":
            continue
        named[f"layer{number}_weight"] = _to_mxnet(next(left))
        named[f"layer{number}_bias"] = next(left)
        named[f"prelu{number}_gamma"] = next(left).reshape(-1)
    for head in HEADS[name]:
        named[f"{head}_weight"] = _to_mxnet(next(left))
        named[f"{head}_bias"] = next(left)
    return named


def _to_mxnet(weight: np.ndarray) -> np.ndarray:
    if weight.ndim == 4:  # (h, w, in, out)
        return np.ascontiguousarray(weight.transpose(3, 2, 0, 1))
    channels = weight.shape[0] // LAST_MAP**2
    if weight.shape[0] == channels * LAST_MAP**2:  # the first dense layer: (x, y, channel), as Caffe's MATLAB images
        weight = weight.reshape(LAST_MAP, LAST_MAP, channels, -1).transpose(2, 1, 0, 3).reshape(weight.shape)
    return np.ascontiguousarray(weight.T)
