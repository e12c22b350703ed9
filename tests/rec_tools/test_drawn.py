"""Drawn faces: same seed, same bytes; the set's faults; landmarks on the template; age and gender that can be seen."""

import json
from collections import Counter, defaultdict
from dataclasses import replace

import cv2
import numpy as np
import pytest

from agedge.errors import AgedgeError, UsageError
from agedge.labels import FEMALE, MALE
from rec_tools.drawn import folder as drawing
from rec_tools.drawn.draw import draw
from rec_tools.drawn.folder import write_folder
from rec_tools.drawn.pen import SIZE, TEMPLATE
from rec_tools.drawn.person import make_look, make_person
from rec_tools.drawn.scene import MAX_SHIFT, Scene, draw_look, draw_photo, set_scene
from rec_tools.readers import drawn, imdb_wiki
from rec_tools.rows import Dropped, Row

FACES = 150


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("drawn") / "imdb_crop"
    write_folder(root, FACES, seed=3, workers=1)
    return root


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_same_bytes_for_any_number_of_workers_and_others_for_another_seed(folder, tmp_path):
    write_folder(tmp_path / "two", FACES, seed=3, workers=2)
    assert contents(tmp_path / "two") == contents(folder)
    write_folder(tmp_path / "other", 5, seed=4, workers=1)
    write_folder(tmp_path / "wiki", 5, seed=4, name="wiki", workers=1)
    images = [{data for name, data in contents(tmp_path / one).items() if ".jpg" in name} for one in ("other", "wiki")]
    assert not images[0] & images[1] and not images[0] & set(contents(folder).values())


def test_the_reader_leaves_out_what_was_made_wrong(folder):
    faults = json.loads((folder / "drawn.json").read_text())["faults"]
    assert set(faults) == {*drawing.FAULTS, "missing", "undecodable"}
    rows = list(imdb_wiki.read(folder))
    assert len(rows) == FACES
    assert Counter(row.reason for row in rows if isinstance(row, Dropped)) == {
        "no face": faults["no face"],
        "face score below 1": faults["low score"],
        "second face": faults["second face"],
        "gender unknown": faults["gender unknown"],
        "age outside 0 to 100": faults["impossible age"],
    }
    images = [cv2.imread(str(row.image)) for row in rows if isinstance(row, Row)]
    assert sum(image is None for image in images) == 2  # one missing, one cut off
    assert {image.shape for image in images if image is not None} == {(SIZE, SIZE, 3)}


def test_people_are_seen_at_up_to_four_ages(folder):
    ages = defaultdict(list)
    for row in imdb_wiki.read(folder):
        if isinstance(row, Row):
            ages[row.identity].append((row.label.age_min, row.label.gender))
    counts = Counter(map(len, ages.values()))
    assert set(counts) == {1, 2, 3, 4}
    assert all(len(set(seen)) == len(seen) and len({gender for _, gender in seen}) == 1 for seen in ages.values())


def test_labels_say_the_age_that_was_drawn():
    photos, _ = drawing.plan(400, 1, "imdb")
    for photo in photos:
        years = photo.taken - photo.birth.year - (photo.birth.month > 6)
        assert years == int(photo.age) and photo.taken <= 2015
        assert imdb_wiki.age_in_name(photo.path) == years


@pytest.mark.parametrize("name", ["imdb", "wiki"])
def test_drawn_dates_agree_with_the_names(tmp_path, name):
    rows = list(drawn.read(tmp_path / name, faces=60, seed=5, name=name))
    known = [row for row in rows if isinstance(row, Row)]
    assert len(known) > 45
    assert all(imdb_wiki.age_in_name(row.id) == row.label.age_min for row in known)


def test_the_reader_draws_once_and_refuses_another_folder(tmp_path):
    root = tmp_path / "drawn"
    first = list(drawn.read(root, faces=6))
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert list(drawn.read(root, faces=6, min_age=0)) == first
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    with pytest.raises(AgedgeError, match="faces=6 instead of 7"):
        drawn.read(root, faces=7)
    (root / "drawn.json").unlink()
    with pytest.raises(AgedgeError, match="not a folder of drawn faces"):
        drawn.read(root, faces=6)


def test_an_interrupted_drawing_is_not_taken_for_finished(tmp_path, monkeypatch):
    root = tmp_path / "drawn"

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(drawing, "_mat", interrupt)
        with pytest.raises(KeyboardInterrupt):
            drawn.read(root, faces=4)
    assert not root.exists()
    assert len(list(drawn.read(root, faces=4))) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["drawn"]


def test_wrong_use(tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used/file").write_text("")
    with pytest.raises(AgedgeError, match="not empty"):
        write_folder(tmp_path / "used", 4)
    with pytest.raises(UsageError, match="unknown 'imbd'; choose one of imdb, wiki"):
        write_folder(tmp_path / "new", 4, name="imbd")
    with pytest.raises(UsageError, match="at least one face"):
        write_folder(tmp_path / "new", 0)


def test_draw_writes_a_folder_and_a_sheet(tmp_path):
    draw(tmp_path / "faces", faces=3, seed=1, sheet=tmp_path / "pictures/sheet.png")
    assert len(list((tmp_path / "faces").rglob("*.jpg"))) == 3
    sheet = cv2.imread(str(tmp_path / "pictures/sheet.png"))
    assert sheet.shape[0] > 4 * SIZE and sheet.shape[1] > 10 * SIZE


def people(count, seed=0):
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        yield make_person(rng, (FEMALE, MALE)[index % 2]), rng


def test_landmarks_lie_on_the_template_and_the_pupils_there():
    for person, rng in people(40):
        look = replace(make_look(person, rng.uniform(0, 90), rng), glasses="none")
        image, landmarks = draw_look(look, rng, Scene())
        assert np.abs(landmarks - TEMPLATE).max() <= 0.025 * SIZE
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(float)
        for x, y in np.rint(landmarks[:2]).astype(int):
            assert grey[y - 1 : y + 2, x - 1 : x + 2].mean() < 0.75 * grey[y + 12 : y + 22, x - 3 : x + 4].mean()


def test_pose_stays_within_its_bounds():
    for person, rng in people(60, seed=1):
        scene = replace(set_scene(rng), yaw=0.0)
        landmarks = draw_look(make_look(person, 30, rng), rng, scene)[1]
        assert np.abs(np.degrees(scene.roll)) <= 15 and 0.9 <= scene.scale <= 1.1
        eyes = landmarks[1] - landmarks[0]
        assert np.isclose(np.arctan2(eyes[1], eyes[0]), scene.roll, atol=0.02)
        # The template's middle is 5 pixels from the image's: that turns and grows too.
        assert np.abs(landmarks.mean(0) - TEMPLATE.mean(0)).max() <= MAX_SHIFT + 4


def drawn_faces(count, ages, seed):
    """(count, pixels) of small grey faces without mean and contrast, their ages and genders."""
    images, truth = [], []
    for person, rng in people(count, seed):
        age = float(rng.choice(ages))
        image = draw_photo(person, age, rng, set_scene(rng))
        grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (24, 24), interpolation=cv2.INTER_AREA).astype(float)
        images.append(((grey - grey.mean()) / (grey.std() + 1)).ravel())
        truth.append((age, person.gender))
    return np.array(images), np.array(truth)


def ridge(images, targets, strength=60.0):
    middle, offset = images.mean(0), targets.mean()
    x = images - middle
    weights = np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ (targets - offset))
    return lambda other: (other - middle) @ weights + offset


def test_age_and_gender_can_be_seen_and_less_of_gender_in_small_children():
    images, truth = drawn_faces(400, np.arange(0, 91), seed=2)
    others, true = drawn_faces(200, np.arange(0, 91), seed=3)
    error = np.abs(ridge(images, truth[:, 0])(others) - true[:, 0]).mean()
    assert error < 0.7 * np.abs(np.median(truth[:, 0]) - true[:, 0]).mean()
    adults = true[:, 0] >= 18
    guess = ridge(images[truth[:, 0] >= 18], truth[truth[:, 0] >= 18, 1])(others) > 0.5
    assert (guess == true[:, 1])[adults].mean() > 0.75
    small, of_small = drawn_faces(200, np.arange(0, 4), seed=4)
    weak = ridge(small[:130], of_small[:130, 1])(small[130:]) > 0.5
    assert (weak == of_small[130:, 1]).mean() < 0.75
