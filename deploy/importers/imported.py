"""What a mapper makes of another system's weights, and the one error for weights that do not fit.

A mapper is a function of one module a network: `from_mxnet(weights)`, `from_keras(weights)` or `from_torch(weights)`,
what the reader of that kind of file gives -> `Imported`. It raises `AgedgeError`; `convert` puts the file's name in
front.
"""

from typing import Dict, NamedTuple, Tuple

import numpy as np

from agedge.errors import AgedgeError

LISTED = 10  # differences that an error names; the others it counts


class Imported(NamedTuple):
    """A network of ours with another system's weights.

    `arguments`: what builds it, `symbols.create(**arguments)`. `weights`: by structural name, which is that of
    `network._collect_params_with_prefix()`. `complete`: False where they are a backbone's only, to train from.
    """

    arguments: dict
    weights: Dict[str, np.ndarray]
    complete: bool = True


def require_weights(network: str, wanted: Dict[str, Tuple[int, ...]], given: Dict[str, Tuple[int, ...]]) -> None:
    """Compare weights by name and shape. Raises `AgedgeError`, one line, that lists what is of another shape, absent
    or unknown; at most ten of them. `network`: what they should be of, "ssrnet" or "aec"."""
    both = [name for name in wanted if name in given and tuple(given[name]) != tuple(wanted[name])]
    faults = [f"{name} is {_words(given[name])}, not {_words(wanted[name])}" for name in both]
    faults += [f"{name} {_words(shape)} is not there" for name, shape in wanted.items() if name not in given]
    faults += [f"{name} {_words(shape)} is unknown" for name, shape in given.items() if name not in wanted]
    if faults:
        more = f"; and {len(faults) - LISTED} more" if len(faults) > LISTED else ""
        raise AgedgeError(f"not the weights of {network}: {'; '.join(faults[:LISTED])}{more}")


def _words(shape) -> str:
    return "x".join(map(str, shape)) or "scalar"
