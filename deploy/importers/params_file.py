"""Read MXNet parameter files, PREFIX-0021.params, with the graph of PREFIX-symbol.json beside them, if any."""

import re
from pathlib import Path
from typing import Dict, List, NamedTuple, Union

import numpy as np

from agedge.runtime.model_files import INPUT, load_params, read_checkpoint
from deploy.graph import Edge, read_graph


class MxnetWeights(NamedTuple):
    """`arrays`: arguments and statistics by name. `heads`: the outputs of the graph, empty if it is unknown."""

    arrays: Dict[str, np.ndarray]
    heads: List[Edge]


def read_params(file: Union[str, Path]) -> MxnetWeights:
    """Read a parameter file. Raises `AgedgeError` if it is missing, damaged, or not of the symbol beside it."""
    file = Path(file)
    prefix = re.fullmatch(r"(.+)-\d{4}\.params", file.name)
    symbol_file = file.with_name(f"{prefix[1]}-symbol.json") if prefix else None
    if symbol_file and symbol_file.is_file():
        symbol, args, aux = read_checkpoint(symbol_file, file)
        given, heads = {**args, **aux}, read_graph(symbol)
    else:
        given, heads = load_params(file), []
    arrays = {re.sub("^(arg|aux):", "", name): value.asnumpy() for name, value in given.items()}
    arrays.pop(INPUT, None)
    return MxnetWeights(arrays, heads)
