"""`Imported`, the result of mapping another system's weights to a network, and the error for weights that do not fit.

A mapper is a function `from_mxnet(weights)`, `from_keras(weights)` or `from_torch(weights)` in the module of its
network. It takes the result of the reader of that kind of file, returns `Imported` and raises `AgedgeError`; `convert`
adds the file's name.
"""

from typing import Any, Dict, NamedTuple, Tuple

import numpy as np

from agedge.errors import AgedgeError

LISTED = 10  # differences that an error names; the others it counts


class Imported(NamedTuple):
    """A network of `symbols` with another system's weights.

    `arguments`: of the network, for `symbols.create(**arguments)`. `weights`: by structural name, as in
    `network._collect_params_with_prefix()`. `complete`: False if they are of a backbone only, to train from.
    """

    arguments: Dict[str, Any]
    weights: Dict[str, np.ndarray]
    complete: bool = True


def require_weights(network: str, expected: Dict[str, Tuple[int, ...]], given: Dict[str, Tuple[int, ...]]) -> None:
    """Compare weights by name and shape; `network`: its name in the error.

    Raises `AgedgeError`, one line, with at most ten weights that have another shape, are missing or unknown.
    """
    both = [name for name in expected if name in given and tuple(given[name]) != tuple(expected[name])]
    faults = [f"{name} is {_format_shape(given[name])}, not {_format_shape(expected[name])}" for name in both]
    faults += [f"{name} {_format_shape(shape)} is missing" for name, shape in expected.items() if name not in given]
    faults += [f"{name} {_format_shape(shape)} is unknown" for name, shape in given.items() if name not in expected]
    if faults:
        more = f"; and {len(faults) - LISTED} more" if len(faults) > LISTED else ""
        raise AgedgeError(f"not the weights of {network}: {'; '.join(faults[:LISTED])}{more}")


def _format_shape(shape: Tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
