"""python -m deploy export | check | bench | slim | import"""

import os
from pathlib import Path
from typing import Any, Dict, Optional

import typer

from agedge.cli import TRUST, run_command, say
from agedge.errors import AgedgeError, UsageError
from agedge.faces.essh.card import is_detector
from agedge.results.kinds import DEPLOY_CHECK, FOLDER
from agedge.results.overwrite import Result, check_results, model_inputs, record_inputs, write_json_result

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Convert a trained network to files for phones, and compare each with MXNet.",
)
MODEL = typer.Option(..., "--model", help="model folder, run (runs/NAME) or PREFIX,EPOCH")


@app.command()
def export(
    model: str = MODEL,
    out: Path = typer.Option(..., help="folder for all files; may be the model's own"),
    to: str = typer.Option("onnx,ncnn", help="formats, with commas: onnx, ncnn (in fp32 and fp16)"),
):
    """Write MXNet, ONNX and ncnn files with one card, and compare their outputs."""
    from deploy.export import export_model

    check_results([Result("--out", out, FOLDER)])
    exported = export_model(model, [name.strip() for name in to.split(",") if name.strip()], out)
    say(f"{'runtime':10} {'KB':>8}  {'differs from MXNet, at most':48} files")
    for each in exported:
        off = ", ".join(f"{name} {value.most:.1e}" for name, value in each.differences.items())
        say(f"{each.runtime:10} {each.size / 1000:8.1f}  {off or '-':48} {' '.join(each.files)}")
    say(f"wrote {out / 'card.json'}")


@app.command()
def check(
    model: str = MODEL,
    exported: Path = typer.Option(..., help="folder that export wrote"),
    data: Path = typer.Option(..., help="faces: FILE.rec"),
    faces: int = typer.Option(1000, min=1, help="number of faces"),
    labels: str = typer.Option("auto", help="gender,age or age,gender for files of older tools"),
    json_file: Optional[Path] = typer.Option(None, "--json", help="write the verdicts to this file; - is stdout"),
    trust: bool = TRUST,
) -> None:
    """Compare ages and genders of an exported model with MXNet on real faces; fails over the tolerances."""
    from deploy.check import check_exported

    reads = [*model_inputs(model), *model_inputs(exported), *record_inputs([data])]
    check_results([Result("--json", json_file, DEPLOY_CHECK)], reads)
    refuse_detector(model, "`check` compares ages; `export` compares the formats of a detector")
    verdicts = check_exported(model, exported, data, faces, labels, trust)
    say(f"{'runtime':10} {'faces':>6} {'age max':>9} {'age mean':>9} {'P(male) max':>11} {'flips':>5}  verdict")
    for found in verdicts:
        known = (found.age_max, found.age_mean, found.p_male_max)
        numbers = ["-" if value is None else f"{value:.1e}" for value in known]
        flips = "-" if found.flips is None else found.flips
        say(
            f"{found.runtime:10} {found.faces:6} {numbers[0]:>9} {numbers[1]:>9} {numbers[2]:>11} {flips:>5}  "
            f"{'OVER THE TOLERANCE' if found.fault else 'ok'}"
        )
    if json_file:
        value: Dict[str, Any] = {"model": model, "exported": str(exported), "data": str(data)}
        value["runtimes"] = {found.runtime: found.to_json() for found in verdicts}
        write_json_result(json_file, value)
    faults = [f"{found.runtime}: {found.fault}" for found in verdicts if found.fault]
    if faults:
        raise AgedgeError(f"{exported}: {'; '.join(faults)}")


@app.command()
def bench(
    model: str = MODEL,
    exported: Optional[Path] = typer.Option(None, help="folder that export wrote, if not the model's own"),
    repeats: int = typer.Option(200, min=1),
    trust: bool = TRUST,
) -> None:
    """Measure milliseconds per face at batch 1 on one thread, by runtime."""
    refuse_detector(model, "benchmarks/faces.py measures its time")
    os.environ["OMP_NUM_THREADS"] = "1"  # before anything loads MXNet
    from deploy.bench import time_runtimes

    times = time_runtimes(model, exported, repeats, trust)
    say(f"{'runtime':10} {'ms per face':>11}")
    for runtime, milliseconds in times.items():
        say(f"{runtime:10} {milliseconds:11.3f}")


@app.command()
def slim(
    model: str = MODEL,
    out: Path = typer.Option(..., help="folder for the files and their card"),
    arange: str = typer.Option("constant", help="constant; or inputs: the program feeds stage_num0, ..."),
) -> None:
    """Write the MXNet graph without the operations that only training needs."""
    from deploy.slim import slim_model

    check_results([Result("--out", out, FOLDER)])
    card = slim_model(model, out, arange)
    for name in card.files["mxnet"].values():
        say(f"wrote {out / name}")
    say(f"wrote {out / 'card.json'}")


@app.command("import")
def import_weights(
    file: Path = typer.Option(..., "--from", help="weights of another system: MXNet, Keras HDF5 or PyTorch"),
    network: str = typer.Option(..., "--as", help="ssrnet, ssrnet_gender, mobilenet025, aec or agmixer"),
    out: Path = typer.Option(..., help="folder for the model and its card"),
    crop: Optional[str] = typer.Option(None, help="crop of its faces: utkface or arcface, if not the usual one"),
    margin: Optional[float] = typer.Option(
        None, help="share of surroundings added on each axis: 0.25 is a quarter more, -0.1 a tenth less"
    ),
) -> None:
    """Convert weights of Keras, PyTorch or other MXNet trainers to a model folder."""
    from deploy.importers.convert import import_weights

    check_results([Result("--out", out, FOLDER)])
    written = import_weights(file, network, out, crop, margin)
    for path in written:
        say(f"wrote {path}")
    if out / "card.json" not in written:
        say(f"the file holds a backbone only: train with pretrained={written[-1]}")


def refuse_detector(model: str, instead: str) -> None:
    """Raise `UsageError` for a detector, and name the command to use instead."""
    if is_detector(model):
        raise UsageError(f"{model}: a face detector: {instead}")


if __name__ == "__main__":
    run_command(app)
