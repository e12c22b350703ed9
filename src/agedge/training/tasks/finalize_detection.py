"""Finish a detector's run: write its best checkpoint as a slim model with a card, and evaluate it."""

from pathlib import Path
from typing import Any, Dict, Optional

from agedge import __version__
from agedge.faces.essh.card import DetectorCard, save_detector
from agedge.run_folder import BEST, MODEL, REPORT
from agedge.runtime.model import to_network_input
from agedge.safe_write import write_json
from agedge.training.recipe import Recipe, as_plain
from agedge.training.run.checkpoint import load_checkpoint
from agedge.training.run.divergence import DivergedError
from agedge.training.tasks.check_model import compare_maps, draw_faces, refuse_model
from agedge.training.tasks.detection import TrainedDetector, as_list, read_faces, validate
from agedge.training.tasks.finalize_age_gender import without_folders
from agedge.training.weights.load_weights import load_weights


def finish_detector(network: Any, recipe: Recipe, folder: Path) -> str:
    """Write the final model of a detector's run and its evaluation, and return the metrics as text.

    `folder/model` gets essh-symbol.json, essh-0000.params and card.json; report.json is measured on `data.val`.
    `network` is a new one of the recipe; it gets the weights of `folder/best.ckpt`.
    """
    import mxnet as mx

    network.initialize_for_training(mx.cpu())
    network(mx.nd.zeros((1, 3, recipe.scenes.size, recipe.scenes.size)))
    state = load_checkpoint(folder / BEST, network)
    card = DetectorCard(network=as_plain(network.arguments), training=describe_training(recipe, state))
    probe = to_network_input(draw_faces(1, recipe.scenes.size))
    trained = TrainedDetector(network, mx.cpu(), folder).predict(probe)
    save_detector(network.slim(), card, folder / MODEL)
    # The saved model is evaluated: its weights are rounded.
    load_weights(network, card.path("mxnet", "params"), mx.cpu())
    try:
        difference = compare_maps(trained, TrainedDetector(network, mx.cpu(), folder).predict(probe))
    except DivergedError as error:
        difference = str(error)
    if difference:
        refuse_model(folder / MODEL, folder, difference)
    photos = [photo for file in as_list(recipe.data.val) for photo in read_faces(file)]
    card.error = validate(network, photos, mx.cpu(), folder)
    card.save(folder / MODEL)
    write_json(folder / REPORT, card.error)
    return f"{format_detection(card.error)}\nmodel: {folder / MODEL}"


def describe_training(recipe: Recipe, state: Dict[str, Any]) -> Dict[str, Any]:
    """Return the `training` of a card: data, scenes, recipe and tool."""
    files = [*as_list(recipe.data.train), *as_list(recipe.scenes.photographs)]
    return {
        "train": [{"file": Path(file).name, "photographs": len(read_faces(file))} for file in files],
        "validation": [{"file": str(Path(*Path(file).parts[-2:]))} for file in as_list(recipe.data.val)],
        "scenes": state["step"] * recipe.train.batch_size,
        "best_epoch": state["best_epoch"],
        "recipe": {
            **{section: as_plain(recipe[section]) for section in ("optimizer", "train")},
            "scenes": {
                **as_plain(recipe.scenes),
                "backgrounds": without_folders(recipe.scenes.backgrounds),
                "photographs": [without_folders(file) for file in as_list(recipe.scenes.photographs)],
            },
            "pretrained": without_folders(recipe.pretrained),
        },
        "tool": f"agedge {__version__}",
    }


def format_detection(metrics: Dict[str, Any]) -> str:
    """Return the metrics of `measure_detection` as a few lines."""

    def format_number(value: Optional[float]) -> str:
        return "-" if value is None else f"{value:.3f}"

    names = ("recall", "precision", "average_precision", "landmarks_error")
    lines = [f"{metrics['faces']} faces in {metrics['photos']} photographs"]
    lines.append(", ".join(f"{name.replace('_', ' ')} {format_number(metrics[name])}" for name in names))
    for rows, key, what in ((metrics["sizes"], "band", "pixels"), (metrics["occlusion"], "tag", "occlusion")):
        recalls = ", ".join(f"{row[key]} {format_number(row['recall'])} ({row['n']})" for row in rows if row["n"])
        lines.append(f"recall by {what}: {recalls}")
    return "\n".join(lines)
