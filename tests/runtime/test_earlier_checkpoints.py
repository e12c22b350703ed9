"""The checkpoints of earlier MXNet trainers predict, on real faces, what their own tools predicted."""

import csv
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import cv2
import mxnet as mx
import numpy as np
import pytest

from agedge.runtime import load_model
from deploy.slim import slim_model
from tests.paths import ROOT, SHARED

UPSTREAM = SHARED / "upstream"
FACES = SHARED / "data" / "utkface_dev.tar.gz"
pytestmark = pytest.mark.skipif(
    not (UPSTREAM.is_dir() and FACES.is_file()),
    reason="the earlier checkpoints lie in ../shared, which is absent",
)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """(rows of expected.csv, {side: their faces at so many pixels})."""
    folder = tmp_path_factory.mktemp("utkface")
    with (UPSTREAM / "expected.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    found, images = [], {64: [], 112: []}
    with tarfile.open(FACES) as archive:
        for member in archive:
            name = Path(member.name).name
            if member.isfile() and name in rows:
                (folder / name).write_bytes(archive.extractfile(member).read())
                image = cv2.imread(str(folder / name))
                for side, faces in images.items():
                    faces.append(cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR))
                found.append(rows[name])
    assert len(found) == len(rows) == 200
    return found, {side: np.stack(faces) for side, faces in images.items()}


def column(rows, name):
    return [float(row[name]) for row in rows]


def test_mobilenet_of_pairs(expected):
    rows, images = expected
    predicted = load_model(f"{UPSTREAM / 'mobilenet025_ordinal'},0").predict(images[112])
    np.testing.assert_array_equal(predicted.age, column(rows, "mobilenet025_age"))
    np.testing.assert_allclose(predicted.p_male, column(rows, "mobilenet025_p_male"), atol=1e-3)


def test_ssrnet_of_ages(expected):
    rows, images = expected
    for form in ("", "age"):
        predicted = load_model(f"{UPSTREAM / 'ssrnet_age'},21", form=form).predict(images[64])
        np.testing.assert_allclose(predicted.age, column(rows, "ssrnet_age"), atol=1e-3)
        assert np.isnan(predicted.p_male).all()


def test_ssrnet_of_genders(expected):
    rows, images = expected
    predicted = load_model(f"{UPSTREAM / 'ssrnet_gender'},42").predict(images[64])
    np.testing.assert_allclose(predicted.p_male, column(rows, "ssrnet_p_male"), atol=1e-3)
    assert np.isnan(predicted.age).all()


@pytest.mark.parametrize("name, epoch, key", [("ssrnet_age", 21, "age"), ("ssrnet_gender", 42, "p_male")])
def test_slim_checkpoints_with_their_stage_numbers_as_inputs(expected, tmp_path, name, epoch, key):
    rows, images = expected
    card = slim_model(f"{UPSTREAM / name},{epoch}", tmp_path, "inputs")
    (tmp_path / "card.json").unlink()  # as older tools leave them: symbol and weights, nothing else
    symbol, _, _ = mx.model.load_checkpoint(str(tmp_path / name), 0)
    assert set(symbol.list_arguments()) >= {"stage_num0", "stage_num1", "stage_num2"}
    predicted = load_model(f"{tmp_path / card.name},0").predict(images[64])
    np.testing.assert_allclose(getattr(predicted, key), column(rows, f"ssrnet_{key}"), atol=1e-3)


def test_the_commands_take_them(tmp_path):
    command = [sys.executable, "test.py", "--model", f"{UPSTREAM / 'ssrnet_age'},21"]
    done = subprocess.run([*command, "--json", str(tmp_path / "a")], cwd=ROOT, capture_output=True, text=True)
    face = json.loads((tmp_path / "a").read_text())["faces"][0]
    assert done.returncode == 0 and 20 < face["age"] < 100 and face["gender"] is None
    done = subprocess.run([*command, "--decode", "pairs"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "outputs lro (1): --decode pairs needs a single output of 202" in done.stderr
