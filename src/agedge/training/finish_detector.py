"""The end of a detector's run: its best checkpoint as a slim model with its card, and what was measured of it."""

from pathlib import Path

from agedge import __version__
from agedge.faces.essh_card import DetectorCard, save_detector
from agedge.training.checkpoint import load_checkpoint
from agedge.training.detection import as_list, read_faces, validate
from agedge.training.finish import write_json
from agedge.training.recipe import as_plain
from agedge.training.weights import load_weights


def finish_detector(network, recipe, folder: Path) -> str:
    """Write `folder/model` (essh-symbol.json, essh-0000.params, card.json) and report.json, measured on `data.val`.
    Returns the figures as text. `network` is a fresh one of the recipe; it gets the weights of `folder/best.ckpt`."""
    import mxnet as mx

    network.initialize_for_training(mx.cpu())
    network(mx.nd.zeros((1, 3, recipe.scenes.size, recipe.scenes.size)))
    state = load_checkpoint(folder / "best.ckpt", network)
    card = DetectorCard(network=as_plain(network.arguments), training=describe_training(recipe, state))
    save_detector(network.slim(), card, folder / "model")
    # What was saved is what is measured: its weights are rounded.
    load_weights(network, card.path("mxnet", "params"), mx.cpu())
    photos = [photo for file in as_list(recipe.data.val) for photo in read_faces(file)]
    card.error = validate(network, photos, mx.cpu())
    card.save(folder / "model")
    write_json(folder / "report.json", card.error)
    return f"{format_detection(card.error)}\nmodel: {folder / 'model'}"


def describe_training(recipe, state: dict) -> dict:
    """What a card says of how its model came to be."""
    files = [*as_list(recipe.data.train), *as_list(recipe.scenes.photographs)]
    return {
        "train": [{"file": Path(file).name, "photographs": len(read_faces(file))} for file in files],
        "validation": [{"file": str(Path(*Path(file).parts[-2:]))} for file in as_list(recipe.data.val)],
        "scenes": state["step"] * recipe.train.batch_size,
        "best_epoch": state["best_epoch"],
        "recipe": {section: as_plain(recipe[section]) for section in ("scenes", "optimizer", "train", "pretrained")},
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
