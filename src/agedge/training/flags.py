"""The flags that users of MXNet's training scripts know, as overrides of a recipe; and the devices to train on."""

import json
from pathlib import Path
from typing import Optional

from agedge.errors import AgedgeError, UsageError
from agedge.training.data.folds import find_parts

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
) -> list:
    """`key=value` strings for the flags that were given. Raises `UsageError` on a multiplier that no network has, and
    on a split without its folder or that its folder has not."""
    if multiplier is not None:
        if multiplier not in MULTIPLIERS or network not in ("", "mobilenet"):
            raise UsageError(f"--multiplier {multiplier:g}: of --network mobilenet, one of 0.25, 0.5, 1.0")
        network = MULTIPLIERS[multiplier]
    elif network == "mobilenet":
        network = MULTIPLIERS[0.25]
    if split is not None and data_dir is None:
        raise UsageError(f"--split {split}: say --data-dir too, the folder of fold0.rec, fold1.rec, ..")
    devices = max(1, len(gpus.split(",")) if gpus else 1)
    overrides = {
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
        for part, paths in find_parts(data_dir, split).items():
            names = [str(path) for path in paths]
            overrides[f"data.{part}"] = json.dumps(names[0] if len(names) == 1 else names, ensure_ascii=False)
    if lr_steps:
        overrides.update({"optimizer.schedule": "steps", "optimizer.steps": f"[{lr_steps}]"})
    return [f"{key}={value}" for key, value in overrides.items() if value not in ("", None)]


def find_contexts(gpus: str) -> list:
    """MXNet contexts for "0,1", or the CPU for "". Raises `UsageError` on other words, `AgedgeError` without a GPU."""
    import mxnet as mx

    if not gpus:
        return [mx.cpu()]
    try:
        numbers = [int(number) for number in gpus.split(",")]
    except ValueError:
        raise UsageError(f"--gpus {gpus}: write numbers with commas, such as 0,1") from None
    there = mx.context.num_gpus()
    if missing := [number for number in numbers if not 0 <= number < there]:
        raise AgedgeError(f"--gpus {gpus}: MXNet sees {there} GPUs here, not number {missing[0]} (see make gpu)")
    return [mx.gpu(number) for number in numbers]
