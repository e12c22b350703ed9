"""The training loop: one function, for any network that has `loss` and `decode`."""

import logging
import time
import warnings
from pathlib import Path

import numpy as np
from tqdm import tqdm

from agedge.batches import training_batches
from agedge.errors import AgedgeError
from agedge.evaluation.evaluate import ask
from agedge.evaluation.metrics import measure
from agedge.training.checkpoint import save_checkpoint
from agedge.training.data import open_data
from agedge.training.log import RunLog
from agedge.training.pretrained import load_pretrained
from agedge.training.schedule import learning_rate
from agedge.training.start import open_folder, optimizer_options, seed_everything, start_state, start_weights

log = logging.getLogger(__name__)


def train(network, recipe, contexts: list, resume: bool = False, progress: bool = True) -> Path:
    """Train `network` as the recipe says, on a list of MXNet contexts, into `recipe.run.dir`. Returns that folder.

    It then holds recipe.yaml, log.csv, TensorBoard events, curves.png, last.ckpt and best.ckpt (the lowest age MAE on
    `data.val`). Raises `AgedgeError` where data or weights cannot be used, and where the loss is no number any more.
    """
    from mxnet import autograd, gluon

    from agedge.training.objective import Objective, Tallies

    folder = open_folder(Path(recipe.run.dir), resume)
    faces = open_data(recipe, folder / "cache" / "train.rec", network.answers)
    size, batch_size = network.size, recipe.train.batch_size
    steps_an_epoch = -(-faces.count // batch_size)
    total_steps = steps_an_epoch * recipe.train.epochs
    total_steps = min(total_steps, recipe.train.max_steps or total_steps)

    start_weights(network, recipe, contexts, size, load_pretrained, resume)
    objective = Objective(network)
    objective.hybridize(static_alloc=True, static_shape=True)
    predict = predictor(network, contexts[0])
    trainer = gluon.Trainer(network.collect_params(), recipe.optimizer.name, optimizer_options(recipe.optimizer))
    rate = learning_rate(recipe.optimizer, total_steps, steps_an_epoch)
    state = start_state(network, recipe, trainer, contexts, folder, resume)
    (folder / "test.json").unlink(missing_ok=True)  # where it stands, the run is finished
    history = RunLog(folder, state["epoch"])

    while state["epoch"] < recipe.train.epochs and state["step"] < total_steps:
        epoch = state["epoch"] + 1
        # All chance in an epoch follows from the seed and its number, so that a resumed run goes the same way.
        seed = seed_everything(recipe.train.seed, epoch)
        batches = training_batches(
            faces.train, size, batch_size, recipe.augment, seed, recipe.data.threads, faces.layout
        )
        tallies, started = Tallies(), time.time()
        bar = tqdm(batches, f"epoch {epoch}", steps_an_epoch, leave=False, disable=None if progress else True)
        for data, labels in bar:
            trainer.set_learning_rate(rate(state["step"]))
            losses = []
            shares = (gluon.utils.split_and_load(whole, contexts, even_split=False) for whole in (data, labels))
            for share in zip(*shares):
                with autograd.record():
                    loss, tally = objective(*share)
                losses.append(loss)
                tallies.add(tally)
            autograd.backward(losses)
            trainer.step(batch_size)
            state["step"] += 1
            last_step = state["step"] == total_steps
            # Asking for figures waits for the device: now and then, not every step.
            if state["step"] % recipe.train.log_every == 0 or last_step:
                bar.set_postfix_str(check_figures(tallies, folder, state["step"]))
            if last_step:
                bar.close()
                break
        check_figures(tallies, folder, state["step"])
        figures, seconds = tallies.means(), time.time() - started

        # Validate, and keep the last and the best.
        answers = ask(predict, faces.val, size, labels=faces.val_layout, crop=faces.crop)
        measured = measure(answers.labels, answers.ages, answers.p_male)
        score = to_score(measured, faces.val)
        is_best = state["best"] is None or score < state["best"]
        state["epoch"] = epoch
        if is_best:
            state.update(best=score, best_epoch=epoch)
        history.write(
            {
                "epoch": epoch,
                "step": state["step"],
                "lr": trainer.learning_rate,
                "loss": figures["loss"],
                "train_age_mae": figures["age_mae"],
                "train_gender_acc": figures["gender_acc"],
                "val_age_mae": measured["age_mae"],
                "val_gender_acc": measured["gender_acc"],
                "val_adults_age_mae": measured["adults"]["age_mae"],
                "val_adults_gender_acc": measured["adults"]["gender_acc"],
                "images_per_s": round(tallies.faces / seconds, 1),
            }
        )
        for name in ("best", "last") if is_best else ("last",):
            save_checkpoint(folder / f"{name}.ckpt", network, trainer, state)
        log.info(
            "epoch %d: %s; on %s %s%s",
            epoch,
            say(figures),
            ", ".join(path.name for path in faces.val),
            say(measured),
            " (best)" if is_best else "",
        )
        if recipe.train.patience and epoch - state["best_epoch"] >= recipe.train.patience:
            log.info("stopped: no better than epoch %d for %d epochs", state["best_epoch"], recipe.train.patience)
            break
    history.close()
    return folder


def to_score(measured: dict, files: list) -> float:
    """What the best epoch has least of: the age MAE, or where no age is known or given, wrong genders."""
    if measured["age_mae"] is not None:
        return measured["age_mae"]
    if measured["gender_acc"] is not None:
        return -measured["gender_acc"]
    raise AgedgeError(f"{files[0]}: it knows nothing of what this network answers")


def check_figures(tallies, folder: Path, step: int) -> str:
    """The means so far, as a line. Raises `AgedgeError` where the loss is no number any more."""
    figures = tallies.means()
    if not np.isfinite(figures["loss"]):
        raise AgedgeError(f"{folder}: the loss is {figures['loss']} at step {step}; last.ckpt holds the epoch before")
    return say(figures)


def say(figures: dict) -> str:
    """Loss, age MAE and gender accuracy as a line, as far as they are known."""
    forms = (("loss", "loss {:.3f}"), ("age_mae", "age MAE {:.2f}"), ("gender_acc", "gender {:.1%}"))
    return ", ".join(form.format(figures[key]) for key, form in forms if figures.get(key) is not None)


def predictor(network, context):
    """A network as a model to be asked: (n, size, size, 3) BGR uint8 -> `Prediction`."""
    from mxnet import nd

    from agedge.runtime.model import to_network_input
    from agedge.runtime.outputs import decode
    from agedge.training.objective import Inference

    inference = Inference(network)
    inference.hybridize(static_alloc=True)

    def predict(images: np.ndarray):
        with warnings.catch_warnings():  # MXNet's, of parameters that only the loss needs
            warnings.filterwarnings("ignore", "Parameter .* not used by any computation")
            said = inference(nd.array(to_network_input(images), ctx=context))
        return decode({name: value.asnumpy() for name, value in zip(network.answers, said)}, network.answers)

    return predict
