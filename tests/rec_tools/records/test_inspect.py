"""What inspect says of a .rec: every count, every fault, copies within and across files."""

import json
import os
import tracemalloc

import cv2
import numpy as np
import pytest

from agedge.crop import Crop
from agedge.labels import Label, exact
from agedge.records import RecordWriter
from rec_tools.records.plots import choose_faces, draw_faces, plot_ages, spread_ages
from rec_tools.records.scan import scan_file
from rec_tools.records.stored import read_labels
from rec_tools.records.summary import count_ages
from tests.rec_tools.small_records import draw_face, run, write_file


def inspect(path, *words):
    """The object that `inspect --json` writes."""
    target = path.with_suffix(".inspected")
    assert run("inspect", path, *words, "--json", target) == 0
    return json.loads(target.read_text())


def test_labels_sizes_and_ages_are_counted(tmp_path, capsys):
    labels = [
        exact(0, 4),
        exact(1, 9.5),
        exact(1, 34),
        Label(0, 20, 29),
        Label(1, 25, 32),
        Label(-1, 70, 120),
        Label(1),
    ]
    sizes = [32, 32, 32, 48, 48, 48, 64]
    records = [(label, draw_face(i, size)) for i, (label, size) in enumerate(zip(labels, sizes))]
    crop = Crop.named("utkface", 32).to_json()
    path = write_file(tmp_path / "a.rec", records, source="a set", crop=crop)
    (file,) = inspect(path)["files"]
    assert file["records"] == 7 and file["bytes"] == path.stat().st_size
    assert file["gender"] == {"female": 2, "male": 4, "unknown": 1}
    assert file["age"] == {"exact": 3, "interval": 3, "unknown": 1, "min": 4, "max": 120}
    assert {(one["width"], one["height"]): one["count"] for one in file["images"]["sizes"]} == {
        (32, 32): 3,
        (48, 48): 3,
        (64, 64): 1,
    }
    assert file["images"]["shorter_side"] == {"min": 32, "median": 48, "max": 64}
    assert [(one["age_min"], one["age_max"], one["count"]) for one in file["intervals"]] == [
        (20, 29, 1),
        (25, 32, 1),
        (70, 120, 1),
    ]
    histogram = {row["age"]: (row["female"], row["male"], row["unknown"]) for row in file["histogram"]}
    assert histogram["0-9"] == (1, 1, 0) and histogram["20-29"] == (1, 0, 0) and histogram["30-39"] == (0, 1, 0)
    assert histogram["25-32"] == (0, 1, 0) and histogram["70-120"] == (0, 0, 1) and histogram["unknown"] == (0, 1, 0)
    assert file["bad"] == {} and file["index"] == file["table"] == "right" and file["people"] == 7
    assert file["source"] == "a set" and file["crop"] == crop and file["damage"] is None
    said = capsys.readouterr().out
    assert "32x32 (3), 48x48 (3), 64x64 (1)" in said and "crop      utkface" in said and "25-32 (1)" in said


def test_a_histogram_counts_every_face_once():
    labels = np.array([[0, age, age] for age in range(121)] + [[1, -1, -1], [1, 8, 12], [1, 110, 120]], np.float32)
    rows = list(count_ages(labels))
    assert sum(row["female"] + row["male"] + row["unknown"] for row in rows) == len(labels)
    assert [row["age"] for row in rows][-3:] == ["110-120", "8-12", "unknown"]
    assert rows[11] == {"age": "110-120", "female": 11, "male": 1, "unknown": 0}
    assert spread_ages(labels[:121]).tolist() == [1] * 121
    assert spread_ages(labels[122:123])[7:14].tolist() == pytest.approx([0, 0.2, 0.2, 0.2, 0.2, 0.2, 0])


def test_bad_records_are_counted_and_named(tmp_path, capsys):
    path = tmp_path / "a.rec"
    good = draw_face(0)
    with RecordWriter(path) as writer:
        for i in range(30):
            writer.write(exact(0, i), good[:-200] if i == 4 else b"this is text" if i >= 14 else draw_face(i))
        writer.write_labels(np.array([3, 20, 20]), draw_face(30))
        writer.write_labels(np.array([1, 200, 200]), draw_face(31))
        writer.write_labels(np.array([1, 9999, 9999]), draw_face(32))  # how older tools say "unknown"
        writer.write_labels(np.array([1, 5]), draw_face(33))
        writer.write_record(b"short")
    file = inspect(path, "--report", tmp_path)["files"][0]
    assert file["bad"] == {
        "cut-off image": {"count": 1, "first": [4]},
        "not an image": {"count": 16, "first": list(range(14, 24))},
        "gender outside the contract": {"count": 1, "first": [30]},
        "age outside 0 to 120": {"count": 1, "first": [31]},
        "label not of 3 numbers": {"count": 1, "first": [33]},
        "not a labelled image": {"count": 1, "first": [34]},
    }
    assert file["images"]["count"] == 16 and file["records"] == 35
    assert "16 not an image: 14, 15, 16" in capsys.readouterr().out


def test_index_and_table_are_checked(tmp_path):
    path = write_file(tmp_path / "a.rec", [(exact(0, i), draw_face(i)) for i in range(4)])
    other = write_file(tmp_path / "b.rec", [(exact(0, i), draw_face(i)) for i in range(3)])
    path.with_suffix(".idx").unlink()
    path.with_suffix(".csv").write_bytes(other.with_suffix(".csv").read_bytes())
    file = inspect(path)["files"][0]
    assert file["index"] == "missing" and file["table"] == "3 rows for 4 records"
    path.with_suffix(".idx").write_bytes(other.with_suffix(".idx").read_bytes())
    text = other.with_suffix(".csv").read_text() + "3,c.jpg,1,3,3,,,,\n"
    path.with_suffix(".csv").write_text(text)
    file = inspect(path)["files"][0]
    assert "3 entries for 4 records" in file["index"] and file["table"] == "row 3: not the record's label"
    path.with_suffix(".csv").unlink()
    assert inspect(path)["files"][0]["table"] == "missing"


def test_copies_within_and_across_files(tmp_path, capsys):
    faces = [draw_face(i, 64) for i in range(6)]
    again = draw_face(2, 64, quality=60)
    train = write_file(tmp_path / "train.rec", [(exact(0, 10 + i), face) for i, face in enumerate([*faces, faces[0]])])
    val = write_file(tmp_path / "val.rec", [(exact(1, 50), draw_face(77, 64)), (exact(1, 40), again)])
    found = inspect(train, val)
    assert found["copies"]["identical"]["groups"] == 1 and found["copies"]["near"]["groups"] == 2
    assert found["copies"]["near"]["across_parts"] == 1 and found["copies"]["identical"]["age_conflicts"] == 1
    same, similar = found["copies"]["groups"]
    assert same["identical"] and [one["record"] for one in same["records"]] == [0, 6]
    assert not similar["identical"] and similar["conflicting_labels"]
    assert [(one["file"], one["record"], one["age_min"]) for one in similar["records"]] == [
        (str(train), 2, 12),
        (str(val), 1, 40),
    ]
    assert found["people_in_several_files"] == {"count": 2, "first": ["person 0", "person 1"]}
    said = capsys.readouterr().out
    assert "1 lie in several files" in said and f"{train} 2 (female, 12) = {val} 1 (male, 40)" in said


def test_the_number_of_threads_does_not_matter(tmp_path):
    path = write_file(tmp_path / "a.rec", [(exact(i % 2, i % 90), draw_face(i)) for i in range(300)])
    assert inspect(path, "--workers", 1) == inspect(path, "--workers", 3)


def test_a_damaged_file_is_surveyed_up_to_there_and_fails(tmp_path, capsys):
    path = write_file(tmp_path / "a.rec", [(exact(0, i), draw_face(i)) for i in range(9)])
    path.write_bytes(path.read_bytes()[:-40])
    assert run("inspect", path, "--report", tmp_path / "report") == 1
    streams = capsys.readouterr()
    assert "records   8" in streams.out and (tmp_path / "report/faces.png").is_file()
    assert "a.rec: truncated in record 8" in streams.err and "inspect --repair keeps" in streams.err
    assert len(streams.err.splitlines()) == 1


@pytest.mark.parametrize("words, status, says", [(["no.rec"], 1, "no.rec: missing"), (["a.rec", "a.rec"], 2, "twice")])
def test_wrong_usage(tmp_path, capsys, monkeypatch, words, status, says):
    monkeypatch.chdir(tmp_path)
    write_file(tmp_path / "a.rec", [(exact(0, 1), draw_face(1))])
    assert run("inspect", *words) == status and says in capsys.readouterr().err


def test_files_of_older_tools(tmp_path, capsys):
    with RecordWriter(tmp_path / "old.rec") as writer:
        for i in range(3):
            writer.write_labels(np.array([20 + i, 1]), draw_face(i))
    (tmp_path / "old.json").unlink()
    assert run("inspect", tmp_path / "old.rec") == 1 and "pass --labels" in capsys.readouterr().err
    file = inspect(tmp_path / "old.rec", "--labels", "age,gender")["files"][0]
    assert file["gender"]["male"] == 3 and (file["age"]["min"], file["age"]["max"]) == (20, 22)


def test_pictures_show_every_cell_and_do_not_depend_on_the_order(tmp_path):
    records = [(Label(i % 3 - 1, *([i % 90] * 2 if i % 10 else [-1, -1])), draw_face(i)) for i in range(200)]
    path = write_file(tmp_path / "a.rec", records)
    backwards = write_file(tmp_path / "b.rec", records[::-1])
    assert run("inspect", path, backwards, "--report", tmp_path / "report") == 0
    for name in ("histogram.png", "faces.png"):
        picture = cv2.imread(str(tmp_path / "report" / name))
        assert min(picture.shape[:2]) > 300 and picture.std() > 20
    # 10 columns of 3 genders, but nobody of unknown gender is 0 to 2
    one, other = choose_faces(scan_file(path)), choose_faces(scan_file(backwards))
    assert {place: [199 - number for number in faces] for place, faces in other.items()} == one
    assert len(one) == 29 and max(map(len, one.values())) == 3
    assert all(records[number][0].gender == gender for (gender, _), faces in one.items() for number in faces)


def test_pictures_of_a_file_without_one_image(tmp_path):
    path = write_file(tmp_path / "a.rec", [(Label(), b"text")])
    assert run("inspect", path, "--report", tmp_path / "report") == 0
    assert (tmp_path / "report/faces.png").is_file() and (tmp_path / "report/histogram.png").is_file()


def test_labels_are_read_without_keeping_the_records(tmp_path):
    path = write_file(tmp_path / "a.rec", [(exact(0, 30), bytes(100_000))] * 50)
    tracemalloc.start()
    labels = read_labels(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(labels) == 50 and most < 1_000_000


def test_pictures_of_a_file_whose_name_is_no_utf_8(tmp_path):
    seen = [scan_file(write_file(tmp_path / os.fsdecode(b"\xe9.rec"), [(exact(0, 30), draw_face(0))]))]
    plot_ages(seen, tmp_path / "ages.png")
    draw_faces(seen, tmp_path / "faces.png")
    assert (tmp_path / "ages.png").stat().st_size and (tmp_path / "faces.png").stat().st_size
