"""Evaluate a model by age groups, with plots: python val.py --model models/mobilenet025 --data FILE.rec --out DIR"""

from pathlib import Path
from typing import List, Optional

import typer

from agedge.cli import TRUST, printable, run_command, say
from agedge.errors import AgedgeError, UsageError
from agedge.evaluation import groups as by_group
from agedge.evaluation.evaluate import evaluate_model, to_json
from agedge.evaluation.metrics import BANDS
from agedge.results.kinds import FOLDER, MARKED_IMAGE, METRICS
from agedge.results.overwrite import Result, check_results, model_inputs, record_inputs, write_json_result
from agedge.runtime import load_model
from agedge.runtime.outputs import describe_outputs, group_bounds, predicts_age


def val(
    model: str = typer.Option("models/mobilenet025", help="A model folder, a run, or PREFIX,EPOCH."),
    data: List[Path] = typer.Option(..., help="A .rec file; may be repeated."),
    runtime: str = typer.Option("mxnet", help="mxnet, onnx, ncnn or ncnn-fp16."),
    decode: str = typer.Option("", help="The output of PREFIX,EPOCH, if it is unclear: age or pairs."),
    groups: str = typer.Option("", help="Such as 0-5,6-18,66+; by default the model's own, or six usual ones."),
    labels: str = typer.Option("auto", help="The layout of the labels: auto, gender,age, age, age,gender,- and so on."),
    out: Optional[Path] = typer.Option(None, help="Write confusion.png and faces.png to this folder."),
    json_file: Optional[Path] = typer.Option(None, "--json", help="Write the metrics to this file; - is stdout."),
    faces: int = typer.Option(48, help="Number of faces on the sheet; 0: no sheet."),
    seed: int = typer.Option(0, help="Seed for the choice of these faces."),
    trust: bool = TRUST,
) -> None:
    """Measure how often a model predicts the right age group, and show the confusion matrix.

    The age of a model without groups is grouped.
    """
    if faces < 0 or not 0 <= seed < 2**32:
        raise UsageError("--faces and --seed: must be whole numbers of at least 0")
    wanted = by_group.parse_groups(groups) if groups else None
    results = [Result("--json", json_file, METRICS), Result("--out", out, FOLDER)]
    if out:
        results += [
            Result("--out", out / name, MARKED_IMAGE) for name in ("confusion.png", "faces.png")[: 1 + bool(faces)]
        ]
    check_results(results, [*record_inputs(data), *model_inputs(model)])
    loaded = load_model(model, runtime, form=decode, trust=trust)
    card = loaded.card
    own = group_bounds(card.outputs)
    if not own and not predicts_age(card.outputs):
        raise AgedgeError(f"{model}: predicts no age, only {describe_outputs(card.outputs)}")
    wanted = wanted or own or BANDS
    predictions, _ = evaluate_model(loaded.predict, card, data, labels)
    predicted = by_group.find_predicted_groups(predictions, own, wanted)
    metrics = by_group.measure_groups(predictions.labels, predicted, wanted)
    say(*by_group.format_confusion(metrics).split("\n"))
    if json_file:
        write_json_result(json_file, to_json(model, runtime, predictions, metrics))
    if out:
        from agedge.evaluation.group_plots import draw_sheet, gather_faces, plot_confusion

        title = printable(f"{card.name} on {', '.join('/'.join(path.absolute().parts[-2:]) for path in data)}")
        plot_confusion(metrics, out / "confusion.png", title)
        if faces:
            size = card.input["size"]
            shown = gather_faces(predictions, predicted, own, wanted, faces, seed, size, labels, card.crop)
            draw_sheet(shown, out / "faces.png", f"{title}: {metrics['accuracy']:.1%} correct; red is wrong")


if __name__ == "__main__":
    run_command(val)
