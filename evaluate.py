"""The error of a model on .rec files: python evaluate.py --model models/mobilenet025 --data FILE.rec"""

import json
import logging
from pathlib import Path
from typing import List, Optional

import typer

from agedge.batches import warn_of_bad_images
from agedge.cli import run_door
from agedge.evaluation.evaluate import ask, to_json
from agedge.evaluation.metrics import format_table, measure
from agedge.runtime import load_model

log = logging.getLogger("evaluate")


def evaluate(
    model: str = typer.Option("models/mobilenet025", help="A model folder, a run, or PREFIX,EPOCH."),
    data: List[Path] = typer.Option(..., help="The .rec to evaluate on; given again, one more."),
    runtime: str = typer.Option("mxnet", help="mxnet, onnx, ncnn or ncnn-fp16."),
    decode: str = typer.Option("", help="What the output of PREFIX,EPOCH is, if unclear: age, gender or pairs."),
    labels: str = typer.Option("auto", help="What a label's numbers are: gender,age or age or age,gender,- and so on."),
    json_file: Optional[Path] = typer.Option(None, "--json", help="Write what was measured here."),
    report: Optional[Path] = typer.Option(None, help="A folder for report.html and errors.png."),
):
    """Age error and gender accuracy of a model on .rec files, by age band; every record counts once."""
    loaded = load_model(model, runtime, form=decode)
    card = loaded.card
    if card.crop is None:
        log.warning("%s: nobody knows its crop: the faces are used as they are", model)
    answers = ask(loaded.predict, data, card.input["size"], labels=labels, crop=card.crop)
    measured = measure(answers.labels, answers.ages, answers.p_male)
    for path, numbers in answers.bad.items():
        warn_of_bad_images(path, numbers)
    print(format_table(measured))
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        value = to_json(model, runtime, answers, measured)
        json_file.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    if report:
        from agedge.evaluation.plots import plot_errors
        from agedge.evaluation.report import write_report

        report.mkdir(parents=True, exist_ok=True)
        write_report(report / "report.html", card, answers, labels=labels)
        if measured["age_mae"] is None:
            log.warning("%s: no errors.png, for no age is known or given", report)
        else:
            plot_errors(answers.labels, answers.ages, report / "errors.png")


if __name__ == "__main__":
    run_door(evaluate)
