"""Measure imported weights with several crops and both channel orders, to find those that they were trained with.

    python -m benchmarks.import_crops FILE --as ssrnet --data FILE.rec

Imports FILE once and predicts the faces of 21 to 60 years with each crop, as they are and with red and blue exchanged.
Prints age MAE in years, or gender accuracy where the network predicts no age.
"""

import tempfile
from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import typer

from agedge.cli import run_command
from agedge.crop import Crop
from agedge.evaluation.evaluate import predict_records
from agedge.evaluation.metrics import measure
from agedge.runtime.model import Model
from agedge.runtime.outputs import Prediction

MARGINS = {"utkface": (-0.1, 0, 0.2, 0.4, 0.6, 0.8), "arcface": (-0.1, 0, 0.2, 0.4)}


def main(
    file: Path = typer.Argument(..., help="Weights of another system."),
    network: str = typer.Option(..., "--as", help="As for python -m deploy import."),
    data: Path = typer.Option(..., help="Faces: FILE.rec"),
) -> None:
    """Print a line per crop."""
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
            metrics = [f"{row['age_mae']:.2f}" if row["age_mae"] else f"{row['gender_acc']:.1%}" for row in rows]
            print(f"{template:10}{margin:8g}{metrics[0]:>10}{metrics[1]:>21}   {rows[0]['n']} faces")


def measure_adults(predict: Callable[..., Prediction], data: Path, size: int, crop: Crop) -> Dict[str, Any]:
    """Return the metrics of evaluate.py for the faces of 21 to 60 years."""
    answers = predict_records(predict, data, size, crop=crop)
    return measure(answers.labels, answers.ages, answers.p_male)["adults"]


def exchanged(model: Model) -> Callable[[np.ndarray], Prediction]:
    """Return the model's prediction with red and blue exchanged."""
    return lambda images: model.predict(np.ascontiguousarray(images[..., ::-1]))


if __name__ == "__main__":
    run_command(main)
