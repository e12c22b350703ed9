"""The learning rate of every step: a linear warm-up, then a cosine to zero, steps, or 1 / (1 + decay * epoch)."""

from typing import Callable


def learning_rate(optimizer: dict, total_steps: int, steps_an_epoch: int = 1) -> Callable[[int], float]:
    """`rate(step)` for the `optimizer` section of a recipe; the cosine is MXNet's own scheduler."""
    from mxnet import lr_scheduler

    warmup = min(int(optimizer["warmup"]), total_steps // 2)
    common = {"base_lr": optimizer["lr"], "warmup_steps": warmup, "warmup_begin_lr": optimizer["lr"] / max(warmup, 1)}
    if optimizer["schedule"] == "cosine":
        return lr_scheduler.CosineScheduler(max_update=total_steps, final_lr=0.0, **common)
    # MultiFactorScheduler counts on from the last step that it saw; this one answers for any step.
    steps = sorted(optimizer["steps"])

    def rate(step: int) -> float:
        if step < warmup:
            return optimizer["lr"] * (step + 1) / warmup
        if optimizer["schedule"] == "inverse":
            return optimizer["lr"] / (1 + optimizer["decay"] * (step // steps_an_epoch))
        return optimizer["lr"] * optimizer["factor"] ** sum(step >= at for at in steps)

    return rate
