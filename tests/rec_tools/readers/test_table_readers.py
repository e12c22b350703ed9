"""Data sets that come as tables, in folders laid out as they are distributed, with the faults they are known for."""

import cv2
import numpy as np
import pytest

from agedge.errors import AgedgeError
from agedge.labels import Label, exact
from rec_tools.readers import adience, age_gender_csv, appa_real, faces, fairface, imdb_clean, megaage_asian
from tests.rec_tools.readers.table_folders import lay_out, read


@pytest.mark.parametrize("reader", [adience, age_gender_csv, appa_real, faces, fairface, imdb_clean, megaage_asian])
def test_an_empty_folder_is_named_and_so_are_the_terms(tmp_path, reader):
    with pytest.raises(AgedgeError, match=f"^{tmp_path}.*(none of|missing)"):
        list(reader.read(tmp_path))
    assert reader.SOURCE and reader.TERMS


@pytest.mark.parametrize("reader", [adience, appa_real, fairface, imdb_clean, megaage_asian])
def test_a_folder_that_is_not_there_is_called_so(tmp_path, reader):
    with pytest.raises(AgedgeError, match=f"^{tmp_path}/nowhere: no such folder$"):
        list(reader.read(tmp_path / "nowhere"))


# IMDB-Clean

IMDB_HEADER = "filename,age,gender,x_min,y_min,x_max,y_max,head_roll,head_yaw,head_pitch\n"
IMDB_IMAGE = "38/nm2679438_rm3695806976_1989-8-15_2009.jpg"


@pytest.mark.parametrize(
    "tables, images",
    [
        ("csvs/", "data/imdb-clean-1024/"),
        ("", "imdb-clean-1024/imdb-clean-1024/"),
        ("", "imdb-clean-1024/"),
        ("", ""),
        ("data/imdb-clean-1024/", "data/imdb-clean-1024/"),
    ],
)
def test_imdb_clean_in_the_layouts_that_it_comes_in(tmp_path, tables, images):
    files = {
        f"{tables}imdb_train_new_1024.csv": IMDB_HEADER + f"{IMDB_IMAGE},20,M,31,39,61,77,7.7,1.8,2.2\n",
        f"{tables}imdb_valid_new_1024.csv": IMDB_HEADER + "07/face.jpg,31,F,1.0,2.0,3.0,4.0,0,0,0\n",
        f"{tables}imdb_test_new_1024.csv": IMDB_HEADER
        + "38/nm0000248_a.jpg,9,M,5,5,5,9,0,0,0\n38/b.jpg,x,M,1,1,2,2,0,0,0\n",
        f"{images}{IMDB_IMAGE}": "",
    }
    rows, reasons = read(imdb_clean, lay_out(tmp_path, files))
    assert list(rows) == [IMDB_IMAGE, "07/face.jpg"]
    first, second = rows.values()
    assert first.image.is_file() and first.image == tmp_path / images / IMDB_IMAGE
    assert (first.label, first.identity, first.fold, first.box) == (
        exact(1, 20),
        "nm2679438",
        "train",
        (31, 39, 61, 77),
    )
    assert (second.label, second.identity, second.fold) == (exact(0, 31), None, "val")
    assert reasons == {"38/nm0000248_a.jpg": "box not understood", "38/b.jpg": "age not understood"}
    assert imdb_clean.ALIGN == "set"


def test_imdb_clean_without_images_says_where_it_looked(tmp_path):
    lay_out(tmp_path, {"csvs/imdb_train_new_1024.csv": IMDB_HEADER})
    with pytest.raises(AgedgeError, match="no folders 00, 01, ... in imdb-clean-1024, data/imdb-clean-1024"):
        read(imdb_clean, tmp_path)


# MegaAge-Asian


@pytest.mark.parametrize("place", ["", "megaage_asian/"])
def test_megaage_asian(tmp_path, place):
    files = {
        "list/train_name.txt": "1.jpg\r\n2.jpg\r\n\r\n4.jpg\r\n5.jpg\r\n",
        "list/train_age.txt": "0\r\n70\r\n8\r\n\r\nold\r\n\r\n",
        "list/test_name.txt": "1.jpg",
        "list/test_age.txt": "33",
    }
    rows, reasons = read(megaage_asian, lay_out(tmp_path, {place + path: text for path, text in files.items()}))
    assert {row.id: (row.fold, row.label) for row in rows.values()} == {
        "train/1.jpg": ("train", exact(-1, 0)),
        "train/2.jpg": ("train", exact(-1, 70)),
        "train/4.jpg": ("train", Label()),
        "test/1.jpg": ("test", exact(-1, 33)),
    }
    assert rows["test/1.jpg"].image == tmp_path / place / "test/1.jpg"
    assert reasons == {"train_name.txt, line 3": "row without a file", "train/5.jpg": "age not understood"}


def test_megaage_lists_that_do_not_match_are_both_named(tmp_path):
    lay_out(tmp_path, {"list/train_name.txt": "1.jpg\n2.jpg\n", "list/train_age.txt": "5\n"})
    with pytest.raises(AgedgeError, match="train_name.txt: 2 names, but 1 ages in .*train_age.txt"):
        read(megaage_asian, tmp_path)
    (tmp_path / "list/train_age.txt").unlink()
    with pytest.raises(AgedgeError, match="train_age.txt: missing"):
        read(megaage_asian, tmp_path)


# APPA-REAL

APPA_HEADER = "file_name,num_ratings,apparent_age_avg,apparent_age_std,real_age\n"


@pytest.mark.parametrize("place", ["", "appa-real-release/"])
def test_appa_real_with_either_age_and_image(tmp_path, place):
    files = {
        "gt_avg_train.csv": APPA_HEADER + "000000.jpg,36,5.05,2.8,4\n000001.jpg,29,20.1,3.1,\n",
        "gt_avg_valid.csv": APPA_HEADER + "004113.jpg,31,33.5,4.4,300\n",
        "gt_avg_test.csv": APPA_HEADER + "005613.jpg,30,60,5,58\n",
        "train/000000.jpg": "",
        "train/000000.jpg_face.jpg": "",
        "train/000001.jpg": "",
    }
    root = lay_out(tmp_path, {place + path: text for path, text in files.items()})
    rows, reasons = read(appa_real, root)
    assert {row.id: (row.fold, row.label, row.image.name) for row in rows.values()} == {
        "train/000000.jpg": ("train", exact(-1, 4), "000000.jpg_face.jpg"),
        "train/000001.jpg": ("train", Label(), "000001.jpg"),
        "test/005613.jpg": ("test", exact(-1, 58), "005613.jpg"),
    }
    assert reasons == {"valid/004113.jpg": "age not understood"}
    rows, reasons = read(appa_real, root, "age=apparent", "images=photo")
    assert [row.label.age_min for row in rows.values()] == [5.05, 20.1, 33.5, 60] and not reasons
    assert rows["valid/004113.jpg"].fold == "val"
    assert rows["train/000000.jpg"].image == tmp_path / place / "train/000000.jpg"


# age_gender.csv


def test_age_gender_csv_keeps_every_pixel_and_names_what_is_wrong(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)
    pixels = " ".join(map(str, image.ravel()))
    bad = {
        "few": pixels.rpartition(" ")[0],
        "bright": pixels.rpartition(" ")[0] + " 256",
        "none": "",
        "word": pixels + " x",
    }
    lines = [
        f"1,2,0,a.jpg,{pixels}",
        f"116,4,1,a.jpg,{pixels}",
        f"7,0,0,,{pixels}",
        f"200,0,0,old.jpg,{pixels}",
        f"5,0,3,odd.jpg,{pixels}",
    ]
    lines += [f"5,0,0,{name},{text}" for name, text in bad.items()]
    table = "\n".join(["age,ethnicity,gender,img_name,pixels", *lines])
    rows, reasons = read(age_gender_csv, lay_out(tmp_path, {"age_gender.csv": table}))
    assert {row.id: (row.label, row.race) for row in rows.values()} == {
        "a.jpg": (exact(1, 1), "Asian"),
        "a.jpg, line 3": (exact(0, 116), "Others"),
        "age_gender.csv, line 4": (exact(1, 7), "White"),
    }
    decoded = cv2.imdecode(np.frombuffer(rows["a.jpg"].image, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert (decoded == image).all()
    assert reasons == {
        "old.jpg": "age not understood",
        "odd.jpg": "gender not understood",
        **dict.fromkeys(bad, "pixels not understood"),
    }
