"""Convert the flags of MXNet's training scripts to overrides of a recipe, and find the devices to train on."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from agedge.errors import AgedgeError, UsageError
from agedge.training.data.folds import find_splits

if TYPE_CHECKING:
    import mxnet

MULTIPLIERS = {0.25: "mobilenet025", 0.5: "mobilenet050", 1.0: "mobilenet100"}


def flags_to_overrides(
    data_dir: Optional[Path] = None,
    prefix: str = "",
    network: str = "",
    multiplier: Optional[float] = None,
    per_batch_size: Optional[int] = None,
    lr: Optional[float] = None,
    lr_steps: str = "",
    pretrained: str = "",
    max_steps: Optional[int] = None,
    end_epoch: Optional[int] = None,
    gpus: str = "",
    labels: str = "",
    split: Optional[int] = None,
) -> List[str]:
    """Return `key=value` strings for the flags that are given.

    Raises `UsageError` for an unknown multiplier, and for a split without a folder or that does not exist in it.
    """
    if multiplier is not None:
        if multiplier not in MULTIPLIERS or network not in ("", "mobilenet"):
            raise UsageError(
                f"--multiplier {multiplier:g}: needs --network mobilenet, and must be one of 0.25, 0.5, 1.0"
            )
        network = MULTIPLIERS[multiplier]
    elif network == "mobilenet":
        network = MULTIPLIERS[0.25]
    if split is not None and data_dir is None:
        raise UsageError(f"--split {split}: needs --data-dir, the folder of fold0.rec, fold1.rec, ..")
    devices = max(1, len(gpus.split(",")) if gpus else 1)
    overrides: Dict[str, Any] = {
        "network.name": network,
        "run.dir": prefix,
        "train.batch_size": per_batch_size and per_batch_size * devices,
        "data.labels": labels,
        "optimizer.lr": lr,
        "pretrained": pretrained,
        "train.max_steps": max_steps,
        "train.epochs": end_epoch,
    }
    if data_dir is not None:
        for name, paths in find_splits(data_dir, split).items():
            files = [str(path) for path in paths]
            overrides[f"data.{name}"] = json.dumps(files[0] if len(files) == 1 else files, ensure_ascii=False)
    if lr_steps:
        overrides.update({"optimizer.schedule": "steps", "optimizer.steps": f"[{lr_steps}]"})
    return [f"{key}={value}" for key, value in overrides.items() if value not in ("", None)]


def find_contexts(gpus: str) -> "List[mxnet.Context]":
    """Return the MXNet contexts of "0,1", or the CPU for "". Raises `UsageError` if the text is not numbers,
    `AgedgeError` if a GPU does not exist."""
    import mxnet as mx

    if not gpus:
        return [mx.cpu()]
    try:
        numbers = [int(number) for number in gpus.split(",")]
    except ValueError:
        raise UsageError(f"--gpus {gpus}: write numbers with commas, such as 0,1") from None
    count = mx.context.num_gpus()
    if missing := [number for number in numbers if not 0 <= number < count]:
        raise AgedgeError(f"--gpus {gpus}: MXNet finds {count} GPUs here, not number {missing[0]} (see make gpu)")
    return [mx.gpu(number) for number in numbers]
