"""Faces of a folder's pictures into a label.txt, by a detector that finds a drawn square."""

import logging
import subprocess
import sys

import cv2
import numpy as np
import pytest

from agedge.errors import AgedgeError
from agedge.faces.annotations import read_annotations
from agedge.faces.detector import Faces
from rec_tools.detection import annotate as module
from rec_tools.detection.annotate import DERIVED, DISAGREE, FOUND, GIVEN, annotate

FACE = np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)])  # of a box


class SquareDetector:
    """Takes white squares for faces, and grey ones for faces that it is not sure of."""

    def detect_batch(self, images):
        return [self.detect(image) for image in images]

    def detect(self, image):
        boxes, scores = [], []
        for value, score in ((255, 0.99), (128, 0.8)):
            mask = (np.abs(image[..., 0].astype(int) - value) < 20).astype(np.uint8)
            for x, y, width, height, area in cv2.connectedComponentsWithStats(mask)[2][1:].tolist():
                if area > 100:
                    boxes.append((x, y, x + width, y + height))
                    scores.append(score)
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        landmarks = boxes[:, None, :2] + FACE * (boxes[:, None, 2:] - boxes[:, None, :2]) - 0.5
        return Faces(boxes, scores, landmarks)


@pytest.fixture(autouse=True)
def detector(monkeypatch):
    monkeypatch.setattr(module, "get_detector", lambda name: SquareDetector())


def draw(folder, name, *squares, size=200, value=255):
    """A picture with squares of x, y and side."""
    image = np.zeros((size, size, 3), np.uint8)
    for x, y, side in squares:
        image[y : y + side, x : x + side] = value
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / name), image)


def points_of(x, y, side):
    return np.array([x, y]) + FACE * side - 0.5


def write_table(path, rows: dict):
    head = ",".join(["file", *module.LANDMARK_COLUMNS])
    lines = [",".join([name, *map(str, np.asarray(points).ravel())]) for name, points in rows.items()]
    path.write_text("\n".join([head, *lines]) + "\n")


def test_the_main_face_comes_first_and_unsure_ones_are_ignored(tmp_path):
    draw(tmp_path / "set/sub", "a.png", (2, 2, 30), (60, 60, 80))
    image = cv2.imread(str(tmp_path / "set/sub/a.png"))
    image[150:190, 150:190] = 128
    cv2.imwrite(str(tmp_path / "set/sub/a.png"), image)
    report = annotate(tmp_path / "set", tmp_path / "label.txt")
    (photo,) = read_annotations(tmp_path / "label.txt")
    assert photo.file == tmp_path / "set/sub/a.png"
    np.testing.assert_allclose(photo.boxes, [[60, 60, 140, 140], [2, 2, 32, 32], [150, 150, 190, 190]], atol=1e-3)
    np.testing.assert_allclose(photo.landmarks[0], points_of(60, 60, 80), atol=1e-3)
    assert photo.ignored.tolist() == [False, False, True]
    assert (report.images, report.faces, report.methods) == (1, 3, {FOUND: 1})


def test_some_pictures_are_held_out_and_none_is_in_both(tmp_path):
    for number in range(30):
        draw(tmp_path / "set", f"{number}.png", (60, 60, 80))
    report = annotate(tmp_path / "set", tmp_path / "label.txt", hold_out=5)
    kept, held_out = (read_annotations(tmp_path / name) for name in ("label.txt", "label_val.txt"))
    names = {photo.file.name for photo in kept}, {photo.file.name for photo in held_out}
    assert len(names[0] | names[1]) == len(kept) + len(held_out) == report.images == 30
    assert 1 <= len(held_out) <= 15
    annotate(tmp_path / "set", tmp_path / "again.txt", hold_out=5)
    assert {photo.file.name for photo in read_annotations(tmp_path / "again_val.txt")} == names[1]


def test_a_face_may_leave_its_picture(tmp_path):
    draw(tmp_path / "set", "a.png", (0, 20, 200))
    annotate(tmp_path / "set", tmp_path / "label.txt")
    (box,) = read_annotations(tmp_path / "label.txt")[0].boxes
    np.testing.assert_allclose(box, [-70, 20, 270, 270], atol=1e-3)  # to the end of the replicated border


def test_small_pictures_are_enlarged_and_their_coordinates_are_their_own(tmp_path):
    draw(tmp_path / "set", "a.png", (20, 24, 40), size=80)
    annotate(tmp_path / "set", tmp_path / "label.txt")
    photo = read_annotations(tmp_path / "label.txt")[0]
    np.testing.assert_allclose(photo.boxes[0], [20, 24, 60, 64], atol=0.6)
    np.testing.assert_allclose(photo.landmarks[0], points_of(20, 24, 40), atol=0.6)


def test_the_tables_landmarks_stand_where_they_agree(tmp_path, caplog):
    draw(tmp_path / "set", "good.png", (2, 2, 60), (90, 90, 80))
    draw(tmp_path / "set", "shifted.png", (60, 60, 80))
    draw(tmp_path / "set", "unlisted.png", (60, 60, 80))
    rows = {"good.png": points_of(2, 2, 60) + 1, "shifted.png": points_of(60, 60, 80) - (0, 28), "other.png": [1] * 10}
    write_table(tmp_path / "points.csv", rows)
    report = annotate(tmp_path / "set", tmp_path / "label.txt", tmp_path / "points.csv")
    good, shifted, _ = read_annotations(tmp_path / "label.txt")
    np.testing.assert_allclose(good.landmarks[0], points_of(2, 2, 60) + 1, atol=1e-3)
    np.testing.assert_allclose(good.boxes[0], [2, 2, 62, 62], atol=1e-3)  # the table's face, not the most central
    np.testing.assert_allclose(shifted.landmarks[0], points_of(60, 60, 80), atol=1e-3)
    assert report.methods == {GIVEN: 1, DISAGREE: 1, FOUND: 1}
    assert report.left_out == {"rows of the table": 1} and "line 4" in caplog.text


def test_boxes_follow_from_landmarks_where_nothing_is_found(tmp_path):
    rows = {}
    for number in range(25):
        square = (10 + number, 30 + number, 60 + 3 * number)
        rows[f"{number:02}.png"] = points_of(*square)
        draw(tmp_path / "set", f"{number:02}.png", square)
    draw(tmp_path / "set", "dark.png")
    rows["dark.png"] = points_of(50, 40, 90)
    write_table(tmp_path / "set/points.csv", rows)
    report = annotate(tmp_path / "set", tmp_path / "label.txt", tmp_path / "set/points.csv")
    photo = read_annotations(tmp_path / "label.txt")[-1]
    assert report.methods == {GIVEN: 25, DERIVED: 1} and report.box_model.agreement.min() > 0.95
    np.testing.assert_allclose(photo.boxes[0], [50, 40, 140, 130], atol=2)
    np.testing.assert_allclose(photo.landmarks[0], points_of(50, 40, 90), atol=1e-3)


def test_pictures_without_a_face_are_left_out_or_get_the_median_box(tmp_path):
    draw(tmp_path / "set", "a.png", (60, 60, 80))
    draw(tmp_path / "set", "b.png", size=400)
    draw(tmp_path / "set", "c.png", (60, 60, 80), value=128)
    report = annotate(tmp_path / "set", tmp_path / "label.txt")
    assert report.left_out == {"no face found": 2}
    assert [photo.file.name for photo in read_annotations(tmp_path / "label.txt")] == ["a.png"]
    annotate(tmp_path / "set", tmp_path / "label.txt", centre=True)
    photo = read_annotations(tmp_path / "label.txt")[1]
    np.testing.assert_allclose(photo.boxes, [[120, 120, 280, 280]], atol=1e-3)
    assert np.isnan(photo.landmarks).all()
    report = annotate(tmp_path / "set", tmp_path / "label.txt", min_score=0.5)
    assert report.methods == {FOUND: 2}


def test_bad_files_are_a_line_and_counted(tmp_path, caplog):
    draw(tmp_path / "set", "a.png", (60, 60, 80))
    (tmp_path / "set/b.jpg").write_text("no picture")
    (tmp_path / "set/c.jpg").touch()
    with caplog.at_level(logging.WARNING):
        report = annotate(tmp_path / "set", tmp_path / "label.txt")
    assert report.images == 1 and report.left_out == {"not readable": 2}
    assert len(caplog.records) == 2 and f"{tmp_path / 'set/b.jpg'}: not an image" in caplog.text


def test_large_pictures_are_looked_at_a_few_at_a_time(tmp_path, monkeypatch):
    for number in range(5):
        draw(tmp_path / "set", f"{number}.png", (60, 60, 80 + number))
    together = []
    detect = SquareDetector.detect_batch
    monkeypatch.setattr(
        SquareDetector, "detect_batch", lambda self, some: together.append(len(some)) or detect(self, some)
    )
    monkeypatch.setattr(module, "BATCH_PIXELS", 60_000)
    annotate(tmp_path / "set", tmp_path / "label.txt")
    assert together == [2, 2, 1]
    assert [photo.boxes[0, 2] for photo in read_annotations(tmp_path / "label.txt")] == [140, 141, 142, 143, 144]


def test_a_folder_without_pictures_or_faces_is_refused(tmp_path):
    with pytest.raises(AgedgeError, match="no such folder"):
        annotate(tmp_path / "none", tmp_path / "label.txt")
    (tmp_path / "set").mkdir()
    with pytest.raises(AgedgeError, match="no images in it"):
        annotate(tmp_path / "set", tmp_path / "label.txt")
    draw(tmp_path / "set", "a.png")
    with pytest.raises(AgedgeError, match="no face found in 1 images"):
        annotate(tmp_path / "set", tmp_path / "label.txt", centre=True)
    assert not (tmp_path / "label.txt").exists()


def test_a_table_of_other_columns_is_refused(tmp_path):
    draw(tmp_path / "set", "a.png", (60, 60, 80))
    (tmp_path / "points.csv").write_text("file,x,y\na.png,1,2\n")
    with pytest.raises(AgedgeError, match=r"points\.csv: needs the columns file, left_eye_x"):
        annotate(tmp_path / "set", tmp_path / "label.txt", tmp_path / "points.csv")


@pytest.mark.slow
def test_the_door_with_workers_on_a_real_face(tmp_path):
    import matplotlib

    image = cv2.imread(f"{matplotlib.get_data_path()}/sample_data/grace_hopper.jpg")
    (tmp_path / "set").mkdir()
    cv2.imwrite(str(tmp_path / "set/a.png"), image[110:340, 160:370])
    for workers in "02":
        words = [
            "annotate",
            "--root",
            str(tmp_path / "set"),
            "--out",
            str(tmp_path / f"{workers}.txt"),
            "--workers",
            workers,
        ]
        ended = subprocess.run([sys.executable, "-m", "rec_tools", *words], capture_output=True, text=True)
        assert ended.returncode == 0 and "annotated  1 faces in 1 pictures" in ended.stdout, ended.stderr
    assert (tmp_path / "0.txt").read_bytes() == (tmp_path / "2.txt").read_bytes()
