"""The error of a model on .rec files: python evaluate.py --model models/mobilenet025 --data FILE.rec"""

import logging
from pathlib import Path
from typing import List, Optional

import typer

from agedge.cli import TRUST, run_command, say
from agedge.evaluation.batches import warn_of_bad_images
from agedge.evaluation.evaluate import ask, to_json
from agedge.evaluation.metrics import format_table, measure
from agedge.results.kinds import FOLDER, MEASURES, PAGE, PICTURE
from agedge.results.overwrite import Result, check_results, model_inputs, record_inputs, write_json_result
from agedge.runtime import load_model

log = logging.getLogger("evaluate")


def evaluate(
    model: str = typer.Option("models/mobilenet025", help="A model folder, a run, or PREFIX,EPOCH."),
    data: List[Path] = typer.Option(..., help="The .rec to evaluate on; given again, one more."),
    runtime: str = typer.Option("mxnet", help="mxnet, onnx, ncnn or ncnn-fp16."),
    decode: str = typer.Option("", help="What the output of PREFIX,EPOCH is, if unclear: age, gender or pairs."),
    labels: str = typer.Option("auto", help="What a label's numbers are: gender,age or age or age,gender,- and so on."),
    json_file: Optional[Path] = typer.Option(None, "--json", help="Write what was measured here; - is stdout."),
    report: Optional[Path] = typer.Option(None, help="A folder for report.html and errors.png."),
    trust: bool = TRUST,
):
    """Age error and gender accuracy of a model on .rec files, by age band; every record counts once."""
    results = [Result("--json", json_file, MEASURES), Result("--report", report, FOLDER)]
    if report:
        files = {"report.html": PAGE, "errors.png": PICTURE}
        results += [Result("--report", report / name, kind) for name, kind in files.items()]
    check_results(results, [*record_inputs(data), *model_inputs(model)])
    loaded = load_model(model, runtime, form=decode, trust=trust)
    card = loaded.card
    if card.crop is None:
        log.warning("%s: nobody knows its crop: the faces are used as they are", model)
    answers = ask(loaded.predict, data, card.input["size"], labels=labels, crop=card.crop)
    measured = measure(answers.labels, answers.ages, answers.p_male)
    for path, numbers in answers.bad.items():
        warn_of_bad_images(path, numbers)
    say(*format_table(measured).split("\n"))
    if json_file:
        write_json_result(json_file, to_json(model, runtime, answers, measured))
    if report:
        from agedge.evaluation.plots import plot_errors
        from agedge.evaluation.report.write import write_report

        write_report(report / "report.html", card, answers, labels=labels)
        if measured["age_mae"] is None:
            log.warning("%s: no errors.png, for no age is known or given", report)
        else:
            plot_errors(answers.labels, answers.ages, report / "errors.png")


if __name__ == "__main__":
    run_command(evaluate)
