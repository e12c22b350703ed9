"""The learning-rate schedule: a linear warm-up, then a cosine to zero, steps, or 1 / (1 + decay * epoch)."""

from typing import Callable

from agedge.training.recipe import OptimizerSection


def learning_rate(optimizer: OptimizerSection, total_steps: int, steps_per_epoch: int = 1) -> Callable[[int], float]:
    """Return the function from a step to its learning rate. The cosine is MXNet's own scheduler."""
    from mxnet import lr_scheduler

    warmup = min(int(optimizer.warmup), total_steps // 2)
    if optimizer.schedule == "cosine":
        return lr_scheduler.CosineScheduler(
            max_update=total_steps,
            final_lr=0.0,
            base_lr=optimizer.lr,
            warmup_steps=warmup,
            warmup_begin_lr=optimizer.lr / max(warmup, 1),
        )
    # MXNet's MultiFactorScheduler needs ascending calls; this function accepts any step.
    steps = sorted(optimizer.steps)

    def rate(step: int) -> float:
        if step < warmup:
            return optimizer.lr * (step + 1) / warmup
        if optimizer.schedule == "inverse":
            return optimizer.lr / (1 + optimizer.decay * (step // steps_per_epoch))
        return optimizer.lr * optimizer.factor ** sum(step >= at for at in steps)

    return rate
