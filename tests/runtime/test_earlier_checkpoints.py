"""The checkpoint of the earlier MXNet trainer says, on real faces, what its own tools said."""

import csv
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from agedge.runtime import load_model

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
UPSTREAM = SHARED / "upstream"
FACES = SHARED / "data" / "utkface_dev.tar.gz"
pytestmark = pytest.mark.skipif(
    not (UPSTREAM.is_dir() and FACES.is_file()),
    reason="the earlier checkpoints lie in ../shared, which is absent",
)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """(rows of expected.csv, their faces at 112 pixels)."""
    folder = tmp_path_factory.mktemp("utkface")
    with (UPSTREAM / "expected.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    found, images = [], []
    with tarfile.open(FACES) as archive:
        for member in archive:
            name = Path(member.name).name
            if member.isfile() and name in rows:
                (folder / name).write_bytes(archive.extractfile(member).read())
                image = cv2.imread(str(folder / name))
                images.append(cv2.resize(image, (112, 112), interpolation=cv2.INTER_LINEAR))
                found.append(rows[name])
    assert len(found) == len(rows) == 200
    return found, np.stack(images)


def test_mobilenet_of_pairs(expected):
    rows, images = expected
    said = load_model(f"{UPSTREAM / 'mobilenet025_ordinal'},0").predict(images)
    np.testing.assert_array_equal(said.age, [float(row["mobilenet025_age"]) for row in rows])
    np.testing.assert_allclose(said.p_male, [float(row["mobilenet025_p_male"]) for row in rows], atol=1e-3)
