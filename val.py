"""Accuracy by age groups, with pictures: python val.py --model models/mobilenet025 --data FILE.rec --out DIR"""

import logging
from pathlib import Path
from typing import List, Optional

import typer

from agedge.cli import TRUST, printable, run_command, say
from agedge.errors import AgedgeError, UsageError
from agedge.evaluation import groups as by_group
from agedge.evaluation.batches import warn_of_bad_images
from agedge.evaluation.evaluate import ask, to_json
from agedge.evaluation.metrics import BANDS
from agedge.results.kinds import FOLDER, MEASURES, PICTURE
from agedge.results.overwrite import Result, check_results, model_inputs, record_inputs, write_json_result
from agedge.runtime import load_model
from agedge.runtime.outputs import describe_outputs, group_bounds, predicts_age

log = logging.getLogger("val")


def val(
    model: str = typer.Option("models/mobilenet025", help="A model folder, a run, or PREFIX,EPOCH."),
    data: List[Path] = typer.Option(..., help="The .rec to evaluate on; given again, one more."),
    runtime: str = typer.Option("mxnet", help="mxnet, onnx, ncnn or ncnn-fp16."),
    decode: str = typer.Option("", help="What the output of PREFIX,EPOCH is, if unclear: age or pairs."),
    groups: str = typer.Option("", help="Such as 0-5,6-18,66+; by default the model's own, or the six of the field."),
    labels: str = typer.Option("auto", help="What a label's numbers are: gender,age or age or age,gender,- and so on."),
    out: Optional[Path] = typer.Option(None, help="A folder for confusion.png and faces.png."),
    json_file: Optional[Path] = typer.Option(None, "--json", help="Write what was measured here; - is stdout."),
    faces: int = typer.Option(48, help="How many faces the sheet shows; 0: no sheet."),
    seed: int = typer.Option(0, help="Chooses the faces of the sheet."),
    trust: bool = TRUST,
):
    """How often a model says the right age group, and which it says instead; any age model, by grouping its age."""
    if faces < 0 or not 0 <= seed < 2**32:
        raise UsageError("--faces and --seed: numbers of at least 0 are wanted")
    asked = by_group.parse_groups(groups) if groups else None
    results = [Result("--json", json_file, MEASURES), Result("--out", out, FOLDER)]
    if out:
        results += [Result("--out", out / name, PICTURE) for name in ("confusion.png", "faces.png")[: 1 + bool(faces)]]
    check_results(results, [*record_inputs(data), *model_inputs(model)])
    loaded = load_model(model, runtime, form=decode, trust=trust)
    card = loaded.card
    own = group_bounds(card.outputs)
    if not own and not predicts_age(card.outputs):
        raise AgedgeError(f"{model}: it predicts no age, only {describe_outputs(card.outputs)}")
    asked = asked or own or BANDS
    if card.crop is None:
        log.warning("%s: nobody knows its crop: the faces are used as they are", model)
    answers = ask(loaded.predict, data, card.input["size"], labels=labels, crop=card.crop)
    for path, numbers in answers.bad.items():
        warn_of_bad_images(path, numbers)
    said = by_group.find_said_groups(answers, own, asked)
    measured = by_group.measure_groups(answers.labels, said, asked)
    say(*by_group.format_confusion(measured).split("\n"))
    if json_file:
        write_json_result(json_file, to_json(model, runtime, answers, measured))
    if out:
        from agedge.evaluation.group_plots import draw_sheet, gather_faces, plot_confusion

        title = printable(f"{card.name} on {', '.join('/'.join(path.absolute().parts[-2:]) for path in data)}")
        plot_confusion(measured, out / "confusion.png", title)
        if faces:
            size = card.input["size"]
            shown = gather_faces(answers, said, own, asked, faces, seed, size, labels=labels, crop=card.crop)
            draw_sheet(shown, out / "faces.png", f"{title}: {measured['accuracy']:.1%} right; red is wrong")


if __name__ == "__main__":
    run_command(val)
