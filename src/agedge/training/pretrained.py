"""Where a run starts from: the weights of another run, of a model, or of a parameter file."""

from pathlib import Path
from typing import NamedTuple, Sequence

from agedge.runtime.card import load_card
from agedge.training.checkpoint import extract_params, read_state
from agedge.training.weights import load_weights


class Started(NamedTuple):
    """Where a network's weights came from, and the parameters that stay as they were initialised."""

    file: Path
    fresh: list

    def describe(self) -> str:
        if not self.fresh:
            return str(self.file)
        blocks = ", ".join(dict.fromkeys(name.split(".")[0] for name in self.fresh))
        return f"{self.file}; {len(self.fresh)} parameters start afresh, of {blocks}"


def load_pretrained(network, source: str, ctx, fresh: Sequence[str] = ()) -> Started:
    """Start from other weights: "PREFIX,EPOCH", a FILE.params, a run (its best checkpoint) or a model folder.

    `fresh`: patterns of structural names, such as `age.*`, of parameters that are not taken from there.
    """
    prefix, comma, epoch = source.rpartition(",")
    if comma and epoch.strip().isdigit():
        file = Path(f"{prefix}-{int(epoch):04d}.params")
    elif source.endswith(".params"):
        file = Path(source)
    elif (Path(source) / "best.ckpt").is_file():
        file = Path(source) / "best.ckpt"
        read_state(file)
        with extract_params(file) as params:
            return Started(file, load_weights(network, params, ctx, file, fresh))
    else:
        file = load_card(source).path("mxnet", "params")
    return Started(file, load_weights(network, file, ctx, fresh=fresh))
