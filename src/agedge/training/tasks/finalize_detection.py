"""The end of a detector's run: its best checkpoint as a slim model with its card, and what was measured of it."""

from pathlib import Path

from agedge import __version__
from agedge.faces.essh.card import DetectorCard, save_detector
from agedge.run_folder import BEST, MODEL, REPORT
from agedge.runtime.model import to_network_input
from agedge.safe_write import write_json
from agedge.training.recipe import as_plain
from agedge.training.run.checkpoint import load_checkpoint
from agedge.training.run.divergence import DivergedError
from agedge.training.tasks.check_model import compare_maps, draw_faces, refuse_model
from agedge.training.tasks.detection import TrainedDetector, as_list, read_faces, validate
from agedge.training.tasks.finalize_age_gender import without_folders
from agedge.training.weights.load_weights import load_weights


def finish_detector(network, recipe, folder: Path) -> str:
    """Write `folder/model` (essh-symbol.json, essh-0000.params, card.json) and report.json, measured on `data.val`.
    Returns the figures as text. `network` is a fresh one of the recipe; it gets the weights of `folder/best.ckpt`."""
    import mxnet as mx

    network.initialize_for_training(mx.cpu())
    network(mx.nd.zeros((1, 3, recipe.scenes.size, recipe.scenes.size)))
    state = load_checkpoint(folder / BEST, network)
    card = DetectorCard(network=as_plain(network.arguments), training=describe_training(recipe, state))
    probe = to_network_input(draw_faces(1, recipe.scenes.size))
    trained = TrainedDetector(network, mx.cpu(), folder).predict(probe)
    save_detector(network.slim(), card, folder / MODEL)
    # What was saved is what is measured: its weights are rounded.
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
    return f"{format_detection(card.error)}\nmodel: {folder / 'model'}"


def describe_training(recipe, state: dict) -> dict:
    """What a card says of how its model came to be."""
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


def format_detection(measured: dict) -> str:
    """What `measure_detection` found, as a few lines."""

    def say(value, form="{:.3f}") -> str:
        return "-" if value is None else form.format(value)

    names = ("recall", "precision", "average_precision", "landmarks_error")
    lines = [f"{measured['faces']} faces in {measured['photos']} photographs"]
    lines.append(", ".join(f"{name.replace('_', ' ')} {say(measured[name])}" for name in names))
    for rows, key, what in ((measured["sizes"], "band", "pixels"), (measured["occlusion"], "tag", "cover")):
        told = ", ".join(f"{row[key]} {say(row['recall'])} ({row['n']})" for row in rows if row["n"])
        lines.append(f"recall by {what}: {told}")
    return "\n".join(lines)
