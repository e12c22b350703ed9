"""The training loop, for every task: train -> train_epoch -> train_step.

A `Task` provides the data, the loss and the validation (tasks/); `Training` holds what the loop works with (run/).
"""

import collections
import contextlib
import logging
import signal
import time
from pathlib import Path
from typing import Any, Callable, Deque, Tuple

import numpy as np

from agedge.errors import StoppedError
from agedge.run_folder import list_last
from agedge.training.distributed.kvstore import open_kvstore
from agedge.training.open_training import Training, open_training
from agedge.training.recipe import Recipe
from agedge.training.run.divergence import DivergenceCheck
from agedge.training.run.initialize import open_folder, seed_everything
from agedge.training.run.interrupt import StopRequest, stop_on_signal
from agedge.training.run.progress_bar import ProgressBar
from agedge.training.task import Task, TrainableNetwork, TrainingBatch
from agedge.training.validate import average_last_epochs, validate_epoch

log = logging.getLogger(__name__)

AHEAD = 3  # unfinished steps in MXNet's queue when the next one is added


def train(
    open_task: Callable[..., Task],
    network: TrainableNetwork,
    recipe: Recipe,
    contexts: list,
    resume: bool = False,
    progress: bool = True,
) -> Path:
    """Train `network` with the settings of a recipe, on a list of MXNet contexts. Return the run's folder.

    The folder, `recipe.run.dir`, then holds recipe.yaml, log.csv, TensorBoard events, curves.png, last.ckpt and
    best.ckpt (the lowest score). On a CPU, a run that was killed and resumed ends with the same bits as one that was
    not.

    `open_task(network, recipe, folder, kvstore, contexts)` returns the `Task`. Raises `AgedgeError` if data or
    weights cannot be used and if the loss diverges, `StoppedError` after a signal.
    """
    folder = Path(recipe.run.dir)
    kvstore = open_kvstore(recipe.train.kvstore, contexts, str(folder))
    with contextlib.ExitStack() as stack:
        # Of several workers the chief alone writes the folder. Without a checkpoint there is nothing to resume.
        if kvstore.is_chief:
            stack.enter_context(open_folder(folder, resume))
        if resume and not list_last(folder):
            log.info("%s: nothing was saved yet: starting from the beginning", folder)
            resume = False

        # Open the data; initialize the weights and the optimizer, or restore them from the last checkpoint.
        task = open_task(network, recipe, folder, kvstore, contexts)
        stack.callback(task.close)
        training = open_training(task, network, recipe, contexts, kvstore, resume)
        if training.files is not None:
            stack.callback(training.files.metrics_log.close)

        # Show the progress; stop after a signal.
        shown = progress and kvstore.is_chief
        bar = ProgressBar(recipe.train.epochs, training.total_steps, training.batch_size, shown)
        stack.enter_context(bar)
        stop = stack.enter_context(stop_on_signal(log.warning))

        # Train.
        while not is_done(training, stop):
            sums = train_epoch(training, bar, stop)
            if validate_epoch(training, sums, bool(stop)) and not is_done(training, stop):
                end_early(training, stop)
        average_last_epochs(training)

        # Write what the disk had no room for, and wait for the other workers.
        if training.files is not None:
            training.files.saver.close()
        kvstore.close()
    return folder


def train_epoch(training: Training, bar: ProgressBar, stop: StopRequest) -> np.ndarray:
    """Train the remaining steps of the current epoch. Return the epoch's sums of training metrics (k,)."""
    state, settings = training.state, training.recipe.train
    epoch, done = state.epoch + 1, state.epoch * training.steps_per_epoch
    first, last = state.step - done, min(training.steps_per_epoch, training.total_steps - done)
    check = DivergenceCheck(training.task, training.kvstore, training.folder, state)
    pending = PendingSteps()
    started = time.monotonic() - state.seconds
    bar.start_epoch(epoch, first, last, state.step)

    with training.task.batches(epoch, first) as batches:
        for number, batch in zip(range(first, last), batches):
            # The random state depends on seed and step alone, so that a resumed run draws the same numbers.
            if number % settings.log_every == 0:
                seed_everything(settings.seed, state.step)
            train_step(training, batch, check, pending)
            bar.step()

            # Reading the metrics waits for the device: every few steps, not every step.
            if (number + 1) % settings.log_every == 0 or number + 1 == last:
                stopped = check_progress(training, check, bool(stop))
                state.seconds = time.monotonic() - started
                bar.show(training.task.describe(training.task.metrics(check.sums)), state.step)
                if number + 1 < last:  # after the last step, `validate_epoch` saves
                    save_if_due(training, stopped)
                    if stopped:
                        end_early(training, stop)
        state.waited += batches.waited
    return check.sums


def train_step(training: Training, batch: TrainingBatch, check: DivergenceCheck, pending: "PendingSteps") -> None:
    """Train one step: forward, backward, sum of gradients, optimizer. Does not wait for the device to finish it."""
    from mxnet import autograd

    training.trainer.set_learning_rate(training.learning_rate(training.state.step))

    # Forward and backward, on each device's share of the batch.
    losses, metric_sums = [], []
    for share in batch.split(training.contexts):
        with autograd.record():
            loss, sums = training.task.objective(*share)
        losses.append(loss)
        metric_sums.append(sums)
        check.add(sums)
    autograd.backward(losses)

    # The gradients are sums over the whole batch; the trainer divides them by its size.
    training.kvstore.sum_gradients(training.gradients)
    if training.recipe.optimizer.clip:
        clip_gradients(training.gradients, training.recipe.optimizer.clip * training.batch_size)
    training.trainer.update(training.batch_size)
    if training.ema:
        training.ema.step(training.recipe.train.ema)

    training.state.step += 1
    check.remember(training.state.step, batch.index, losses)
    pending.add(batch, losses, metric_sums)


class PendingSteps:
    """The last steps, whose batches stay in memory until MXNet, which computes asynchronously, has used them."""

    def __init__(self) -> None:
        self.steps: Deque[Tuple[Any, list, list]] = collections.deque()

    def add(self, batch: TrainingBatch, losses: list, metric_sums: list) -> None:
        """Add a step, and wait for the step before the last `AHEAD` ones, so that the device always has work.

        MXNet keeps no reference to NumPy's arrays. It no longer needs a batch once the next step has its losses.
        """
        self.steps.append((batch.inputs, losses, metric_sums))
        if len(self.steps) > AHEAD:
            _, _, finished = self.steps.popleft()
            for array in (*finished, *self.steps[0][1]):
                array.wait_to_read()


def clip_gradients(gradients: list, largest: float) -> None:
    """Scale the gradients, of parameters by context, so that their global norm is at most `largest` (Pascanu et al.
    2013)."""
    from mxnet import gluon

    for on_device in zip(*gradients):
        gluon.utils.clip_global_norm(list(on_device), largest, check_isfinite=False)


def check_progress(training: Training, check: DivergenceCheck, stop: bool) -> bool:
    """Check the loss and the weights, and return whether any worker passed `stop`. Raises `DivergedError`."""
    parameters = training.network.collect_params().values()
    stopped = check.check(stop, [parameter.list_data()[0] for parameter in parameters])
    if training.ema:
        training.ema.settle()
    return stopped


def save_if_due(training: Training, stopped: bool) -> None:
    """Save the last checkpoint where it is time to, or where the run was asked to stop."""
    if training.files is not None:
        training.files.saver.retry()
        if stopped or training.files.saver.is_due():
            training.save("last")


def is_done(training: Training, stop: StopRequest) -> bool:
    """Return whether no step is left, or early stopping (train.patience) ends the run."""
    state, settings = training.state, training.recipe.train
    is_stale = settings.patience and state.epoch - state.best_epoch >= settings.patience
    if is_stale and not stop:
        log.info("stopped: no better than epoch %d for %d epochs", state.best_epoch, settings.patience)
    return bool(is_stale) or state.epoch >= settings.epochs or state.step >= training.total_steps


def end_early(training: Training, stop: StopRequest) -> None:
    """End a run that a signal stopped and that was saved. Raises `StoppedError`."""
    if training.files is not None:
        training.files.saver.close()
    training.kvstore.close()
    raise StoppedError(
        f"{training.folder}: saved at step {training.state.step}; the same command with --resume goes on from there",
        stop.number or signal.SIGTERM,  # 0: another worker got the signal
    )
