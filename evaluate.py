"""Evaluate a model on .rec files: python evaluate.py --model models/mobilenet025 --data FILE.rec"""

import logging
from pathlib import Path
from typing import List, Optional

import typer

from agedge.cli import TRUST, run_command, say
from agedge.evaluation.evaluate import evaluate_model, to_json
from agedge.evaluation.metrics import format_table
from agedge.results.kinds import FOLDER, MARKED_IMAGE, METRICS, PAGE
from agedge.results.overwrite import Result, check_results, model_inputs, record_inputs, write_json_result
from agedge.run_folder import ERRORS, REPORT_PAGE
from agedge.runtime import load_model

log = logging.getLogger("evaluate")


def evaluate(
    model: str = typer.Option("models/mobilenet025", help="A model folder, a run, or PREFIX,EPOCH."),
    data: List[Path] = typer.Option(..., help="A .rec file; may be repeated."),
    runtime: str = typer.Option("mxnet", help="mxnet, onnx, ncnn or ncnn-fp16."),
    decode: str = typer.Option("", help="The output of PREFIX,EPOCH, if it is unclear: age, gender or pairs."),
    labels: str = typer.Option("auto", help="The layout of the labels: auto, gender,age, age, age,gender,- and so on."),
    json_file: Optional[Path] = typer.Option(None, "--json", help="Write the metrics to this file; - is stdout."),
    report: Optional[Path] = typer.Option(None, help="Write report.html and errors.png to this folder."),
    trust: bool = TRUST,
) -> None:
    """Measure the age error and gender accuracy of a model on .rec files, by age band. Every record counts once."""
    results = [Result("--json", json_file, METRICS), Result("--report", report, FOLDER)]
    if report:
        files = {REPORT_PAGE: PAGE, ERRORS: MARKED_IMAGE}
        results += [Result("--report", report / name, kind) for name, kind in files.items()]
    check_results(results, [*record_inputs(data), *model_inputs(model)])
    loaded = load_model(model, runtime, form=decode, trust=trust)
    predictions, metrics = evaluate_model(loaded.predict, loaded.card, data, labels)
    say(*format_table(metrics).split("\n"))
    if json_file:
        write_json_result(json_file, to_json(model, runtime, predictions, metrics))
    if report:
        from agedge.evaluation.plots import plot_errors
        from agedge.evaluation.report.write import write_report

        write_report(report / REPORT_PAGE, loaded.card, predictions, labels=labels)
        if metrics["age_mae"] is None:
            log.warning("%s: is not written: no age is both known and predicted", report / ERRORS)
        else:
            plot_errors(predictions.labels, predictions.ages, report / ERRORS)


if __name__ == "__main__":
    run_command(evaluate)
