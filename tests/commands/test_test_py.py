"""test.py as a user runs it: a tiny model, the photograph that every installation has, and bad input."""

import csv
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from agedge.crop import Crop
from agedge.faces.boxes import overlaps
from agedge.predict_files import predict_files
from agedge.runtime.card import Card
from agedge.runtime.model_files import Checkpoint, save_checkpoint
from agedge.sources import SourceImage
from tests.paths import ROOT


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network whose age is a tenth of the mean of red, and P(male) always 3/4."""
    import mxnet as mx

    folder = tmp_path_factory.mktemp("models") / "tiny"
    data, scale = mx.sym.var("data"), mx.sym.var("scale", shape=(1, 1))
    red = mx.sym.mean(mx.sym.slice_axis(data, axis=1, begin=0, end=1), axis=(2, 3))
    age = mx.sym.broadcast_mul(red, scale, name="age")
    p_male = mx.sym.identity(red * 0 + 0.75, name="p_male")
    card = Card(
        name="tiny",
        network={"name": "tiny"},
        input={"name": "data", "size": 32, "channels": "RGB", "range": [0, 255]},
        outputs={"age": {"kind": "years"}, "p_male": {"kind": "probability_male"}},
        crop=Crop.named("arcface", 32),
        interval={"level": 0.8, "age": [0, 100], "low": [-4, -4], "high": [6, 6]},
    )
    save_checkpoint(Checkpoint(mx.sym.Group([age, p_male]), {"scale": mx.nd.array([[0.1]])}, {}), card, folder)
    return folder


def run(*arguments, folder=ROOT) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "test.py"), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def find_photograph() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"


def test_without_an_image_it_uses_the_sample_photograph(model, tmp_path):
    done = run("--model", model, "--json", tmp_path / "a" / "f.jsonl", "--save", tmp_path / "pictures")
    assert done.returncode == 0, done.stderr
    assert "grace_hopper.jpg: 1 face\n" in done.stdout and ": M " in done.stdout
    (line,) = map(json.loads, (tmp_path / "a" / "f.jsonl").read_text().splitlines())
    assert (line["status"], line["width"], line["height"]) == ("ok", 512, 600)
    (face,) = line["faces"]
    assert 5 < face["age"] < 25 and face["p_male"] == 0.75 and face["gender"] == "male"
    assert face["age_low"] == pytest.approx(face["age"] - 4, abs=0.02)
    assert face["age_high"] == pytest.approx(face["age"] + 6, abs=0.02)
    assert cv2.imread(str(tmp_path / "pictures" / "grace_hopper.jpg")).shape == (600, 512, 3)


def test_a_folder_with_bad_files_is_done_and_they_are_named(model, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(find_photograph(), photos / "b.jpg")
    shutil.copy(photos / "b.jpg", tmp_path / "b.jpg")
    (photos / "a.jpg").write_text("not an image")
    (photos / "c.jpg").write_bytes((photos / "b.jpg").read_bytes()[:20000])
    cv2.imwrite(str(photos / "d.png"), np.full((200, 200, 3), 99, np.uint8))
    files = tmp_path / "f.jsonl", tmp_path / "f.csv"
    save = tmp_path / "pictures"
    done = run(photos, tmp_path / "b.jpg", "--model", model, "--json", files[0], "--csv", files[1], "--save", save)
    assert done.returncode == 0, done.stderr
    assert "d.png: no face" in done.stdout
    assert f"skipped: {photos / 'a.jpg'}: not an image (a text file?)" in done.stderr
    assert f"skipped: {photos / 'c.jpg'}: truncated" in done.stderr
    assert "3 images, 2 faces; 2 could not be read" in done.stderr
    lines = [json.loads(line) for line in files[0].read_text().splitlines()]
    said = ["not an image (a text file?)", "ok", "truncated", "no face", "ok"]
    assert [line["status"] for line in lines] == said
    assert [len(line["faces"]) for line in lines] == [0, 1, 0, 0, 1]
    with open(files[1], newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [str(photos / "b.jpg"), str(tmp_path / "b.jpg")]
    assert float(rows[0]["age"]) == lines[1]["faces"][0]["age"]
    assert sorted(path.name for path in save.iterdir()) == ["b-2.jpg", "b.jpg", "d.png"]


def test_nothing_readable_is_exit_status_1(model, tmp_path):
    (tmp_path / "empty").mkdir()
    done = run(tmp_path / "empty", tmp_path / "gone.jpg", "--model", model)
    assert done.returncode == 1
    assert "empty: no images in it" in done.stderr and "gone.jpg: does not exist" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ") and "Traceback" not in done.stderr


def test_the_other_detector_finds_the_face_too(model, tmp_path):
    if not (ROOT / "ssh_model" / "essh-symbol.json").is_file():
        pytest.skip("ssh_model holds no checkpoint")
    done = run("--det", "1", "--model", model, "--json", tmp_path / "f.jsonl")
    assert done.returncode == 0, done.stderr
    (line,) = map(json.loads, (tmp_path / "f.jsonl").read_text().splitlines())
    (face,) = line["faces"]
    np.testing.assert_allclose(face["box"], [173, 112, 353, 334], atol=30)  # as seen in the picture


def test_a_detector_without_its_weights_is_one_line(model, tmp_path):
    (tmp_path / "ssh_model").mkdir()
    done = run("--det", "1", "--model", model, find_photograph(), folder=tmp_path)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1 and "essh-symbol.json: missing" in done.stderr


@pytest.mark.parametrize("det", ["0", "1"])
def test_a_photograph_however_it_is_turned_by_its_exif(det, model, tmp_path):
    """Orientations 1 to 8 of EXIF 2.32, 4.6.4: files whose pixels are stored turned or mirrored, and which say so."""
    if det == "1" and not (ROOT / "ssh_model" / "essh-symbol.json").is_file():
        pytest.skip("ssh_model holds no checkpoint")
    upright = cv2.imread(str(find_photograph()))
    for orientation in range(1, 9):
        stored = upright.transpose(1, 0, 2) if orientation >= 5 else upright
        stored = stored[:, ::-1] if orientation in (2, 3, 7, 8) else stored
        stored = stored[::-1] if orientation in (3, 4, 6, 7) else stored
        _, jpeg = cv2.imencode(".jpg", stored)
        entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
        exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)
        marker = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
        (tmp_path / f"{orientation}.jpg").write_bytes(jpeg.tobytes()[:2] + marker + jpeg.tobytes()[2:])
    done = run(tmp_path, "--det", det, "--model", model, "--json", tmp_path / "f.jsonl")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "f.jsonl").read_text().splitlines()]
    assert [(line["width"], line["height"], len(line["faces"])) for line in lines] == [(512, 600, 1)] * 8
    boxes = np.array([line["faces"][0]["box"] for line in lines])
    assert overlaps(boxes, boxes[:1]).min() > 0.75, boxes  # JPEG does not give back quite the same pixels


@pytest.mark.parametrize(
    "arguments, status, said",
    [
        (["--det", "7"], 2, "0 (mtcnn), 1 (essh)"),
        (["--model", "no/such/model"], 1, "no such model folder"),
        (["--runtime", "abacus"], 2, "runtime: unknown 'abacus'"),
        (["--colour"], 2, "--colour"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, status, said, model):
    given = [] if "--model" in arguments else ["--model", model]
    done = run(*arguments, *given)
    assert done.returncode == status, done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr


def test_results_never_replace_what_is_read(model, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    photo = shutil.copy(find_photograph(), photos / "a.jpg")
    content = photo.read_bytes()
    (tmp_path / "notes.txt").write_text("mine")
    for arguments, said in (
        ((photos, "--json", photo), "--json {0}: exists and is not"),
        ((photo, "--csv", tmp_path / "x", "--json", tmp_path / "x"), "this file too"),
        ((photos, "--json", photos / "new.jpg"), "would be read as an image"),
        ((photo, "--csv", tmp_path / "notes.txt"), "--csv {1}/notes.txt: exists and is not"),
        ((photo, "--save", photos), "--save {1}/photos: {0} is read from there"),
        ((photos, "--save", photos), "--save {1}/photos: the same command reads"),
        ((photo, "--save", tmp_path / "notes.txt"), "notes.txt: exists and is not a folder"),
        ((photo, "--json", "-", "--csv", "-"), "--csv -: --json writes to stdout too"),
    ):
        done = run(*arguments, "--model", model)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, (arguments, done.stderr)
        assert said.format(photo, tmp_path) in done.stderr
    assert photo.read_bytes() == content and (tmp_path / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "photos"]


def test_one_image_does_not_end_the_job_and_the_same_command_may_run_again(model, tmp_path):
    photos, save = tmp_path / "photos", tmp_path / "saved"
    photos.mkdir()
    save.mkdir()
    image = cv2.imread(str(find_photograph()))
    long = "m" * 250 + ".bmp"
    for name in ("a.jpg", "b\x1b]0;x\x07\n.jpg", "z.jpg"):
        cv2.imwrite(str(photos / name), image)
    (photos / long).write_bytes(cv2.imencode(".bmp", image)[1].tobytes())
    cv2.imwrite(str(save / "z.jpg"), image)  # another photograph of the user's
    mine = (save / "z.jpg").read_bytes()
    for _ in range(2):
        done = run(photos, "--model", model, "--save", save, "--csv", tmp_path / "f.csv", "--batch", "3")
        assert done.returncode == 0, done.stderr
        assert "4 images, 4 faces; 0 could not be read\n" in done.stderr
        assert r"b\x1b]0;x\x07\n.jpg: 1 face" in done.stdout and "\x1b" not in done.stdout
        names = sorted(path.name for path in save.iterdir())
        assert len(names) == 5 and names[0] == "a.jpg" and names[-2:] == ["z-2.jpg", "z.jpg"]
        assert names[2].startswith("m" * 200) and len(os.fsencode(names[2])) <= 255
        assert (save / "z.jpg").read_bytes() == mine
    with open(tmp_path / "f.csv", newline="") as file:
        assert "b\x1b]0;x\x07\n.jpg" in [Path(row["file"]).name for row in csv.DictReader(file)]


def test_stdin_and_stdout(model):
    command = [sys.executable, str(ROOT / "test.py"), "-", "gone.jpg", "--model", str(model), "--json", "-"]
    done = subprocess.run(command, input=find_photograph().read_bytes(), capture_output=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]  # results and nothing else
    assert [(line["file"], len(line["faces"])) for line in lines] == [("-", 1), ("gone.jpg", 0)]
    assert b"-: 1 face\n" in done.stderr


def test_a_killed_run_leaves_whole_results(model, tmp_path):
    """The third source is a pipe to which nobody writes: the run waits there, and is killed."""
    photo, pipe = find_photograph(), tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    files = tmp_path / "f.jsonl", tmp_path / "f.csv"
    files[0].write_text("")
    words = [photo, photo, pipe, "--model", model, "--json", files[0], "--csv", files[1]]
    with subprocess.Popen([sys.executable, ROOT / "test.py", *map(str, words)], stdout=subprocess.PIPE) as process:
        for _ in range(4):  # two pictures and their faces
            process.stdout.readline()
        process.kill()
    assert [len(json.loads(line)["faces"]) for line in files[0].read_text().splitlines()][:2] == [1, 1]
    with open(files[1], newline="") as file:
        assert [row["face"] for row in csv.DictReader(file)] == ["1", "1"]


def test_it_works_from_any_folder(tmp_path):
    done = run(find_photograph(), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 image, 1 face; 0 could not be read" in done.stderr


class Predictor:
    """Predict the number of an image's rows; images of 7 rows fail."""

    def __init__(self):
        self.calls = []

    def predict(self, image):
        self.calls.append(1)
        if len(image) == 7:
            raise ValueError("seven rows")
        return [len(image)]

    def predict_batch(self, images):
        self.calls.append(len(images))
        if any(len(image) == 7 for image in images):
            raise RuntimeError("one of them")
        return [[len(image)] for image in images]


def test_a_batch_that_fails_is_predicted_image_by_image():
    images = [SourceImage(str(rows), np.zeros((rows, 2, 3), np.uint8)) for rows in (5, 6, 7, 8, 9)]
    images.insert(1, SourceImage("bad", error="truncated"))
    predictor = Predictor()
    found = [(result.source.file, result.people, result.fault) for result in predict_files(predictor, images, 3)]
    assert found == [
        *(("5", [5], ""), ("bad", [], "truncated"), ("6", [6], "")),
        *(("7", [], "seven rows"), ("8", [8], ""), ("9", [9], "")),
    ]
    assert predictor.calls == [2, 3, 1, 1, 1]


@pytest.mark.parametrize("option", ["min_score", "max_side"])
def test_options_of_the_detector(option, model, tmp_path):
    value = {"min_score": "1", "max_side": "12"}[option]
    done = run(find_photograph(), "--model", model, f"--{option.replace('_', '-')}", value)
    assert done.returncode == 0 and "no face" in done.stdout, done.stderr
