"""Weights from elsewhere into a network: all of them, or all but what is to be learnt afresh."""

from pathlib import Path
from typing import Sequence

from agedge.errors import AgedgeError
from agedge.runtime.checks.params import check_params
from agedge.training.weights.param_groups import match_names

MOST = 10  # differences that an error lists


def load_weights(network, file: Path, ctx, shown_as=None, fresh: Sequence[str] = ()) -> list:
    """Parameters from a file of Gluon's (structural names) or of a Module (`arg:`, `aux:` and parameter names).

    What `fresh` matches is left as it is, and the file may then hold more than the network. Where the file has a whole
    backbone and nothing else, all other blocks are left; and so is what only the loss needs, where a Module's file, as
    finished models are, does not have it. Returns the structural names of what was left.

    Raises `AgedgeError` that lists, on at most ten names, what differs where the file is of another network.
    """
    import mxnet as mx

    shown_as = shown_as or file
    values = read_params(file, shown_as)
    structure = network._collect_params_with_prefix()
    by_structure = bool(set(values) & set(structure))
    # Constants are part of the architecture; not every form of a network writes them.
    wanted = {name: p for name, p in structure.items() if not isinstance(p, mx.gluon.Constant)}
    left = match_names(fresh, wanted, "fresh")
    if by_structure and not set(values) - set(wanted):
        blocks = {name.split(".")[0] for name in values}
        left |= {name for name in wanted if name.split(".")[0] not in blocks}
    if not by_structure:
        answering = find_answering(network)
        left |= {name for name, p in wanted.items() if p.name not in answering and p.name not in values}
    key = {name: name if by_structure else p.name for name, p in structure.items()}
    differ = [f"{key[name]} is not in it" for name in wanted if key[name] not in values and name not in left]
    if not fresh:  # else the file may hold what stands there in its own network
        differ += [f"{name} is not in the network" for name in values if name not in key.values()]
    differ += [
        f"{key[name]} is {values[key[name]].shape}, not {p.shape}"
        for name, p in wanted.items()
        if name not in left and key[name] in values and not fits(p.shape, values[key[name]].shape)
    ]
    if differ:
        more = f"; and {len(differ) - MOST} more" if len(differ) > MOST else ""
        raise AgedgeError(f"{shown_as}: of another network: " + "; ".join(differ[:MOST]) + more)
    for name, parameter in wanted.items():
        if name not in left:
            parameter._load_init(values[key[name]], ctx)
    return [name for name in wanted if name in left]


def find_answering(network) -> set:
    """The parameters, by name, on which a network's answers depend: those of its slim graph."""
    import mxnet as mx

    with mx.name.NameManager():
        answers = network.decode(mx.sym, network(mx.sym.var("data")))
    return set(mx.sym.Group(list(answers)).list_inputs())


def read_params(file: Path, shown_as) -> dict:
    """{name: NDArray} of a parameter file, without `arg:` and `aux:`. Raises `AgedgeError` where it is none."""
    if not file.is_file():
        raise AgedgeError(f"{shown_as}: missing")
    values = load_arrays(file, shown_as)
    if not isinstance(values, dict):
        raise AgedgeError(f"{shown_as}: a list of arrays without names")
    return {name.split(":", 1)[-1]: value for name, value in values.items()}


def load_arrays(file: Path, shown_as):
    """Return the arrays of a file of MXNet's: {name: NDArray}, or a list where they have no names. Raises
    `AgedgeError`."""
    import mxnet as mx

    check_params(file, shown_as)
    try:
        return mx.nd.load(str(file))
    except (mx.MXNetError, UnicodeDecodeError):
        raise AgedgeError(f"{shown_as}: not a parameter file, or truncated") from None


def fits(shape: tuple, given: tuple) -> bool:
    """Whether an array has a parameter's shape, in which 0 is not known yet."""
    return shape is None or len(shape) == len(given) and all(a in (0, b) for a, b in zip(shape, given))
