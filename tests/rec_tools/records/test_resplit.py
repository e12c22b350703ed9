"""Splitting a finished .rec by its command: persons and copies on one side, copies dropped, nothing lost."""

import csv
import json

import cv2
import numpy as np
import pytest

from agedge.cli import run_command
from agedge.labels import exact
from agedge.records import RecordWriter, check_index, read_raw
from rec_tools.cli import app


def run(*words):
    with pytest.raises(SystemExit) as ended:
        run_command(app, [str(word) for word in words])
    return ended.value.code


def encode(image, quality=95):
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


@pytest.fixture
def packed(tmp_path):
    """90 faces of 30 persons; 9 more are of the same photographs, of nobody known, three of another age."""
    rng, images = np.random.default_rng(0), []
    with RecordWriter(tmp_path / "all.rec") as writer:
        for i in range(90):
            images.append(cv2.resize(rng.integers(0, 255, (24, 24, 3), np.uint8), (64, 64)))
            landmarks = np.full((5, 2), i) if i % 2 else None
            writer.write(
                exact(i % 2, i), encode(images[-1]), file=f"{i}.jpg", identity=f"p{i // 3}", landmarks=landmarks
            )
        for i in range(9):
            writer.write(exact(i % 2, i + 50 * (i < 3)), encode(images[i], 60), file=f"copy {i}.jpg")
        writer.info = {"source": "noise", "terms": "none", "dropped": {"old": 3}}
    return tmp_path / "all.rec"


def rows_of(path):
    with open(path.with_suffix(".csv"), newline="") as file:
        return list(csv.DictReader(file))


def test_persons_and_copies_stay_together_and_nothing_is_lost(packed, tmp_path, capsys):
    assert run("split", packed, "--out", tmp_path / "out", "--split", "train=0.6,val=0.4", "--workers", 2) == 0
    assert "9 groups of images that look the same (9 rows too many; ages differ in 3, " in capsys.readouterr().out
    side, records = {}, set()
    for part in ("train", "val"):
        path = tmp_path / f"out/{part}.rec"
        assert check_index(path) == len(rows_of(path)) > 9
        for row, (label, jpeg) in zip(rows_of(path), read_raw(path)):
            assert float(row["age_min"]) == label[1]
            side[row["file"]] = part
            records.add((jpeg, *label))
        info = json.loads(path.with_suffix(".json").read_text())
        assert info["source"] == "noise" and info["split"]["shares"] == {"train": 0.6, "val": 0.4}
        assert info["count"] == len(rows_of(path)) and "dropped" not in info
    assert records == {(jpeg, *label) for label, jpeg in read_raw(packed)}
    assert all(side[f"{i}.jpg"] == side[f"{i - i % 3}.jpg"] for i in range(90))
    assert all(side[f"copy {i}.jpg"] == side[f"{i}.jpg"] for i in range(9))
    assert sorted(row["landmarks"] for row in rows_of(packed)) == sorted(
        row["landmarks"] for part in ("train", "val") for row in rows_of(tmp_path / f"out/{part}.rec")
    )


def test_copies_are_dropped_with_their_reasons(packed, tmp_path, capsys):
    words = ("--folds", 3, "--drop", "duplicates,conflicts", "--workers", 1)
    assert run("split", packed, "--out", tmp_path / "out", *words) == 0
    assert "dropped   copies with different labels (6), copy of an image (6); see" in capsys.readouterr().out
    with open(tmp_path / "out/dropped.csv", newline="") as file:
        dropped = {row["id"]: row["detail"] for row in csv.DictReader(file)}
    assert dropped["copy 5.jpg"] == "of 5.jpg" and dropped["copy 0.jpg"] == "of 0.jpg" and "0.jpg" in dropped
    assert sum(len(rows_of(tmp_path / f"out/fold{fold}.rec")) for fold in range(3)) == 87


def test_one_fold_a_person(packed, tmp_path):
    assert run("split", packed, "--out", tmp_path / "out", "--folds", "persons") == 0
    assert [row["identity"] for row in rows_of(tmp_path / "out/fold1.rec")] == ["p1"] * 3
    assert len(list((tmp_path / "out").glob("fold*.rec"))) == 30


def test_what_was_made_of_a_pack_is_no_part_of_it(packed, tmp_path, capsys):
    """A sample beside its source, and then a pack or split that replaces the sample: the source stays."""
    assert run("split", packed, "--out", tmp_path, "--split", "train=0.6,val=0.4") == 0
    val, train = (tmp_path / "val.rec").read_bytes(), (tmp_path / "train.rec").read_bytes()
    assert run("sample", tmp_path / "train.rec", "--out", tmp_path / "few.rec", "--faces", 9) == 0
    assert run("convert", tmp_path / "val.rec", "--out", tmp_path / "small.rec", "--size", 32) == 0
    assert "packed" not in json.loads((tmp_path / "few.json").read_text())
    assert run("split", packed, "--out", tmp_path, "--split", "few=0.5,small=0.5") == 0
    assert (tmp_path / "val.rec").read_bytes() == val and (tmp_path / "train.rec").read_bytes() == train
    # Its own split's other part is not to be split into the same folder: it would go with the part that is replaced.
    capsys.readouterr()
    assert run("split", tmp_path / "train.rec", "--out", tmp_path, "--split", "val=0.5,more=0.5") == 1
    assert "train.rec: would be replaced by one of its splits" in capsys.readouterr().err
    assert (tmp_path / "train.rec").read_bytes() == train


@pytest.mark.parametrize(
    "words, status, says",
    [
        (("all.rec", "--out", "."), 1, "all.rec: would be replaced by one of its splits; give another folder"),
        (("no.rec", "--out", "out"), 1, "no.rec: missing"),
        (("all.csv", "--out", "out"), 1, "all.csv: "),
        (("all.rec", "--out", "out", "--split", "a=2"), 2, "the shares must be positive and add up to 1"),
    ],
)
def test_what_cannot_be_split(packed, tmp_path, capsys, monkeypatch, words, status, says):
    monkeypatch.chdir(tmp_path)
    before = packed.read_bytes()
    assert run("split", *words) == status
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and says in error[0] and packed.read_bytes() == before and not (tmp_path / "out").exists()
