"""Command: find faces in images, folders, videos or a camera, and print age and gender of every person."""

from collections import Counter
from pathlib import Path
from typing import List, Optional

import cv2
import typer

from agedge.cli import TRUST, run_command, say
from agedge.draw import show_image
from agedge.errors import AgedgeError
from agedge.faces.detection import create_detector
from agedge.predict import Predictor
from agedge.predict_files import (
    OutputPaths,
    ResultWriter,
    check_networks,
    check_outputs,
    count,
    describe_left_out,
    describe_people,
    find_sample,
    predict_files,
)
from agedge.sources import read_images


def test(
    sources: Optional[List[str]] = typer.Argument(None, metavar="[IMAGE|FOLDER|VIDEO|CAMERA|-]...", show_default=False),
    det: str = typer.Option("0", help="Detector: 0 MTCNN, 1 ESSH."),
    min_face: Optional[float] = typer.Option(None, metavar="PIXELS", help="Smallest face to find.", show_default=False),
    max_faces: Optional[int] = typer.Option(None, metavar="N", help="The N largest only.", show_default=False),
    model: str = typer.Option("models/mobilenet025", metavar="DIR|PREFIX,EPOCH", help="The model that predicts."),
    runtime: str = typer.Option("mxnet", metavar="mxnet|onnx|ncnn", help="The library that runs the model."),
    decode: str = typer.Option("", metavar="age|gender|pairs", help="What the output of PREFIX,EPOCH is, if unclear."),
    json_file: Optional[Path] = typer.Option(
        None, "--json", metavar="FILE", help="Write one JSON object an image; - is stdout."
    ),
    csv_file: Optional[Path] = typer.Option(None, "--csv", metavar="FILE", help="Write a row a face; - is stdout."),
    save: Optional[Path] = typer.Option(None, metavar="DIR", help="Write annotated images to this folder."),
    show: bool = typer.Option(False, "--show", help="Show annotated images in a window; q ends."),
    min_score: Optional[float] = typer.Option(
        None, min=0, max=1, metavar="SCORE", help="Leave out faces of a lower score.", show_default=False
    ),
    max_side: Optional[int] = typer.Option(
        None, min=1, metavar="PIXELS", help="Shrink larger images to this side to find faces.", show_default=False
    ),
    orientation: str = typer.Option("auto", metavar="auto|upright", help="auto: find faces in turned images too."),
    batch: int = typer.Option(1, min=1, max=1024, metavar="N", help="Images that are predicted together."),
    excel: bool = typer.Option(False, "--excel", help="Begin --csv with a byte order mark, which Excel needs."),
    trust: bool = TRUST,
) -> None:
    """Find the faces in images, and predict age and gender of each.

    Without an image, a photograph that comes with matplotlib is used. CAMERA is a number, 0 for the first one; - is an
    image on stdin.
    """
    cv2.setLogLevel(0)  # OpenCV's own lines about files that it cannot read: ours name the file and the reason
    sources, outputs = sources or [find_sample()], OutputPaths(json_file, csv_file, save)
    check_outputs(sources, model, outputs)
    options = {"min_face": min_face, "max_faces": max_faces, "min_score": min_score, "max_side": max_side}
    detector = create_detector(det, **{name: value for name, value in options.items() if value is not None})
    predictor = Predictor(model, detector, runtime, decode, orientation, trust)
    check_networks(predictor)
    done, left_out = Counter(), Counter()
    with ResultWriter(outputs, excel) as writer:
        for result in predict_files(predictor, read_images(sources, left_out), batch):
            writer.write(result)
            if result.fault:
                done["unread" if result.source.error else "failed"] += 1
                say(f"skipped: {result.source.file}: {result.fault}", err=True)
                continue
            done.update(images=1, faces=len(result.people))
            say(*describe_people(result))
            if save or show:
                annotated, fault = writer.annotate(result)
                if annotated is None:
                    done["failed"] += 1
                    say(f"not annotated: {result.source.file}: {fault}", err=True)
                elif show and not show_image(annotated):
                    break
    if left_out:
        say(describe_left_out(left_out), err=True)
    failed = f", {done['failed']} could not be finished" if done["failed"] else ""
    counts = f"{count(done['images'], 'image')}, {count(done['faces'], 'face')}"
    say(f"{counts}; {done['unread']} could not be read{failed}", err=True)
    if not done["images"]:
        raise AgedgeError(f"none of the images could be {'predicted' if done['failed'] else 'read'}")


if __name__ == "__main__":
    run_command(test)
