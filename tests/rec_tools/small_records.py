"""Small .rec files, and the commands that work on them, for the tests."""

import cv2
import numpy as np
import pytest
import typer

from agedge.cli import run_command
from agedge.records import RecordWriter
from rec_tools import cli_records

app = typer.Typer(pretty_exceptions_enable=False)
for command in (cli_records.inspect, cli_records.merge, cli_records.convert, cli_records.sample):
    app.command()(command)


def run(*words):
    """The status of `python -m rec_tools WORDS`."""
    with pytest.raises(SystemExit) as ended:
        run_command(app, [str(word) for word in words])
    return ended.value.code


def draw_face(seed, size=32, quality=95):
    """A JPEG that is told from those of other seeds."""
    image = cv2.resize(np.random.default_rng(seed).integers(0, 255, (20, 20, 3), np.uint8), (size, size))
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def write_file(path, records, **info):
    """A .rec of (label, JPEG) pairs, each with a row."""
    with RecordWriter(path) as writer:
        for number, (label, jpeg) in enumerate(records):
            writer.write(label, jpeg, file=f"{path.stem}-{number}.jpg", identity=f"person {number}")
        writer.info = info
    return path
