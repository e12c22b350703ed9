"""Round weights so that they are exact in half precision: storing a model in fp16 then does not change it.

Converters fold each BatchNorm into the convolution before it and then round to fp16. That rounding changes
probabilities by some thousandths, enough to flip the gender of a face near 0.5. Here the rounding is done once, before
a model is measured: a convolution's weight w becomes half(w * s) / s, where s is the factor of the folded BatchNorm, so
the converter's rounding changes nothing. Biases stay fp32 in ncnn's files. Weights that half precision cannot hold are
kept.
"""

import json
import logging
from typing import Any, Dict, List

import numpy as np

log = logging.getLogger(__name__)

# The largest relative change of a layer's weights by rounding, in their norm: eight times that of trained networks
# (2.6e-4, the worst layer of models/mobilenet025 and ssh_model). It is larger for weights under 6e-5, for which half
# precision has less than 11 bits.
MAX_ROUNDING = 0.002


def round_to_half(symbol: Any, args: Dict[str, Any], aux: Dict[str, Any]) -> Dict[str, Any]:
    """Return `args` (NDArrays by name) with the weights of Convolution and FullyConnected rounded as above.

    Weights that are too large or too small for half precision are kept, and named in a warning.
    """
    from mxnet import nd

    nodes = json.loads(symbol.tojson())["nodes"]
    factors: Dict[int, np.ndarray] = {}
    for node in nodes:
        if node["op"] == "BatchNorm":
            before = node["inputs"][0][0]
            factors[before] = fold_factor(node, [nodes[index]["name"] for index, *_ in node["inputs"][1:]], args, aux)
    rounded, kept = dict(args), []
    for index, node in enumerate(nodes):
        name = nodes[node["inputs"][1][0]]["name"] if node["op"] in ("Convolution", "FullyConnected") else None
        if name in args:
            weight = args[name].asnumpy()
            factor = factors.get(index, np.ones(1)).reshape(-1, *[1] * (weight.ndim - 1))
            folded = weight * factor
            with np.errstate(over="ignore"):
                halves = folded.astype(np.float16).astype(np.float64)
            change = np.linalg.norm(halves - folded)
            if not change <= MAX_ROUNDING * np.linalg.norm(folded):  # also true if a half is infinite
                kept.append(name)
                continue
            dead = np.broadcast_to(factor == 0, halves.shape)
            rounded[name] = nd.array(np.divide(halves, factor, out=weight.astype(np.float64), where=~dead))
    if kept:
        log.warning("weights that half precision cannot hold are kept in float32: %s", ", ".join(kept))
    return rounded


def fold_factor(node: Dict[str, Any], names: List[str], args: Dict[str, Any], aux: Dict[str, Any]) -> np.ndarray:
    """Return gamma / sqrt(variance + eps) (channels,) of a BatchNorm.

    `names`: the names of its gamma, beta, mean and variance.
    """
    attrs = node.get("attrs", {})
    gamma, _, _, variance = ({**args, **aux}[name].asnumpy().astype(np.float64) for name in names)
    if attrs.get("fix_gamma", "True") in ("True", "1"):
        gamma = np.ones_like(gamma)
    return gamma / np.sqrt(variance + float(attrs.get("eps", 1e-3)))
