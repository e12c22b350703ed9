"""Annotated photographs, read and written: label.txt and annotations.json, whole and with faults."""

import json
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agedge.errors import AgedgeError
from agedge.faces import annotations
from agedge.faces.annotations import Photo, read_annotations, write_annotations

FULL = "449 330 122 149 488.906 373.643 0.0 542.089 376.442 0.0 515.031 412.83 1.0 485.174 425.893 0.0 -1 -1 -1 0.82"


def write(folder, text: str):
    file = folder / "label.txt"
    file.write_text(text, encoding="utf-8")
    return file


def same(one: Photo, other: Photo) -> bool:
    arrays = ("boxes", "landmarks", "ignored", "occlusion")
    return one.file == other.file and all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name == "landmarks") for name in arrays
    )


def test_a_line_of_wider_face_with_landmarks(tmp_path):
    (photo,) = read_annotations(write(tmp_path, f"# 0--Parade/a b.jpg\n{FULL}\n"))
    assert photo.file == tmp_path / "0--Parade/a b.jpg"
    np.testing.assert_allclose(photo.boxes, [[449, 330, 571, 479]])
    np.testing.assert_allclose(photo.landmarks[0, :3], [[488.906, 373.643], [542.089, 376.442], [515.031, 412.83]])
    assert np.isnan(photo.landmarks[0, 4]).all()
    assert not photo.ignored.any() and photo.occlusion.tolist() == [""]


def test_lines_of_four_numbers_and_photographs_without_a_face(tmp_path):
    first, second, third = read_annotations(
        write(tmp_path, "# a.jpg\r\n1 2 3 4 \r\n\r\n# b.jpg\n# c.jpg\n5 6 7 8 ignore masked\n")
    )
    assert first.boxes.tolist() == [[1, 2, 4, 6]] and np.isnan(first.landmarks).all()
    assert len(second) == 0 and second.landmarks.shape == (0, 5, 2)
    assert third.ignored.tolist() == [True] and third.occlusion.tolist() == ["masked"]


@pytest.mark.parametrize("where, given_as", [("images", "x/a.jpg"), ("", "x/a.jpg"), ("", "images/a.jpg")])
def test_images_lie_in_images_or_beside_the_file(tmp_path, where, given_as):
    image = tmp_path / where / given_as
    image.parent.mkdir(parents=True)
    image.touch()
    photos = read_annotations(write(tmp_path, f"# missing.jpg\n# {given_as}\n1 1 2 2\n"))
    assert photos[1].file == image


@pytest.mark.parametrize(
    "line, reason",
    [
        ("10 10 0 5", "an empty box, 0 wide and 5 high"),
        ("10 10 5 -3", "an empty box"),
        ("10 10 5 x3,", "3 numbers; must be 4, 19, 20|'x3,' is not a number"),
        ("10 10 5 3a", "'3a' is not a number"),
        ("10 10 nan 3", "nan is no place"),
        ("10 10 inf 3", "inf is no place"),
        ("10 10 5", "3 numbers"),
        ("10 10 5 5 1 2", "6 numbers"),
        ("1e30 10 5 5", "1e30 is no place in an image"),
        ("999999 10 0.001 5", "an empty box"),
        ("1 2 3 4 masked 5", "'5' after the numbers"),
    ],
)
def test_a_face_that_makes_no_sense_is_named_and_the_others_are_read(tmp_path, caplog, line, reason):
    file = write(tmp_path, f"# a.jpg\n1 1 2 2\n{line}\n3 3 4 4\n")
    with caplog.at_level(logging.WARNING):
        (photo,) = read_annotations(file)
    assert photo.boxes.tolist() == [[1, 1, 3, 3], [3, 3, 7, 7]]
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{file}:3: ") and any(
        part in record.getMessage() for part in reason.split("|")
    )


def test_many_faults_are_counted_not_listed(tmp_path, caplog):
    text = "# a.jpg\n1 1 2 2\n" + "1 1 0 0\n" * 500
    with caplog.at_level(logging.WARNING):
        read_annotations(write(tmp_path, text))
    assert len(caplog.records) == annotations.NAMED + 1 and "500 faces left out" in caplog.text


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "it names no image"),
        ("1 2 3 4\n# a.jpg\n", r"label\.txt:1: a face must follow the line of its image"),
        ("# a.jpg\nage,gender\n", r"label\.txt:2: .*no other face"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, text, message):
    with pytest.raises(AgedgeError, match=message) as error:
        read_annotations(write(tmp_path, text))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(AgedgeError, match=r"none\.txt: No such file"):
        read_annotations(tmp_path / "none.txt")


def test_annotations_json(tmp_path, caplog):
    points = [[1, 2], [3, 2], [2, 3], [1, 4], [3, 4]]
    faces = [
        {"box": [0, 1, 4, 6], "landmarks": points, "masked": False, "ignore": False},
        {"box": [5, 5, 9, 9], "landmarks": None, "masked": True, "ignore": True},
        {"box": [5, 5, 9, 9], "landmarks": []},
        {"box": [5, 5, 5, 9]},
        {"box": [5, 5, 9]},
        {"box": [5, 5, 9, 9], "landmarks": points[:2]},
        {"landmarks": None},
        7,
    ]
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps([{"file": "a.jpg", "faces": faces}, {"file": "b.jpg", "faces": []}]))
    first, second = read_annotations(file)
    assert first.file == tmp_path / "a.jpg" and len(second) == 0
    assert first.boxes.tolist() == [[0, 1, 4, 6], [5, 5, 9, 9], [5, 5, 9, 9]]
    assert first.landmarks[0].tolist() == points and np.isnan(first.landmarks[1:]).all()
    assert first.occlusion.tolist() == ["", "masked", ""] and first.ignored.tolist() == [False, True, False]
    assert len(caplog.records) == 5 and "image 1 (a.jpg), face 4" in caplog.text


@pytest.mark.parametrize(
    "text, message", [("[{", ":1: not JSON"), ('{"a": 1}', "a list of images"), ("[1]", "image 1")]
)
def test_a_json_of_another_kind_is_refused(tmp_path, text, message):
    file = tmp_path / "annotations.json"
    file.write_text(text)
    with pytest.raises(AgedgeError, match=message):
        read_annotations(file)


def number(low, high):
    return st.floats(low, high, width=32)


@st.composite
def photos(draw):
    count = draw(st.integers(0, 3))
    corner = [[draw(number(-1000, 1000)) for _ in "xy"] for _ in range(count)]
    sides = [[draw(number(0.25, 1000)) for _ in "xy"] for _ in range(count)]
    boxes = np.concatenate([corner, np.add(corner, sides)], axis=1) if count else np.empty((0, 4))
    point = st.one_of(st.just((np.nan, np.nan)), st.tuples(number(-1e4, 1e4), number(-1e4, 1e4)))
    landmarks = [[draw(point) for _ in range(5)] for _ in range(count)]
    occlusion = [draw(st.sampled_from(["", "masked", "hand glasses"])) for _ in range(count)]
    return boxes, landmarks if count else None, [draw(st.booleans()) for _ in range(count)], occlusion


@settings(max_examples=60, deadline=None)
@given(st.lists(photos(), min_size=1, max_size=4))
def test_what_is_written_is_read_back_identically(tmp_path_factory, columns):
    folder = tmp_path_factory.mktemp("photos")
    written = [Photo(folder / f"some folder/{index}.jpg", *its) for index, its in enumerate(columns)]
    write_annotations(folder / "label.txt", written)
    read = read_annotations(folder / "label.txt")
    assert len(read) == len(written) and all(map(same, read, written))


def test_photographs_in_images_get_names_as_retinaface_has_them(tmp_path):
    (tmp_path / "images/x").mkdir(parents=True)
    inside = tmp_path / "images/x/a.jpg"
    inside.touch()
    write_annotations(tmp_path / "label.txt", [Photo(inside, [[1, 2, 3, 4]])])
    assert (tmp_path / "label.txt").read_text().splitlines()[0] == "# x/a.jpg"
    assert read_annotations(tmp_path / "label.txt")[0].file == inside
    elsewhere = tmp_path.parent / "b.jpg"
    write_annotations(tmp_path / "label.txt", [Photo(inside, [[1, 2, 3, 4]]), Photo(elsewhere, [])])
    assert [photo.file for photo in read_annotations(tmp_path / "label.txt")] == [inside, elsewhere]


def test_plain_faces_are_lines_that_other_readers_know(tmp_path):
    landmarks = np.arange(10).reshape(1, 5, 2) + 0.1
    write_annotations(tmp_path / "label.txt", [Photo(tmp_path / "a.jpg", [[1.1, 2, 3.3, 4]], landmarks)])
    line = (tmp_path / "label.txt").read_text().splitlines()[1]
    assert len(list(map(float, line.split()))) == 19 and line.startswith("1.1 2.0 2.2 2.0 0.1 1.1 0 ")


def test_words_that_could_not_be_read_back_are_refused(tmp_path):
    for word in ("5", "a,b", "ignore"):
        with pytest.raises(ValueError, match="occlusion"):
            write_annotations(tmp_path / "label.txt", [Photo("a.jpg", [[1, 1, 2, 2]], occlusion=[word])])
    assert not list(tmp_path.iterdir())


def test_a_photo_has_as_many_of_everything():
    with pytest.raises(ValueError, match=r"a\.jpg: 2 boxes, 1 ignored"):
        Photo("a.jpg", [[1, 1, 2, 2], [3, 3, 4, 4]], ignored=[True])
