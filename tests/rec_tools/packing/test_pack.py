"""From a folder of faces to .rec files: the same whatever the workers, every fault counted and named."""

import csv
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from agedge.cli import run_command
from agedge.crop import Crop
from agedge.faces.align import resize_square
from agedge.labels import exact
from agedge.records import check_index, read_crop, read_records
from rec_tools.cli import app
from rec_tools.packing.options import Preparation
from rec_tools.packing.pack import pack
from rec_tools.packing.prepare import prepare_all
from rec_tools.packing.split import SplitScheme
from rec_tools.rows import Dropped, Row
from tests.paths import SHARED


def write_utkface(folder, count=90):
    """A folder in UTKFace's layout: smooth noise, every tenth image a copy of the one before with another age."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        if i % 10 != 9:
            image = cv2.resize(rng.integers(0, 255, (8, 8, 3), np.uint8), (200, 200))
            content = cv2.imencode(".jpg", image)[1].tobytes()
        (folder / f"{1 + i}_{i % 2}_{i % 5}_201701{i:011d}.jpg.chip.jpg").write_bytes(content)
    return folder


def run(*words):
    """The status of `python -m rec_tools WORDS`."""
    with pytest.raises(SystemExit) as ended:
        run_command(app, [str(word) for word in words])
    return ended.value.code


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_output_is_the_same_for_any_number_of_workers(tmp_path):
    root = write_utkface(tmp_path / "UTKFace")
    for workers in (0, 1, 3):
        words = ("pack", "utkface", "--root", root, "--out", tmp_path / f"w{workers}", "--split", "train=0.7,val=0.3")
        assert run(*words, "--size", 32, "--workers", workers) == 0
    assert contents(tmp_path / "w0") == contents(tmp_path / "w1") == contents(tmp_path / "w3")


def test_every_row_is_packed_once_and_copies_stay_together(tmp_path, capsys):
    root = write_utkface(tmp_path / "UTKFace")
    out = tmp_path / "out"
    assert run("pack", "utkface", "--root", root, "--out", out, "--split", "train=0.7,val=0.3", "--workers", 0) == 0
    said = capsys.readouterr().out
    assert "9 groups of identical files (9 rows too many; ages differ in 9, genders in 9; 0 across splits)" in said
    sides = {}
    for part in ("train", "val"):
        check_index(out / f"{part}.rec")
        with open(out / f"{part}.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        for row, record in zip(rows, read_records(out / f"{part}.rec")):
            age = int(row["file"].split("_")[0])
            assert record.label[1:].tolist() == [age, age] and row["age_min"] == str(age)
            sides[age] = part
    assert len(sides) == 90 and len(set(sides.values())) == 2
    assert all(sides[age] == sides[age + 1] for age in range(9, 90, 10))
    info = json.loads((out / "train.json").read_text())
    assert info["source"].startswith("UTKFace") and info["packed"] == {
        "train": info["count"],
        "val": 90 - info["count"],
    }
    assert read_crop(out / "train.rec").same_as(Crop.named("utkface", 112))


def test_persons_who_share_an_image_stay_on_one_side(tmp_path):
    picture = cv2.imencode(".jpg", np.full((40, 40, 3), 99, np.uint8))[1].tobytes()
    rows = []
    for i in range(30):
        (tmp_path / f"{i}.jpg").write_bytes(picture)
        rows.append(Row(f"{i}.jpg", tmp_path / f"{i}.jpg", exact(0, 9), identity=f"person {i}"))
    report = pack(rows, tmp_path / "out", SplitScheme.parse("a=0.5,b=0.5"), Preparation(size=32), source="", terms="")
    assert sorted(report.packed.values()) == [30] and not report.reasons


def test_gender_of_utkface_is_turned_to_the_contract(tmp_path):
    write_utkface(tmp_path / "UTKFace", 2)
    run("pack", "utkface", "--root", tmp_path / "UTKFace", "--out", tmp_path / "out", "--workers", 0)
    assert [record.label[0] for record in read_records(tmp_path / "out/all.rec")] == [1, 0]


def test_bad_images_are_counted_and_named_and_the_rest_is_packed(tmp_path, capsys):
    root = write_utkface(tmp_path / "UTKFace", 20)
    good = next(root.iterdir()).read_bytes()
    (root / "50_0_0_20170101.jpg.chip.jpg").write_text("a text file")
    (root / "51_0_0_20170101.jpg.chip.jpg").write_bytes(b"")
    (root / "52_0_0_20170101.jpg.chip.jpg").write_bytes(good[: len(good) // 2])
    (root / "130_0_0_20170101.jpg.chip.jpg").write_bytes(good)
    (root / "face.jpg.chip.jpg").write_bytes(good)
    (root / os.fsdecode(b"40_0_0_2017\xff.jpg.chip.jpg")).write_bytes(good)  # a name that is not UTF-8
    assert run("pack", "utkface", "--root", root, "--out", tmp_path / "out", "--workers", 1) == 0
    assert "all.rec (21)" in capsys.readouterr().out
    with open(tmp_path / "out/dropped.csv", newline="") as file:
        dropped = {row["id"].split("_")[0]: (row["reason"], row["detail"]) for row in csv.DictReader(file)}
    assert dropped["50"][0] == dropped["51"][0] == dropped["52"][0] == "image not readable"
    assert "empty" in dropped["51"][1] and "truncated" in dropped["52"][1]
    assert dropped["130"][0] == "age outside 0 to 120" and dropped["face.jpg.chip.jpg"][0] == "name without an age"
    assert json.loads((tmp_path / "out/all.json").read_text())["dropped"]["image not readable"] == 3


def test_a_pack_of_nothing_fails_and_leaves_no_record_file(tmp_path, capsys):
    root = write_utkface(tmp_path / "UTKFace", 1)
    next(root.iterdir()).write_text("a text file")
    assert run("pack", "utkface", "--root", root, "--out", tmp_path / "out", "--workers", 0) == 1
    assert "nothing packed: image not readable (1)" in capsys.readouterr().err
    assert not [path for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")]


@pytest.mark.parametrize(
    "words, status, says",
    [
        (["utkfaces"], 2, "unknown 'utkfaces'; choose one of adience, afad, "),
        (["utkface", "--align", "dlib"], 2, "choose one of none, set, mtcnn, essh"),
        (["utkface", "--split", "train=0.9"], 2, "add up to 1"),
        (["utkface", "--split", "most"], 2, "write it as train=0.9,val=0.1"),
        (["utkface", "--align", "mtcnn", "--crop", "tight"], 2, "choose one of arcface, utkface"),
        (["utkface", "--crop", "arcface"], 2, "--align none takes the whole image; use --align mtcnn or set"),
        (["utkface", "--split", "dropped=0.5,val=0.5"], 2, "write it as train=0.9,val=0.1"),
        (["utkface", "--folds", "²"], 2, "a number from 2 to 100"),
        (["utkface", "--split", "../x=1"], 2, "write it as train=0.9,val=0.1"),
        (["utkface", "--split", "a=0.5,a=0.5"], 2, "write it as train=0.9,val=0.1"),
        (["utkface", "--split", "a=nan,b=0.5"], 2, "add up to 1"),
        (["utkface"], 1, "no UTKFace images in it"),
        (["faces"], 1, "faces.csv: missing"),
        (["imdb_wiki"], 1, ".mat"),
    ],
)
def test_wrong_usage_and_empty_folders(tmp_path, capsys, words, status, says):
    (tmp_path / "empty").mkdir()
    assert run("pack", *words, "--root", tmp_path / "empty", "--out", tmp_path / "out", "--workers", 0) == status
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and says in error[0]


def test_names_of_utkface_that_lack_a_field():
    from rec_tools.readers.utkface import read_name

    assert read_name(Path("39_1_20170116174525125.jpg.chip.jpg")).label == exact(-1, 39)
    assert read_name(Path("14_0_0_2017011022340900.jpg.chip.jpg")).label == exact(1, 14)
    assert read_name(Path("24_0_1_20170116220224657 .jpg.chip.jpg")).race == "Black"
    assert read_name(Path("55_1_0_20170116232725357jpg.chip.jpg")).label == exact(0, 55)
    assert isinstance(read_name(Path("face.jpg")), Dropped)


def test_a_missing_image_is_a_reason():
    (dropped,) = prepare_all([Row("a", Path("no/such.jpg"), exact(0, 1))], Preparation())
    assert dropped.reason == "image missing"


def test_the_central_square_is_what_is_kept():
    image = np.zeros((60, 100, 3), np.uint8)
    image[:, 20:80] = 255
    assert resize_square(image, 60).min() == 255 and resize_square(image, 16).shape == (16, 16, 3)


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="the development faces are not on this machine")
def test_real_utkface_names_and_copies(tmp_path):
    import tarfile

    with tarfile.open(SHARED / "data/utkface_dev.tar.gz") as archive:
        members = [
            m for m in archive if m.name.endswith(".jpg") and m.name.split("/")[-1].startswith(("26_0_", "39_1_2"))
        ]
        archive.extractall(tmp_path, members)
    root = tmp_path / "UTKFace"
    assert run("pack", "utkface", "--root", root, "--out", tmp_path / "out", "--split", "train=0.5,val=0.5") == 0
    packed = sum(1 for part in ("train", "val") for _ in read_records(tmp_path / f"out/{part}.rec"))
    assert packed == len(list(root.iterdir())) > 300
    info = json.loads((tmp_path / "out/train.json").read_text())
    assert info["dropped"] == {} and info["copies"]["identical"]["groups"] >= 1
