"""Bad input at packing: paths that leave the folder, images that are none or too large, rows twice, unreadable folders;
and what goes in unchanged."""

import csv
import json
import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from agedge.cli import run_command
from agedge.labels import Label, exact
from agedge.records import read_raw
from rec_tools.cli import app
from rec_tools.formats import image_folder as folder_module
from rec_tools.formats.image_folder import is_inside, list_images
from rec_tools.packing import prepare
from rec_tools.packing.crop_faces import WHOLE
from rec_tools.packing.options import Preparation
from rec_tools.packing.pack import filter_rows, pack
from rec_tools.packing.prepare import UNCHANGED, prepare_all
from rec_tools.packing.split import SplitScheme
from rec_tools.rows import Dropped, Row

rng = np.random.default_rng(0)


def write_image(path, height=40, width=40, ext=".jpg", quality=90):
    image = cv2.resize(rng.integers(0, 255, (5, 5, 3), np.uint8), (width, height))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(ext, image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
    return path


def write_csv(path, lines, newline="\n", separator=",", encoding="utf-8"):
    path.write_bytes(newline.join(line.replace(",", separator) for line in lines).encode(encoding))


def run(*words):
    with pytest.raises(SystemExit) as ended:
        run_command(app, [str(word) for word in words])
    return ended.value.code


def dropped_of(out):
    with open(out / "dropped.csv", newline="", encoding="utf-8") as file:
        return {row["id"]: (row["reason"], row["detail"]) for row in csv.DictReader(file)}


def test_paths_that_leave_the_folder_are_refused_and_counted(tmp_path):
    root, out = tmp_path / "set", tmp_path / "out"
    outside = write_image(tmp_path / "secret.jpg")
    write_image(root / "a.jpg")
    write_image(root / "sub/b.jpg")
    (root / "link.jpg").symlink_to(outside)
    (root / "sub/inner.jpg").symlink_to(root / "a.jpg")
    (root / "away").symlink_to(tmp_path)
    write_image(tmp_path / "set2/c.jpg")  # a neighbour whose name begins alike
    names = ["a.jpg", "../secret.jpg", str(outside), "link.jpg", "away/secret.jpg", "sub/../sub/b.jpg"]
    names += ["sub/inner.jpg", "../set2/c.jpg", str(root / "a.jpg"), "..", "sub/../../secret.jpg"]
    write_csv(root / "faces.csv", ["file,age", *(f"{name},30" for name in names)])
    assert run("pack", "faces", "--root", root, "--out", out, "--workers", 0) == 0
    left = {name for name, (reason, _) in dropped_of(out).items() if reason == "path leaves the folder"}
    bad = {"../secret.jpg", str(outside), "link.jpg", "away/secret.jpg", "../set2/c.jpg", "..", "sub/../../secret.jpg"}
    assert left == bad and len(dropped_of(out)) == len(bad)
    assert json.loads((out / "all.json").read_text())["dropped"] == {"path leaves the folder": len(bad)}


def test_inside_is_decided_by_where_links_lead(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "real")  # the root itself may be a link
    write_image(tmp_path / "real/a.jpg")
    assert is_inside(tmp_path / "root/a.jpg", tmp_path / "root") and is_inside(
        tmp_path / "real/a.jpg", tmp_path / "root"
    )
    assert not is_inside(tmp_path / "root", tmp_path / "root") and not is_inside(tmp_path / "b.jpg", tmp_path / "root")
    monkeypatch.chdir(tmp_path)
    assert is_inside("real/a.jpg", "real") and is_inside(Path("real/../real/a.jpg"), "real")


def test_images_that_are_none_or_too_large(tmp_path, capsys):
    root, out = tmp_path / "set", tmp_path / "out"
    write_image(root / "good.jpg", 40, 50)
    write_image(root / "large.jpg", 300, 400)
    (root / "empty.jpg").write_bytes(b"")
    (root / "text.jpg").write_text("no image")
    (root / "cut.jpg").write_bytes((root / "good.jpg").read_bytes()[:-100])
    header = struct.pack(">IIBBBBB", 20000, 10000, 8, 2, 0, 0, 0)
    (root / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + header + bytes(4) + b"IEND")
    (root / "folder.jpg").mkdir()
    os.mkfifo(root / "pipe.jpg")
    with open(root / "huge.jpg", "wb") as file:
        file.truncate(50_000_000_000)  # a file of no blocks
    names = ["good", "large", "empty", "text", "cut", "folder", "pipe", "huge", "missing"]
    write_csv(root / "faces.csv", ["file,age", *(f"{name}.jpg,30" for name in names), "bomb.png,30"])
    assert run("pack", "faces", "--root", root, "--out", out, "--workers", 1, "--max-megapixels", 0.1) == 0
    dropped = dropped_of(out)
    assert dropped.pop("missing.jpg")[0] == "image missing"
    assert {reason for reason, _ in dropped.values()} == {"image not readable"} and len(dropped) == 8
    assert "empty" in dropped["empty.jpg"][1] and "truncated" in dropped["cut.jpg"][1]
    assert dropped["large.jpg"][1] == "400x300 pixels, more than 0.1 million"
    assert dropped["bomb.png"][1] == "20000x10000 pixels, more than 0.1 million"
    assert dropped["folder.jpg"][1] == dropped["pipe.jpg"][1] == "not a file" and "text file" in dropped["text.jpg"][1]
    capsys.readouterr()
    assert run("pack", "faces", "--root", root, "--out", out, "--workers", 0) == 0  # the limit as it is: 100 million
    assert set(dropped_of(out)) == {*dropped, "missing.jpg"} - {"large.jpg"}
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "packed    all.rec (2)" and "image not readable (7), image missing (1); see" in said[2]


def test_rows_twice_and_rows_that_say_nothing():
    rows = [Row(name, Path(name), label) for name, label in (("a", exact(0, 1)), ("b", Label()), ("a", exact(1, 2)))]
    one, two, three = filter_rows([*rows, Dropped("a", "other")][:3])
    assert (
        one is rows[0]
        and two.reason == "neither age nor gender known"
        and three.reason == "listed twice with other labels"
    )
    assert list(filter_rows([rows[0], rows[0]]))[1] == Dropped("a", "listed twice")
    kept = list(filter_rows([*rows, rows[0]], keep_conflicts=True))
    assert kept[2].label == exact(1, 2) and kept[2].id != "a" and kept[3] == Dropped("a", "listed twice")
    assert [row.reason for row in filter_rows([Dropped("a", "other"), Dropped("a", "other")])] == ["other", "other"]


@pytest.mark.parametrize(
    "newline, separator, encoding", [("\r\n", ";", "utf-8-sig"), ("\n", "\t", "utf-8"), ("\r\n", ",", "utf-8")]
)
def test_tables_as_spreadsheets_write_them(tmp_path, newline, separator, encoding):
    for name in "abc":
        write_image(tmp_path / f"{name}é.jpg")
    write_csv(
        tmp_path / "faces.csv",
        ["File,Age,Gender", "aé.jpg,3,f", "bé.jpg,20-29,M", "", "cé.jpg,,"],
        newline,
        separator,
        encoding,
    )
    assert run("pack", "faces", "--root", tmp_path, "--out", tmp_path / "out", "--workers", 0) == 0
    assert [label.tolist() for label, _ in read_raw(tmp_path / "out/all.rec")] == [[0, 3, 3], [1, 20, 29]]
    assert dropped_of(tmp_path / "out") == {"cé.jpg": ("neither age nor gender known", "")}


def test_a_folder_that_cannot_be_read_is_named_and_the_others_are_listed(tmp_path, monkeypatch):
    for name in ("1/a.jpg", "2/b.jpg", "3/c.jpg", ".hidden.jpg", "note.txt"):
        write_image(tmp_path / name, ext=".jpg")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("/2"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(folder_module.os, "scandir", scandir)
    assert list(list_images(tmp_path)) == [
        "1/a.jpg",
        Dropped("2", "folder not readable", "Permission denied"),
        "3/c.jpg",
    ]


def test_a_jpeg_of_the_right_size_goes_in_as_it_is(tmp_path):
    square = write_image(tmp_path / "square.jpg", 48, 48, quality=60)
    wide = write_image(tmp_path / "wide.jpg", 48, 60, quality=60)
    png = write_image(tmp_path / "png.png", 48, 48, ".png")
    rows = [Row(path.name, path, exact(0, 1)) for path in (square, wide, png)]
    for size, methods in ((48, [UNCHANGED, WHOLE, WHOLE]), (0, [UNCHANGED, UNCHANGED, WHOLE]), (32, [WHOLE] * 3)):
        prepared = prepare_all(rows, Preparation(size=size))
        assert [face.method for face in prepared] == methods
        assert [face.jpeg == row.image.read_bytes() for face, row in zip(prepared, rows)] == [
            way == UNCHANGED for way in methods
        ]
        sizes = [cv2.imdecode(np.frombuffer(face.jpeg, np.uint8), 1).shape[:2] for face in prepared]
        assert sizes == [(size, size)] * 3 if size else [(48, 48), (48, 60), (48, 48)]
    turned = square.read_bytes()
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + bytes(4)
    (tmp_path / "turned.jpg").write_bytes(
        turned[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + turned[2:]
    )
    (face,) = prepare_all([Row("t", tmp_path / "turned.jpg", exact(0, 1))], Preparation(size=48))
    assert face.method == WHOLE  # turned upright, so encoded again


def test_an_image_too_wide_for_a_jpeg_drops_its_row(tmp_path):
    rows = [Row("a", write_image(tmp_path / "a.png", 4, 70000, ".png"), exact(0, 1))]
    (dropped,) = prepare_all(rows, Preparation(size=0))
    assert dropped.reason == "image not usable" and dropped.detail == "70000x4: too large for a JPEG"


def test_an_image_that_opencv_fails_at_drops_its_row_alone(tmp_path, monkeypatch):
    def crop_faces(images, rows, preparation):
        if any(image.shape[0] == 13 for image in images):
            cv2.resize(images[0], (0, 0))
        return real(images, rows, preparation)

    real = prepare.crop_faces
    monkeypatch.setattr(prepare, "crop_faces", crop_faces)
    rows = [Row(str(side), write_image(tmp_path / f"{side}.jpg", side), exact(0, 1)) for side in (12, 13, 14)]
    one, two, three = prepare.prepare_all(rows, Preparation(size=16))
    assert one.method == three.method == WHOLE and two.reason == "image not usable" and "resize" in two.detail


def test_an_image_may_come_as_bytes(tmp_path):
    content = write_image(tmp_path / "a.png", 30, 30, ".png").read_bytes()
    rows = [Row("a", content, exact(0, 1)), Row("b", b"", exact(0, 1))]
    report = pack(rows, tmp_path / "out", SplitScheme.parse(""), Preparation(size=16), source="", terms="")
    assert report.packed == {"all": 1} and report.reasons == {"image not readable": 1}


@pytest.mark.parametrize(
    "words, says",
    [
        (["--shard", "2/2"], "shard '2/2': write it as I/N"),
        (["--shard", "0/2", "--split", "a=0.5,b=0.5"], "pack the shards, merge them, then split"),
        (["--shard", "0/2", "--drop", "conflicts"], "pack the shards, merge them, then split"),
        (["--faces", "largest"], "choose one of nearest, central, drop"),
        (["--drop", "all"], "choose one of duplicates, conflicts"),
        (["--folds", "0"], "a number from 2 to 100"),
        (["years=3"], "unknown option 'years=3'; its options are table, as key=value"),
        (["--size", "0", "--align", "mtcnn"], "size 0 leaves images as they are"),
    ],
)
def test_wrong_usage(tmp_path, capsys, words, says):
    write_csv(tmp_path / "faces.csv", ["file,age", "a.jpg,3"])
    assert run("pack", "faces", "--root", tmp_path, "--out", tmp_path / "out", *words) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and says in error[0] and not (tmp_path / "out").exists()
