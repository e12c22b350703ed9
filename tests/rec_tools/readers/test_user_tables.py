"""Tables of a user's own faces as people have them: other columns, other paths, boxes that are not boxes."""

import os

import numpy as np
import pytest

from agedge.crop import Crop
from agedge.errors import AgedgeError
from agedge.labels import Label, exact
from rec_tools.packing.crop_faces import crop_faces
from rec_tools.packing.options import Preparation
from rec_tools.readers import faces
from rec_tools.rows import Row
from tests.rec_tools.readers.table_folders import lay_out, read


@pytest.mark.parametrize(
    "header, line",
    [
        ("image,sex,years", "a.jpg,woman,34"),
        ("\ufeffIMG ; Gender ; Age (years)", "a.jpg;F;34 years"),
        ("File Name\tSex\tAge", "./a.jpg\tgirl\t34,0"),
        ("path|gender|min age|max age", "a.jpg|0|34|34"),
    ],
)
def test_columns_and_words_that_mean_the_same(tmp_path, header, line):
    rows, reasons = read(faces, lay_out(tmp_path, {"faces.csv": f"{header}\r\n{line}\r\n", "a.jpg": ""}))
    assert not reasons and list(rows) == ["a.jpg"] and rows["a.jpg"].label == exact(0, 34)


def test_decimal_commas_are_years(tmp_path):
    rows, _ = read(faces, lay_out(tmp_path, {"faces.csv": "file;age\na.jpg;2,75\nb.jpg;0,5\nc.jpg;(25, 32)\n"}))
    assert [row.label for row in rows.values()] == [exact(-1, 2.75), exact(-1, 0.5), Label(-1, 25, 32)]


def test_what_is_not_understood_costs_its_own_field(tmp_path, caplog):
    lines = "file,age,gender\na.jpg,34,other\nb.jpg,old,man\nc.jpg,old,x\nd.jpg,35,f\n"
    rows, reasons = read(faces, lay_out(tmp_path, {"faces.csv": lines}))
    assert [row.label for row in rows.values()] == [exact(-1, 34), Label(1), exact(0, 35)]
    assert reasons == {"c.jpg": "age not understood"}
    assert "gender not understood, and left unknown (1): 'other'" in caplog.text


def test_paths_of_other_systems_are_found(tmp_path):
    lines = "file,age\nimg\\a.jpg,1\nIMG/B.JPG,2\n./img//c.jpg,3\nimg\\none.jpg,4\n"
    files = {f"img/{name}.jpg": "" for name in "abc"}
    rows, _ = read(faces, lay_out(tmp_path, {"faces.csv": lines, **files}))
    assert list(rows) == ["img/a.jpg", "img/b.jpg", "img/c.jpg", "img\\none.jpg"]
    assert [row.image.is_file() for row in rows.values()] == [True, True, True, False]


def test_a_name_that_is_there_is_taken_before_one_in_other_case(tmp_path):
    lay_out(tmp_path, {"faces.csv": "file,age\nA.jpg,1\na.JPG,2\n", "A.jpg": "", "a.jpg": ""})
    rows, _ = read(faces, tmp_path)
    assert [os.path.isfile(row.image) for row in rows.values()] == [True, False]  # which one "a.JPG" is, is not clear


@pytest.mark.parametrize("name", ["images/a.jpg", "../images/a.jpg", "a.jpg"])
def test_a_table_in_a_folder_beside_the_images(tmp_path, name):
    table = tmp_path / "labels/my.csv"
    lay_out(tmp_path, {"labels/my.csv": f"file,age\n{name},30\n", "images/a.jpg": ""})
    rows, _ = read(faces, tmp_path, f"table={table}")
    assert next(iter(rows.values())).image.is_file() and faces.find_images(tmp_path, table=table) == tmp_path
    assert faces.find_images(tmp_path / "images", table=table) == table.parent  # a table outside of root


@pytest.mark.parametrize(
    "header, line",
    [
        ("x1,y1,x2,y2", "10,20,40,60"),
        ("left,top,right,bottom", "10,20,40,60"),
        ("xmin,ymin,xmax,ymax", "10,20,40,60"),
        ("x,y,w,h", "10,20,30,40"),
        ("left,top,width,height", "10,20,30,40"),
    ],
)
def test_boxes_in_the_columns_that_people_have(tmp_path, header, line):
    rows, _ = read(faces, lay_out(tmp_path, {"faces.csv": f"file,age,{header}\na.jpg,30,{line}\n"}))
    assert [row.box for row in rows.values()] == [(10, 20, 40, 60)]


def test_columns_that_are_something_else_are_refused(tmp_path):
    lines = [f"{name}.jpg,30,{x},{x},{100 + x},40" for name, x in zip("abcdefgh", (10, 20, 50, 60, 70, 80, 90, 5))]
    with pytest.raises(AgedgeError, match="5 of 8 boxes are not x1, y1, x2, y2 .* such as c.jpg: 50, 50 to 150, 40"):
        read(faces, lay_out(tmp_path, {"faces.csv": "\n".join(["file,age,x1,y1,x2,y2", *lines])}))
    with pytest.raises(AgedgeError, match="are landmarks, not a box"):
        lay_out(tmp_path, {"faces.csv": "file,age,x1,y1,x2,y2,x3,y3\na.jpg,30,1,2,3,4,5,6\n"})
        read(faces, tmp_path)
    with pytest.raises(AgedgeError, match="faces.csv: 2 of 4 genders are not 0 or 1, such as 2"):
        lay_out(tmp_path, {"faces.csv": "file,age,gender\n" + "a,30,1\nb,31,2\nc,32,1\nd,33,2\n"})
        read(faces, tmp_path)


POINTS = ((30, 40), (60, 40), (45, 60), (35, 75), (55, 75))


@pytest.mark.parametrize(
    "place, reason",
    [
        ({"box": (0.3, 0.15, 0.7, 0.55)}, "box not in pixels (shares?)"),
        ({"box": (0, 0, 1, 1)}, "box not in pixels (shares?)"),
        ({"box": (10, 10, 14, 15)}, "box of less than 8 pixels"),
        ({"box": (-50, -50, 9999, 9999)}, "box mostly outside the image"),
        ({"box": (80, 80, 180, 180)}, "box mostly outside the image"),
        ({"box": (200, 200, 300, 300)}, "face outside the image"),
        ({"corners": ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9))}, "square not in pixels (shares?)"),
        ({"landmarks": tuple((x / 100, y / 100) for x, y in POINTS)}, "landmarks not in pixels (shares?)"),
        ({"landmarks": tuple((x + 50, y + 50) for x, y in POINTS)}, "landmarks outside the image"),
        ({"box": (-10, -10, 60, 60)}, None),
        ({"landmarks": POINTS}, None),
    ],
)
def test_a_place_that_is_not_in_the_image_is_a_reason(tmp_path, place, reason):
    image = np.full((100, 100, 3), 90, np.uint8)
    row = Row("a", tmp_path, exact(0, 3), **place)
    face = crop_faces([image], [row], Preparation(align="set", crop=Crop.named("arcface", 112, 0.0)))[0]
    assert (face.method if face.image is None else None) == reason
