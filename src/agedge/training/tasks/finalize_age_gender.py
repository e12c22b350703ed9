"""The end of a run: its best checkpoint as a slim model with its card, and what was measured of it."""

import json
import re
from pathlib import Path

import numpy as np

from agedge import __version__
from agedge.evaluation.batches import evaluation_batches, warn_of_bad_images
from agedge.evaluation.evaluate import ask, to_json
from agedge.evaluation.metrics import calibrate, format_table, measure
from agedge.evaluation.plots import plot_errors
from agedge.evaluation.report.write import write_report
from agedge.records import read_crop, read_info
from agedge.run_folder import BEST, ERRORS, MODEL, REPORT, REPORT_PAGE, TEST
from agedge.runtime.card import Card, load_card
from agedge.runtime.model import to_network_input
from agedge.safe_write import write_json
from agedge.training.data.open_data import find_files
from agedge.training.recipe import as_plain
from agedge.training.run.checkpoint import load_checkpoint
from agedge.training.run.divergence import DivergedError, check_loss
from agedge.training.tasks.age_gender import predictor
from agedge.training.tasks.check_model import DRAWN, EXAMPLES, compare_faces, draw_faces, refuse_model
from agedge.training.weights.load_weights import load_weights


def finish(network, recipe, folder: Path) -> str:
    """Write `folder/model` (slim graph, weights, card.json), errors.png, report.json and report.html, measured on
    `data.val`; and where there is a `data.test`, test.json, in the form of evaluate.py's JSON. Returns the tables of
    errors.

    `network` is a fresh one of the recipe; it gets the weights of `folder/best.ckpt`.
    """
    import mxnet as mx

    from agedge.runtime import save_model

    network.initialize_for_training(mx.cpu())
    network(mx.nd.zeros((1, 3, network.size, network.size)))
    state = load_checkpoint(folder / BEST, network)
    train, val, test = (find_files(recipe.data, split) for split in ("train", "val", "test"))
    card = Card(
        name=recipe.network.name,
        network=as_plain(network.arguments),
        input={"name": "data", "size": network.size, "channels": "RGB", "range": [0, 255]},
        outputs=dict(network.answers),
        crop=find_crop(train[0], network.size),
        training=describe_training(recipe, train, val, test, state),
        terms="; ".join(dict.fromkeys(read_info(path).get("terms", "") for path in train)),
    )
    probe = draw_faces(DRAWN, network.size)
    examples = next(evaluation_batches(val[0], network.size, EXAMPLES, recipe.data.labels, card.crop), None)
    if examples is not None:
        outputs = network(mx.nd.array(to_network_input(examples.images)))
        loss = network.loss(mx.nd, outputs, mx.nd.array(examples.labels)).asnumpy().mean()
        check_loss(float(loss), state.get("first_loss") or float(loss), folder)
        probe = np.concatenate([probe, examples.images])
    trained = predictor(network, mx.cpu(), folder)(probe)
    save_model(network.slim(), card, folder / MODEL)

    predict = load_written(network, card, folder)
    try:
        difference = compare_faces(trained, predict(probe))
    except DivergedError as error:
        difference = str(error)
    if difference:
        refuse_model(folder / MODEL, folder, difference)
    ask_of = questioner(predict, network, recipe, card)
    answers = ask_of(val)
    card.error = measure(answers.labels, answers.ages, answers.p_male)
    card.interval = calibrate(answers.labels, answers.ages)
    card.save(folder / MODEL)
    write_json(folder / REPORT, card.error)
    if card.error["age_mae"] is not None:
        plot_errors(answers.labels, answers.ages, folder / ERRORS)
    tables = [say("validation", val), format_table(card.error)]
    if test:
        tables.append(measure_test(ask_of, test, folder))
    others = [("test", json.loads((folder / TEST).read_text(encoding="utf-8")))] if test else []
    write_report(folder / REPORT_PAGE, card, answers, labels=recipe.data.labels, calibrated=True, others=others)
    return "\n".join([*tables, f"model: {folder / 'model'}"])


def retest(network, recipe, folder: Path) -> str:
    """Measure the model of a finished run again, on `data.test`, into test.json; without one, on `data.val`, into no
    file. Returns the table of errors.

    `network` is a fresh one of the recipe. Raises `AgedgeError` where the run has no model yet.
    """
    import mxnet as mx

    card = load_card(folder)
    network.initialize_for_training(mx.cpu())
    network(mx.nd.zeros((1, 3, network.size, network.size)))
    ask_of = questioner(load_written(network, card, folder), network, recipe, card)
    test = find_files(recipe.data, "test")
    if test:
        return measure_test(ask_of, test, folder)
    val = find_files(recipe.data, "val")
    answers = ask_of(val)
    return "\n".join([say("validation", val), format_table(measure(answers.labels, answers.ages, answers.p_male))])


def load_written(network, card: Card, folder: Path):
    """Give `network` the weights of the model that `card` is of, and return it as a `predictor`.

    What was saved is what is measured. Not by load_model: in a process that has trained, MXNet 1.9.1 now and then ends
    its fused inference graphs with "!IsMKLDNNData()".
    """
    import mxnet as mx

    load_weights(network, card.path("mxnet", "params"), mx.cpu())
    return predictor(network, mx.cpu(), folder)


def questioner(predict, network, recipe, card: Card):
    """`ask_of(files) -> Answers` of `predict`, the model that `card` is of."""

    def ask_of(files: list):
        answers = ask(predict, files, network.size, labels=recipe.data.labels, crop=card.crop)
        for path, numbers in answers.bad.items():
            warn_of_bad_images(path, numbers)
        return answers

    return ask_of


def measure_test(ask_of, files: list, folder: Path) -> str:
    """Measure on the test files, into `folder/test.json`; returns the table."""
    answers = ask_of(files)
    measured = measure(answers.labels, answers.ages, answers.p_male)
    write_json(folder / TEST, to_json(str(folder), "mxnet", answers, measured))
    return "\n".join([say("test", files), format_table(measured)])


def say(what: str, files: list) -> str:
    """What a table was measured on."""
    return f"{what}: {', '.join(path.name for path in files)}"


def find_crop(path: Path, size: int):
    """The crop of the training faces at the network's size, or None where the .rec does not say."""
    crop = read_crop(path)
    return crop.resized(size) if crop else None


def describe_training(recipe, train: list, val: list, test: list, state: dict) -> dict:
    """What a card says of how its model came to be."""
    return {
        "train": [describe_records(path) for path in train],
        "validation": [describe_records(path) for path in val],
        "test": [describe_records(path) for path in test],
        "epochs": state["epoch"],
        "best_epoch": state["best_epoch"],
        "recipe": {
            **{section: as_plain(recipe[section]) for section in ("augment", "optimizer", "train")},
            "pretrained": without_folders(recipe.pretrained),
        },
        "tool": f"agedge {__version__}",
    }


def describe_records(path: Path) -> dict:
    """A .rec as its NAME.json tells of it."""
    return {"file": path.name, **{key: read_info(path).get(key) for key in ("source", "count", "split")}}


def without_folders(source: str) -> str:
    """Return the last part of a path, or of PREFIX,EPOCH: a card travels, and the folders of a machine are its own."""
    name = re.split(r"[/\\]", source.rstrip("/\\"))[-1]
    return Path(source).resolve().name if name in (".", "..") else name
