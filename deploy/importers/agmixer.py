"""Import AGMixer from PyTorch: a whole checkpoint of its authors, or the body from FaRL or CLIP, to train from.

Names are those of the public AGMixer code and of CLIP, whose `visual.*` FaRL shares. The authors' label 0 is male and 1
female; here it is the reverse, so the two rows of the last gender layer are exchanged.
"""

import math
import re
from typing import Dict, Tuple

import numpy as np

import symbols
from agedge.errors import AgedgeError
from deploy.importers.imported import Imported, require_weights
from deploy.importers.names import find_shapes

# Where a visual tower begins in its file: AGMixer's; FaRL's and CLIP's, which have a text tower beside it.
WHOLE, TOWER = "FeatureExtractor.", "visual."
# The authors' data sets by their number of classes: IMDB-Clean, CACD, AFAD, FG-NET, CLAP, AgeDB, UTKFace.
RANGES = {95: (1, 95), 49: (14, 62), 58: (15, 72), 70: (0, 69), 96: (1, 96), 101: (1, 101), 116: (1, 116)}
HEAD_WIDTH = 64  # channels per attention head in every CLIP

Names = Dict[str, str]  # {ours: theirs}


def from_torch(weights: Dict[str, np.ndarray]) -> Imported:
    """Map weights of AGMixer, FaRL or CLIP. Raises `AgedgeError` for others, and for an unknown number of ages."""
    given = {name[len("module.") :] if name.startswith("module.") else name: array for name, array in weights.items()}
    if any(name.startswith(WHOLE) for name in given):
        return import_whole(given)
    if any(name.startswith(TOWER) for name in given):
        return import_tower(given)
    raise AgedgeError(f"not the weights of AGMixer, FaRL or CLIP: no name in it begins with {WHOLE} or {TOWER}")


def import_whole(given: Dict[str, np.ndarray]) -> Imported:
    """Map a whole AGMixer; its sizes are read from the shapes."""
    arguments, names = find_tower(given, WHOLE)
    depth = count_blocks(given, r"AGmixer\.1\.mixer_blocks\.(\d+)\.")
    width, _ = shape_of(given, "proj.weight", 2)
    classes, _ = shape_of(given, "age_classifier2.weight", 2)
    if classes not in RANGES:
        raise AgedgeError(f"age_classifier2 has {classes} classes; known are {', '.join(map(str, sorted(RANGES)))}")
    youngest, oldest = RANGES[classes]
    arguments.update(age_min=youngest, age_max=oldest, mixer_width=width, mixer_depth=depth)
    names.update(name_heads(depth))
    taken = take(arguments, names, given, find_shapes(symbols.create(**arguments)))
    for name in ("gender.head.dense.weight", "gender.head.dense.bias"):
        taken[name] = taken[name][::-1].copy()
    return Imported(arguments, taken)


def import_tower(given: Dict[str, np.ndarray]) -> Imported:
    """Map the visual tower of FaRL or CLIP to the body of an AGMixer."""
    given = {name: array for name, array in given.items() if name.startswith(TOWER)}
    arguments, names = find_tower(given, TOWER)
    body = symbols.create(**arguments).body
    shapes = {f"body.{name}": value.shape for name, value in body._collect_params_with_prefix().items()}
    return Imported(arguments, take(arguments, names, given, shapes), complete=False)


def take(arguments: dict, names: Names, given: Dict[str, np.ndarray], shapes: Dict[str, Tuple[int, ...]]) -> dict:
    """Return the arrays by structural name, in float32. Raises `AgedgeError` if names or shapes differ."""
    projection = names["body.projection.weight"]  # theirs is (in, out)
    expected = {names[ours]: shape[::-1] if names[ours] == projection else shape for ours, shape in shapes.items()}
    require_weights(arguments["name"], expected, {name: array.shape for name, array in given.items()})
    taken = {ours: np.ascontiguousarray(given[theirs], np.float32) for ours, theirs in names.items()}
    taken["body.projection.weight"] = taken["body.projection.weight"].T.copy()
    return taken


def find_tower(given: Dict[str, np.ndarray], prefix: str) -> Tuple[dict, Names]:
    """Return (arguments of an agmixer with this body, names of the body's weights)."""
    width, _, patch, _ = shape_of(given, f"{prefix}conv1.weight", 4)
    tokens, _ = shape_of(given, f"{prefix}positional_embedding", 2)
    _, features = shape_of(given, f"{prefix}proj", 2)
    layers = count_blocks(given, re.escape(prefix) + r"transformer\.resblocks\.(\d+)\.")
    side = math.isqrt(max(tokens - 1, 0))
    if side * side != tokens - 1 or not layers or width % HEAD_WIDTH:
        raise AgedgeError(f"not CLIP's tower: {layers} layers of {width} channels on {tokens} tokens")
    shape = {"patch": patch, "width": width, "layers": layers, "heads": width // HEAD_WIDTH, "features": features}
    names = {
        "patches.weight": "conv1.weight",
        "class_embedding": "class_embedding",
        "position_embedding": "positional_embedding",
        **pair("ln_pre", "ln_pre", norm=True),
        **pair("ln_post", "ln_post", norm=True),
        "projection.weight": "proj",
    }
    for layer in range(layers):
        ours, theirs = f"layers.{layer}", f"transformer.resblocks.{layer}"
        for norm in ("ln_1", "ln_2"):
            names.update(pair(f"{ours}.{norm}", f"{theirs}.{norm}", norm=True))
        names[f"{ours}.attention.qkv.weight"] = f"{theirs}.attn.in_proj_weight"
        names[f"{ours}.attention.qkv.bias"] = f"{theirs}.attn.in_proj_bias"
        names.update(pair(f"{ours}.attention.out", f"{theirs}.attn.out_proj"))
        names.update(pair(f"{ours}.widen", f"{theirs}.mlp.c_fc"))
        names.update(pair(f"{ours}.narrow", f"{theirs}.mlp.c_proj"))
    arguments = {"name": "agmixer", "size": side * patch, **shape}
    return arguments, {f"body.{ours}": prefix + theirs for ours, theirs in names.items()}


def name_heads(depth: int) -> Names:
    """Return the names of the branches, the mixer and the classifiers."""
    names = {**pair("shortcut", "proj"), **pair("age2.dense", "age_classifier2")}
    for ours, theirs in (("age1", "age_classifier1"), ("gender", "gender_classifier")):
        names.update(pair(f"{ours}.norm", f"{theirs}.lnorm", norm=True))
        names.update(name_perceptron(f"{ours}.perceptron", f"{theirs}.mlp"))
        names.update(pair(f"{ours}.shortcut", f"{theirs}.proj"))
        names.update(pair(f"{ours}.head.dense", f"{theirs}.fc"))
    for block in range(depth):
        ours, theirs = f"mixer.blocks.{block}", f"AGmixer.1.mixer_blocks.{block}"
        names.update(pair(f"{ours}.token_norm", f"{theirs}.feature_mix.0", norm=True))
        names.update(name_perceptron(f"{ours}.across_tokens", f"{theirs}.feature_mix.2"))
        names.update(pair(f"{ours}.channel_norm", f"{theirs}.channel_mix.0", norm=True))
        names.update(name_perceptron(f"{ours}.across_channels", f"{theirs}.channel_mix.1"))
    return {**names, **pair("mixer.norm", "AGmixer.1.layer_norm", norm=True)}


def name_perceptron(ours: str, theirs: str) -> Names:
    """Return the names of a perceptron; theirs has GELU and dropout as layers 1 and 2 of five."""
    return {**pair(f"{ours}.widen", f"{theirs}.net.0"), **pair(f"{ours}.narrow", f"{theirs}.net.3")}


def pair(ours: str, theirs: str, norm: bool = False) -> Names:
    """Return the names of weight and bias of a layer."""
    weight, bias = ("gamma", "beta") if norm else ("weight", "bias")
    return {f"{ours}.{weight}": f"{theirs}.weight", f"{ours}.{bias}": f"{theirs}.bias"}


def shape_of(given: Dict[str, np.ndarray], name: str, axes: int) -> Tuple[int, ...]:
    """Return the shape of a weight. Raises `AgedgeError` if it is missing or has another number of axes."""
    if name not in given or given[name].ndim != axes:
        found = "is missing" if name not in given else f"has {given[name].ndim} axes, not {axes}"
        raise AgedgeError(f"not the weights of agmixer: {name} {found}")
    return given[name].shape


def count_blocks(given: Dict[str, np.ndarray], pattern: str) -> int:
    """Return how many block numbers `pattern` finds; a gap is found where the weights are compared."""
    return len({match[1] for match in (re.match(pattern, name) for name in given) if match})
