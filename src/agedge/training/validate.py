"""Validation between epochs, and of the weights averaged over the last epochs."""

import dataclasses
import json
import logging

import numpy as np

from agedge.run_folder import AVERAGE, LOG
from agedge.safe_write import write_text
from agedge.training.open_training import Training
from agedge.training.run.checkpoint import pack_checkpoint
from agedge.training.run.divergence import ADVICE, DivergedError
from agedge.training.run.initialize import seed_everything
from agedge.training.weights.averaging import is_statistic

log = logging.getLogger(__name__)

STATISTICS = 100  # batches from which BatchNorm's statistics of averaged weights are computed


def validate_epoch(training: Training, sums: np.ndarray, stop: bool) -> bool:
    """End an epoch: validate, log its metrics, and save the last checkpoint and the best one.

    `sums`: the epoch's sums of training metrics. Returns whether any worker passed `stop`. Raises `DivergedError` if
    the score is NaN or infinite.
    """
    state, recipe = training.state, training.recipe
    state.epoch += 1
    seconds, waited = state.seconds, state.waited
    state.sums, state.seconds, state.waited = None, 0.0, 0.0

    average_statistics(training)
    epochs = -(-training.total_steps // training.steps_per_epoch)
    if training.swa and state.epoch > epochs * (1 - recipe.train.swa):
        training.swa.add()

    if training.files is not None:
        with training.measured_weights():
            validation = training.task.validate()
        if not np.isfinite(validation.score):
            reason = f"its score on data.val is {validation.score}"
            raise DivergedError(f"{training.folder}: diverged: {reason}; {ADVICE}")
        is_best = state.best is None or validation.score < state.best
        if is_best:
            state.best, state.best_epoch = validation.score, state.epoch

        metrics = training.task.metrics(sums)
        speed = {"images_per_s": round(float(sums[0]) / seconds, 1), "waited": round(waited / seconds, 4)}
        row = {"epoch": state.epoch, "step": state.step, "lr": training.trainer.learning_rate, **metrics}
        training.files.saver.write(LOG, training.files.metrics_log.add({**row, **validation.row, **speed}))
        # `last` goes first: where the process ends in between, `complete_best` makes `best` of it, never the reverse.
        training.save(*(("last", "best") if is_best else ("last",)))
        text, best = f"{training.task.describe(metrics)}; {validation.text}", " (best)" if is_best else ""
        log.info("epoch %d: %s%s; %.0f images/s", state.epoch, text, best, speed["images_per_s"])

    # The chief's score reaches the other workers, and every worker's request to stop reaches all.
    score = (state.best, state.best_epoch) if training.files is not None else (0, 0)
    best, best_epoch, stops = training.kvstore.sum_small(np.array([*score, stop], np.float64))
    state.best, state.best_epoch = float(best), int(best_epoch)
    return stops > 0


def average_last_epochs(training: Training) -> None:
    """Validate the mean of the last epochs' weights (train.swa), and save it as the best checkpoint where it is."""
    swa, state = training.swa, training.state
    if swa is None:
        return
    if not swa.count:
        log.warning("train.swa=%g: the run ended before the epochs that it averages", training.recipe.train.swa)
        return
    is_best = False
    with swa.in_place():
        update_statistics(training)
        average_statistics(training)
        if training.files is not None:
            try:
                validation = training.task.validate()
            except DivergedError as error:
                log.warning("the mean of %d epochs' weights is not used: %s", swa.count, error)
                return
            is_best = state.best is None or validation.score < state.best
            log.info("mean of %d epochs' weights: %s%s", swa.count, validation.text, " (best)" if is_best else "")
            text = json.dumps({"epoch": state.epoch, "epochs": swa.count, **validation.row})
            file = training.folder / AVERAGE
            training.files.saver.write(AVERAGE, lambda: write_text(file, text))
            if is_best:
                state.best, state.best_epoch = validation.score, state.epoch
                averaged = dataclasses.replace(state, averaged=swa.count)
                content = pack_checkpoint(training.network, training.trainer, averaged.to_json())
                training.files.saver.save("best", content)
    if is_best:
        training.save("last")


def average_statistics(training: Training) -> None:
    """Replace BatchNorm's running statistics by their mean over all devices and workers."""
    parameters = training.network.collect_params().values()
    training.kvstore.mean([parameter.list_data() for parameter in parameters if is_statistic(parameter.name)])


def update_statistics(training: Training) -> None:
    """Compute BatchNorm's running statistics anew for the current weights, from batches of training images.

    The statistics of averaged weights are not the average of the statistics (Izmailov et al. 2018). MXNet updates them
    in the backward pass; no weight changes.
    """
    from mxnet import autograd, nd

    epoch = training.state.epoch + 1
    seed_everything(training.recipe.train.seed, epoch)
    with training.task.batches(epoch, 0) as batches:
        for _, batch in zip(range(STATISTICS), batches):
            with autograd.record():
                losses = [training.task.objective(*share)[0] for share in batch.split(training.contexts)]
            autograd.backward(losses)
            nd.waitall()  # see `loop.PendingSteps`
