"""Load weights from a file into a network: all of them, or all except those that are to be initialised."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Set, Union

from agedge.errors import AgedgeError
from agedge.runtime.checks.params import check_params
from agedge.training.weights.param_groups import match_names

if TYPE_CHECKING:
    from mxnet import Context
    from mxnet.gluon import HybridBlock
    from mxnet.ndarray import NDArray

MOST_DIFFERENCES = 10  # how many an error lists


def load_weights(
    network: "HybridBlock",
    file: Path,
    ctx: "Union[Context, List[Context]]",
    shown_as: Union[str, Path, None] = None,
    fresh: Sequence[str] = (),
) -> List[str]:
    """Load parameters from a file of Gluon (structural names) or of Module (`arg:`, `aux:` and parameter names).

    Parameters that match a pattern of `fresh` are not loaded; the file may then have parameters that the network does
    not have. If the file has only some blocks, such as the backbone, the other blocks are not loaded. Finished models
    are files of Module, without the parameters that only the loss needs; these are not loaded either. Return the
    structural names of the parameters that were not loaded.

    Raises `AgedgeError`, which lists up to ten differences, if the file is of another network. `shown_as`: the name
    of the file in error messages.
    """
    import mxnet as mx

    shown_as = shown_as or file
    values = read_params(file, shown_as)
    structure = network._collect_params_with_prefix()
    by_structure = bool(set(values) & set(structure))
    # Constants are part of the architecture; not every file has them.
    expected = {name: p for name, p in structure.items() if not isinstance(p, mx.gluon.Constant)}
    left = match_names(fresh, expected, "fresh")
    if by_structure and not set(values) - set(expected):
        blocks = {name.split(".")[0] for name in values}
        left |= {name for name in expected if name.split(".")[0] not in blocks}
    if not by_structure:
        needed = find_output_parameters(network)
        left |= {name for name, p in expected.items() if p.name not in needed and p.name not in values}
    key = {name: name if by_structure else p.name for name, p in structure.items()}
    differ = [f"{key[name]} is not in the file" for name in expected if key[name] not in values and name not in left]
    if not fresh:  # else the file may have parameters that are not loaded
        differ += [f"{name} is not in the network" for name in values if name not in key.values()]
    differ += [
        f"{key[name]} is {values[key[name]].shape}, not {p.shape}"
        for name, p in expected.items()
        if name not in left and key[name] in values and not fits(p.shape, values[key[name]].shape)
    ]
    if differ:
        more = f"; and {len(differ) - MOST_DIFFERENCES} more" if len(differ) > MOST_DIFFERENCES else ""
        raise AgedgeError(f"{shown_as}: of another network: " + "; ".join(differ[:MOST_DIFFERENCES]) + more)
    for name, parameter in expected.items():
        if name not in left:
            parameter._load_init(values[key[name]], ctx)
    return [name for name in expected if name in left]


def find_output_parameters(network: "HybridBlock") -> Set[str]:
    """Return the names of the parameters that the decoded outputs of a network use: those of its slim graph."""
    import mxnet as mx

    with mx.name.NameManager():
        outputs = network.decode(mx.sym, network(mx.sym.var("data")))
    return set(mx.sym.Group(list(outputs)).list_inputs())


def read_params(file: Path, shown_as: Union[str, Path]) -> "Dict[str, NDArray]":
    """Return {name: NDArray} of a parameter file, without `arg:` and `aux:`. Raises `AgedgeError` for other files."""
    if not file.is_file():
        raise AgedgeError(f"{shown_as}: missing")
    values = load_arrays(file, shown_as)
    if not isinstance(values, dict):
        raise AgedgeError(f"{shown_as}: must have names for its arrays")
    return {name.split(":", 1)[-1]: value for name, value in values.items()}


def load_arrays(file: Path, shown_as: Union[str, Path]) -> Any:
    """Return the arrays of an MXNet file: {name: NDArray}, or a list if they have no names. Raises `AgedgeError`."""
    import mxnet as mx

    check_params(file, shown_as)
    try:
        return mx.nd.load(str(file))
    except (mx.MXNetError, UnicodeDecodeError):
        raise AgedgeError(f"{shown_as}: not a parameter file, or truncated") from None


def fits(shape: Optional[tuple], given: tuple) -> bool:
    """Return whether an array has the shape of a parameter, in which 0 stands for an unknown extent."""
    return shape is None or len(shape) == len(given) and all(a in (0, b) for a, b in zip(shape, given))
