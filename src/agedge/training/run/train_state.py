"""The progress of a run: the counters and metrics in the state.json of a checkpoint."""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from agedge.errors import UsageError
from agedge.training.run.checkpoint import find_last, load_checkpoint, read_state

log = logging.getLogger(__name__)


@dataclass
class TrainState:
    """The progress of a run.

    Attributes:
        epoch: number of finished epochs.
        step: number of optimizer steps.
        best: lowest validation score so far; None before the first validation.
        best_epoch: the epoch of `best`; 0 before the first validation.
        same: settings that must not change when the run resumes, {recipe key: value}.
        first_loss: loss of the first steps, with which the divergence check compares; None before it is known.
        sums: running sums of the current epoch's training metrics; None between epochs.
        seconds: training time of the current epoch so far.
        waited: the part of `seconds` in which the loop waited for batches.
        averaged: in a best checkpoint of averaged weights (train.swa), the number of epochs averaged; else None.
    """

    epoch: int = 0
    step: int = 0
    best: Optional[float] = None
    best_epoch: int = 0
    same: Dict[str, Any] = field(default_factory=dict)
    first_loss: Optional[float] = None
    sums: Optional[List[float]] = None
    seconds: float = 0.0
    waited: float = 0.0
    averaged: Optional[int] = None

    def to_json(self) -> dict:
        """Return the content of state.json."""
        state = dict(vars(self))
        for key in ("first_loss", "averaged"):  # absent, not null, as in all versions of the format
            if state[key] is None:
                del state[key]
        return state

    @classmethod
    def from_json(cls, state: dict) -> "TrainState":
        """Create the state from the result of `read_state`, for checkpoints of all versions."""
        known = {key: value for key, value in state.items() if key in cls.__dataclass_fields__}
        optimizer = {f"optimizer.{key}": value for key, value in state.get("optimizer", {}).items()}  # version 1
        return cls(**{**known, "same": {**optimizer, **state.get("same", {})}})


def restore_state(
    network: Any, trainer: Any, contexts: list, folder: Path, resume: bool, same: Dict[str, Any]
) -> Tuple[TrainState, Optional[Path]]:
    """Return the state of a new run and None or, to resume, that of the run's last intact checkpoint and its file.

    The checkpoint's weights and optimizer state are loaded into `network` and `trainer`. `same`: settings that must not
    change, {recipe key: value}. Raises `UsageError` if one has changed, `AgedgeError` without an intact checkpoint.
    """
    if not resume:
        return TrainState(same=same), None
    file = find_last(folder)
    before = TrainState.from_json(read_state(file)).same
    for key, value in same.items():
        if before.get(key, value) != value:
            raise UsageError(f"{file}: was started with {key}={before[key]}, not {value}")
    content = load_checkpoint(file, network, trainer, contexts)
    if content["version"] == 1:
        log.info("%s: written by an earlier release, at the end of an epoch: the run resumes from there", file)
    return replace(TrainState.from_json(content), same=same), file
