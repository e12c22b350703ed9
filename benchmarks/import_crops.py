"""Which crop and which order of colours imported weights want.

    python -m benchmarks.import_crops FILE --as ssrnet --data FILE.rec

Imports FILE once and asks it about the faces of 21 to 60 years, cut in several ways, as they are and with red and blue
exchanged. Prints age MAE in years, or gender accuracy where the network says no age.
"""

import tempfile
from pathlib import Path

import numpy as np
import typer

from agedge.cli import run_command
from agedge.crop import Crop
from agedge.evaluation.evaluate import predict_records
from agedge.evaluation.metrics import measure

MARGINS = {"utkface": (-0.1, 0, 0.2, 0.4, 0.6, 0.8), "arcface": (-0.1, 0, 0.2, 0.4)}


def main(
    file: Path = typer.Argument(..., help="Weights of an earlier system."),
    network: str = typer.Option(..., "--as", help="As for python -m deploy import."),
    data: Path = typer.Option(..., help="Faces: FILE.rec"),
):
    """A line a crop."""
    from agedge.runtime import load_model
    from deploy.importers.convert import import_weights

    with tempfile.TemporaryDirectory() as folder:
        import_weights(file, network, folder)
        model = load_model(folder)
    size = model.card.input["size"]
    print(f"{'crop':10}{'margin':>8}{'as it is':>10}{'red, blue exchanged':>21}")
    for template, margins in MARGINS.items():
        for margin in margins:
            crop = Crop.named(template, size, margin)
            rows = [measure_adults(predict, data, size, crop) for predict in (model.predict, exchanged(model))]
            words = [f"{row['age_mae']:.2f}" if row["age_mae"] else f"{row['gender_acc']:.1%}" for row in rows]
            print(f"{template:10}{margin:8g}{words[0]:>10}{words[1]:>21}   {rows[0]['n']} faces")


def measure_adults(predict, data: Path, size: int, crop: Crop) -> dict:
    """What evaluate.py measures at 21 to 60 years."""
    answers = predict_records(predict, data, size, crop=crop)
    return measure(answers.labels, answers.ages, answers.p_male)["adults"]


def exchanged(model):
    """The model, shown red for blue."""
    return lambda images: model.predict(np.ascontiguousarray(images[..., ::-1]))


if __name__ == "__main__":
    run_command(main)
