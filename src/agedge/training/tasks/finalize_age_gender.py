"""Finish a run: write its best checkpoint as a slim model with a card, and evaluate it."""

import re
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np

from agedge import __version__
from agedge.crop import Crop
from agedge.evaluation.batches import evaluation_batches
from agedge.evaluation.evaluate import Predict, evaluate_model, to_json
from agedge.evaluation.metrics import calibrate, format_table
from agedge.evaluation.plots import plot_errors
from agedge.evaluation.report.write import write_report
from agedge.records import read_crop, read_info
from agedge.run_folder import BEST, ERRORS, MODEL, REPORT, REPORT_PAGE, TEST
from agedge.runtime.card import Card, load_card
from agedge.runtime.model import to_network_input
from agedge.safe_write import write_json
from agedge.training.data.open_data import find_files
from agedge.training.recipe import Recipe, as_plain
from agedge.training.run.checkpoint import load_checkpoint
from agedge.training.run.divergence import DivergedError, check_loss
from agedge.training.tasks.age_gender import predictor
from agedge.training.tasks.check_model import DRAWN, EXAMPLES, compare_faces, draw_faces, refuse_model
from agedge.training.weights.load_weights import load_weights


def finish(network: Any, recipe: Recipe, folder: Path) -> str:
    """Write the final model of a run and its evaluation, and return the tables of errors.

    `folder/model` gets the slim graph, the weights and card.json. errors.png, report.json and report.html are measured
    on `data.val`, and test.json (in the format of evaluate.py) on `data.test`, if the recipe has it. `network` is a new
    network of the recipe; it gets the weights of `folder/best.ckpt`.
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
    predictions, card.error = evaluate_model(predict, card, val, recipe.data.labels)
    card.interval = calibrate(predictions.labels, predictions.ages)
    card.save(folder / MODEL)
    write_json(folder / REPORT, card.error)
    if card.error["age_mae"] is not None:
        plot_errors(predictions.labels, predictions.ages, folder / ERRORS)
    tables = [format_metrics("validation", val, card.error)]
    others = []
    if test:
        metrics = evaluate_test(predict, card, test, recipe.data.labels, folder)
        tables.append(format_metrics("test", test, metrics))
        others.append(("test", metrics))
    write_report(folder / REPORT_PAGE, card, predictions, labels=recipe.data.labels, calibrated=True, others=others)
    return "\n".join([*tables, f"model: {folder / MODEL}"])


def evaluate_run(network: Any, recipe: Recipe, folder: Path) -> str:
    """Evaluate the model of a finished run, and return the table of errors.

    It is evaluated on `data.test`, and written to test.json; without `data.test` on `data.val`, and no file is written.
    `network` is a new network of the recipe. Raises `AgedgeError` if the run has no model.
    """
    import mxnet as mx

    card = load_card(folder)
    network.initialize_for_training(mx.cpu())
    network(mx.nd.zeros((1, 3, network.size, network.size)))
    predict = load_written(network, card, folder)
    test = find_files(recipe.data, "test")
    if test:
        return format_metrics("test", test, evaluate_test(predict, card, test, recipe.data.labels, folder))
    val = find_files(recipe.data, "val")
    return format_metrics("validation", val, evaluate_model(predict, card, val, recipe.data.labels)[1])


def evaluate_test(predict: Predict, card: Card, files: List[Path], labels: str, folder: Path) -> Dict[str, Any]:
    """Evaluate on the test files, write `folder/test.json`, and return its content."""
    predictions, metrics = evaluate_model(predict, card, files, labels)
    content = to_json(str(folder), "mxnet", predictions, metrics)
    write_json(folder / TEST, content)
    return content


def format_metrics(split: str, files: List[Path], metrics: Dict[str, Any]) -> str:
    """Return the table of errors, with the split and its files as the first line."""
    return f"{split}: {', '.join(path.name for path in files)}\n{format_table(metrics)}"


def load_written(network: Any, card: Card, folder: Path) -> Predict:
    """Load the weights of the card's model into `network`, and return its `predictor`, to evaluate the saved model.

    `load_model` is not used: in a process that has trained, MXNet 1.9.1 sometimes fails in its fused inference graphs
    with "!IsMKLDNNData()".
    """
    import mxnet as mx

    load_weights(network, card.path("mxnet", "params"), mx.cpu())
    return predictor(network, mx.cpu(), folder)


def find_crop(path: Path, size: int) -> Optional[Crop]:
    """Return the crop of the training faces at the network's size; None if the .rec does not state it."""
    crop = read_crop(path)
    return crop.resized(size) if crop else None


def describe_training(
    recipe: Recipe, train: List[Path], val: List[Path], test: List[Path], state: Dict[str, Any]
) -> Dict[str, Any]:
    """Return the `training` entry of a card: data, epochs, recipe and tool."""
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


def describe_records(path: Path) -> Dict[str, Any]:
    """Return the name of a .rec file, and the source, count and split of its NAME.json."""
    return {"file": path.name, **{key: read_info(path).get(key) for key in ("source", "count", "split")}}


def without_folders(source: str) -> str:
    """Return the last part of a path, or of PREFIX,EPOCH: a card must not contain folders of this machine."""
    name = re.split(r"[/\\]", source.rstrip("/\\"))[-1]
    return Path(source).resolve().name if name in (".", "..") else name
