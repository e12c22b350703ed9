"""merge, convert, sample: every record carried over with its row, nothing half-written, nothing invented."""

import csv
import json
from collections import Counter

import cv2
import numpy as np
import pytest

from agedge.crop import Crop
from agedge.labels import Label, exact
from agedge.records import RecordWriter, check_index, decode, read_crop, read_info, read_raw, read_records
from rec_tools.packing.options import Preparation
from rec_tools.packing.pack import pack, take_shard
from rec_tools.packing.split import SplitScheme
from rec_tools.records.stored import read_stored
from rec_tools.records.transform import choose, convert, join_texts
from rec_tools.rows import Row
from tests.rec_tools.small_records import draw_face, run, write_file

UTKFACE, ARCFACE = (Crop.named(name, 64) for name in ("utkface", "arcface"))


def draw_points(points, size=64):
    """A JPEG with a white disc at each of (n, 2) points."""
    image = np.zeros((size, size, 3), np.uint8)
    for point in points:
        cv2.circle(image, tuple(int(round(v * 16)) for v in point), 32, (255, 255, 255), -1, cv2.LINE_AA, 4)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def brightness_at(image, points):
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return [int(grey[y, x]) for x, y in np.asarray(points).round().astype(int)]


def write_old(path, rows, layout_json=None):
    """A file of an older tool: two numbers a record."""
    with RecordWriter(path) as writer:
        for i, numbers in enumerate(rows):
            writer.write_labels(np.array(numbers), draw_face(i))
        writer.info = {"labels": layout_json} if layout_json else {}
    path.with_suffix(".csv").unlink()
    if not layout_json:
        path.with_suffix(".json").unlink()
    return path


def files_of(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()}


def jpegs(path, labels="auto"):
    return [jpeg for _, jpeg in read_raw(path, labels)]


def test_merged_shards_are_the_pack_that_was_not_sharded(tmp_path, monkeypatch):
    monkeypatch.setattr("rec_tools.packing.pack.CHUNK", 16)  # shards are whole chunks
    rows = []
    for i in range(150):
        (tmp_path / f"{i:03}.jpg").write_bytes(draw_face(i, 40))
        points = tuple((8.0 + i / 7 + k, 9.0 + 3 * k * k) for k in range(5))
        label = Label(i % 3 - 1, i % 60, i % 60 + 5) if i % 2 else exact(i % 2, i % 60 + 0.1)
        more = {"identity": f"Ünal, {i}", "race": 'say "x"', "landmarks": points}
        rows.append(Row(f"{i:03}.jpg", tmp_path / f"{i:03}.jpg", label, **more if i % 3 else {}))
    options = {"split": SplitScheme.parse(""), "preparation": Preparation(size=32), "source": "a set", "terms": "free"}
    pack(rows, tmp_path / "one", **options)
    for shard in range(3):
        shard_rows = take_shard(lambda: iter(rows), shard, 3)
        pack(shard_rows, tmp_path / "three", suffix=f"-{shard}of3", **options)
    shards = [tmp_path / f"three/all-{shard}of3.rec" for shard in range(3)]
    assert run("merge", *shards, "--out", tmp_path / "three/all.rec") == 0
    for ext in ("rec", "idx", "csv"):
        assert (tmp_path / f"three/all.{ext}").read_bytes() == (tmp_path / f"one/all.{ext}").read_bytes(), ext
    one, merged = read_info(tmp_path / "one/all.rec"), read_info(tmp_path / "three/all.rec")
    assert all(merged[key] == one[key] for key in ("labels", "count", "source", "terms", "size", "align", "crop"))
    assert merged["merged"] == [path.name for path in shards] and sum(merged["merged_counts"]) == 150


def test_layouts_are_converted_and_sources_joined(tmp_path, caplog):
    old = write_old(tmp_path / "old.rec", [[30, 1], [9999, 0], [200, 5]])
    crop = UTKFACE.to_json()
    new = write_file(tmp_path / "new.rec", [(Label(0, 20, 29), draw_face(9))], source="B", terms="y", crop=crop)
    more = write_file(tmp_path / "more.rec", [(exact(1, 7), draw_face(8))], source="A; B", terms="y", crop=crop)
    out = tmp_path / "all.rec"
    assert run("merge", old, new, more, "--out", out, "--labels", "age,gender") == 0
    expected = [[1, 30, 30], [0, -1, -1], [-1, -1, -1], [0, 20, 29], [1, 7, 7]]
    assert [label.tolist() for label, _ in read_raw(out)] == expected and check_index(out) == 5
    assert jpegs(out) == jpegs(old, "age,gender") + jpegs(new) + jpegs(more)
    assert [stored.file for stored in read_stored(out)] == ["", "", "", "new-0.jpg", "more-0.jpg"]
    info = read_info(out)
    assert info["source"] == "A; B" and info["terms"] == "y" and info["crop"] is None
    assert "its crop differs from that of" in caplog.text
    assert "old.rec: 1 labels are not valid and count as unknown: records 2" in caplog.text
    assert run("merge", new, more, "--out", out) == 0 and read_crop(out).same_as(UTKFACE)


def test_texts_are_joined_without_repeating_one():
    assert join_texts(["A", None, "B; C", "A", "C", ""]) == "A; B; C"


@pytest.mark.parametrize(
    "words, status, says",
    [
        (["a.rec", "no.rec", "--out", "c.rec"], 1, "no.rec: missing"),
        (["a.rec", "cut.rec", "--out", "c.rec"], 1, "cut.rec: truncated in record 2"),
        (["a.rec", "text.rec", "--out", "c.rec"], 1, "text.rec: damaged"),
        (["a.rec", "b.rec", "--out", "a.rec"], 2, "a.rec: is an input"),
        (["a.rec", "b.rec", "--out", "link.rec"], 2, "link.rec: is an input"),
        (["a.rec", "a.rec", "--out", "c.rec"], 2, "a.rec: given twice"),
        (["a.rec", "b.rec", "--out", "c.txt"], 2, "must end in .rec"),
        (["a.rec", "b.rec", "--out", "folder.rec"], 2, "folder.rec: is a folder"),
    ],
)
def test_a_merge_that_cannot_be_writes_nothing(tmp_path, capsys, monkeypatch, words, status, says):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "cut"):
        path = write_file(tmp_path / f"{name}.rec", [(exact(0, i), draw_face(i)) for i in range(3)])
    path.write_bytes(path.read_bytes()[:-9])
    (tmp_path / "text.rec").write_text("no record file")
    (tmp_path / "link.rec").symlink_to("b.rec")
    (tmp_path / "folder.rec").mkdir()
    before = files_of(tmp_path)
    assert run("merge", *words) == status and files_of(tmp_path) == before
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and says in error[0]


def test_a_full_disk_is_one_line_that_names_the_file(tmp_path, capsys):
    path = write_file(tmp_path / "a.rec", [(exact(0, i), draw_face(i)) for i in range(3)])
    for ext in ("rec", "json"):
        (tmp_path / f"b.{ext}.partial").symlink_to("/dev/full")
        assert run("merge", path, "--out", tmp_path / "b.rec") == 1
        assert capsys.readouterr().err == f"error: {tmp_path}/b.{ext}: No space left on device\n"
        assert not list(tmp_path.glob("b.*"))


@pytest.mark.parametrize("spoil", ["shorter", "other labels", "other ids", "no table", "landmarks"])
def test_a_table_of_another_file_is_left_aside(tmp_path, caplog, spoil):
    path = write_file(tmp_path / "a.rec", [(exact(0, i), draw_face(i)) for i in range(3)])
    table = path.with_suffix(".csv")
    lines = table.read_text().splitlines()
    table.write_text(
        {
            "shorter": "\n".join(lines[:3]),
            "other labels": "\n".join(lines).replace(",2,2,", ",3,3,"),
            "other ids": "\n".join([lines[0], *lines[:0:-1]]),
            "no table": "name,age\na,3\n",
            "landmarks": "\n".join([*lines[:3], lines[3] + "1 2 3"]),
        }[spoil]
    )
    assert [stored.file for stored in read_stored(path)] == [""] * 3
    assert len(caplog.records) == 1 and "a.csv: " in caplog.text and "it is ignored" in caplog.text
    caplog.clear()
    table.unlink()
    assert len(list(read_stored(path))) == 3 and not caplog.records


@pytest.mark.parametrize("layout", ["gender,age", "age,gender"])
def test_label_order_goes_there_and_back(tmp_path, layout):
    numbers = [[1, 30], [0, 41], [-1, -1]]
    old = write_old(tmp_path / "old.rec", [row if layout == "gender,age" else row[::-1] for row in numbers])
    new, back = tmp_path / "new.rec", tmp_path / "back.rec"
    assert run("convert", old, "--out", new, "--labels", layout) == 0
    assert [label.tolist() for label, _ in read_raw(new)] == [[1, 30, 30], [0, 41, 41], [-1, -1, -1]]
    assert read_info(new)["labels"] == "gender,age_min,age_max"
    assert run("convert", new, "--out", back, "--to", layout) == 0
    assert back.read_bytes() == old.read_bytes() and read_info(back)["labels"] == layout
    assert [record.label.tolist() for record in read_records(back)] == [[1, 30, 30], [0, 41, 41], [-1, -1, -1]]
    with open(back.with_suffix(".csv"), newline="") as file:
        assert [row["age_max"] for row in csv.DictReader(file)] == ["30", "41", "-1"]


def test_intervals_do_not_become_one_age(tmp_path, capsys):
    path = write_file(tmp_path / "a.rec", [(Label(0, 20, 29), draw_face(0)), (exact(0, 3), draw_face(1))])
    assert run("convert", path, "--out", tmp_path / "b.rec", "--to", "gender,age") == 1
    assert "a.rec: 1 of 2 ages are intervals" in capsys.readouterr().err and not list(tmp_path.glob("b.*"))


def test_size_changes_only_what_has_another(tmp_path, capsys):
    path = tmp_path / "a.rec"
    points = np.array([(20, 20), (40, 20), (32, 32), (24, 44), (40, 44)], float)
    with RecordWriter(path) as writer:
        writer.write(exact(0, 1), draw_points(points), file="a", landmarks=points)
        writer.write(exact(0, 2), draw_face(1, 32), file="b")
        writer.write(exact(0, 3), b"text", file="c")
        writer.write(exact(0, 4), draw_face(2, 64)[:-90], file="d")
        writer.info = {"size": 64, "crop": UTKFACE.to_json(), "source": "a set"}
    out = tmp_path / "b.rec"
    assert run("convert", path, "--out", out, "--size", 32) == 0
    said = capsys.readouterr().out
    assert "b.rec: 2 records" in said and "2 image not readable: 2, 3" in said
    first, second = read_stored(out)
    assert second.jpeg == draw_face(1, 32) and (first.file, second.file) == ("a", "b")
    assert decode(first.jpeg).shape == (32, 32, 3) and min(brightness_at(decode(first.jpeg), first.landmarks)) > 120
    info = read_info(out)
    assert info["size"] == 32 and info["source"] == "a set" and info["count"] == 2
    assert info["converted"] == {"from": "a.rec", "left_out": {"image not readable": 2}}
    assert read_crop(out).size == 32 and read_crop(out).same_as(UTKFACE)
    assert run("convert", path, "--out", out) == 0 and jpegs(out) == jpegs(path)


def test_quality_is_that_of_what_changes(tmp_path):
    path = write_file(tmp_path / "a.rec", [(exact(0, 1), draw_face(1, 64))])
    for quality in (30, 95):
        assert run("convert", path, "--out", tmp_path / f"{quality}.rec", "--size", 48, "--quality", quality) == 0
    assert len(jpegs(tmp_path / "30.rec")[0]) < 0.6 * len(jpegs(tmp_path / "95.rec")[0])


def test_faces_move_by_their_landmarks_else_by_the_crop_of_the_file(tmp_path):
    path = tmp_path / "a.rec"
    turn = cv2.getRotationMatrix2D((32, 32), 15, 0.8)
    turned = UTKFACE.points @ turn[:, :2].T + turn[:, 2]
    with RecordWriter(path) as writer:
        writer.write(exact(0, 1), draw_points(turned), landmarks=turned)
        writer.write(exact(0, 2), draw_points(UTKFACE.points))
        writer.info = {"size": 64, "crop": UTKFACE.to_json()}
    out = tmp_path / "b.rec"
    assert run("convert", path, "--out", out, "--crop", "utkface", "--margin", 0.3, "--size", 96) == 0
    wanted = Crop.named("utkface", 96, 0.3)
    one, other = read_stored(out)
    for stored in (one, other):
        image = decode(stored.jpeg)
        assert image.shape == (96, 96, 3) and min(brightness_at(image, wanted.points)) > 120
    assert np.abs(one.landmarks - wanted.points).max() < 0.1 and other.landmarks is None
    assert np.abs(read_crop(out).points - wanted.points).max() < 0.01 and read_info(out)["size"] == 96
    again = tmp_path / "c.rec"
    assert run("convert", out, "--out", again, "--crop", "utkface", "--margin", 0.3) == 0
    assert jpegs(again) == jpegs(out)


def test_a_face_that_nobody_knows_where_is_left_out_and_reported(tmp_path, capsys):
    path = tmp_path / "a.rec"
    with RecordWriter(path) as writer:
        writer.write(exact(0, 1), draw_points(UTKFACE.points), landmarks=UTKFACE.points)
        writer.write(exact(0, 2), draw_points(UTKFACE.points))
        writer.write(exact(0, 3), draw_points(UTKFACE.points), landmarks=np.full((5, 2), 7.0))
    assert run("convert", path, "--out", tmp_path / "b.rec", "--crop", "arcface", "--size", 64) == 0
    said = capsys.readouterr().out
    assert "b.rec: 1 records" in said and "1 no landmarks and no known crop: 1" in said
    assert "1 landmarks that make no face: 2" in said
    old = write_old(tmp_path / "old.rec", [[1, 30]])
    words = ("--labels", "gender,age", "--crop", "arcface", "--out", tmp_path / "c.rec")
    assert run("convert", old, *words) == 2 and "give --size" in capsys.readouterr().err
    assert run("convert", old, *words, "--size", 32) == 1
    assert "old.rec: no record is left: no landmarks and no known crop" in capsys.readouterr().err
    old.with_suffix(".json").write_text('{"size": "big"}')
    assert run("convert", old, *words) == 2 and "give --size" in capsys.readouterr().err
    assert run("convert", tmp_path / "no.rec", *words) == 1 and "no.rec: missing" in capsys.readouterr().err
    assert not list(tmp_path.glob("c.*"))


@pytest.mark.parametrize(
    "words, says",
    [
        (["--to", "years"], "labels: unknown 'years'; choose one of gender,age_min,age_max, gender,age, age"),
        (["--to", "age,-"], "--to age,-: every number must be a gender or an age"),
        (["--margin", 0.2], "give --crop too"),
        (
            ["--labels", "years"],
            "labels: unknown 'years'; choose one of gender,age_min,age_max, gender,age, age",
        ),
        (["--crop", "x"], "crop: unknown 'x'; choose one of arcface, utkface"),
    ],
)
def test_wrong_usage_of_convert(tmp_path, capsys, words, says):
    path = write_file(tmp_path / "a.rec", [(exact(0, 1), draw_face(0))], size=32)
    assert run("convert", path, "--out", tmp_path / "b.rec", *words) == 2 and says in capsys.readouterr().err


def test_a_sample_is_random_repeatable_and_in_order(tmp_path, capsys):
    records = [(exact(i % 2, i % 100), draw_face(i)) for i in range(200)]
    path = write_file(tmp_path / "a.rec", records, source="a set", crop=ARCFACE.to_json())
    for name, seed in (("b", 1), ("c", 1), ("d", 2)):
        assert run("sample", path, "--out", tmp_path / f"{name}.rec", "--faces", 40, "--seed", seed) == 0
    files = [[stored.file for stored in read_stored(tmp_path / f"{name}.rec")] for name in "bcd"]
    assert files[0] == files[1] != files[2]
    numbers = [int(name[2:-4]) for name in files[0]]
    assert len(set(numbers)) == 40 and numbers == sorted(numbers)
    assert jpegs(tmp_path / "b.rec") == [records[number][1] for number in numbers]
    info = json.loads((tmp_path / "b.json").read_text())
    assert info["count"] == 40 and info["source"] == "a set" and read_crop(tmp_path / "b.rec").same_as(ARCFACE)
    assert info["sampled"] == {"from": "a.rec", "of": 200, "seed": 1, "by_age": False}
    assert run("sample", path, "--out", tmp_path / "e.rec", "--faces", 201) == 2
    assert "a.rec: has 200 faces, fewer than 201" in capsys.readouterr().err


def test_a_sample_by_age_is_even(tmp_path):
    ages = [20] * 100 + [30] * 3 + [40] * 50 + [-1] * 20
    path = write_file(tmp_path / "a.rec", [(Label(0, age, age), draw_face(0)) for age in ages])
    assert run("sample", path, "--out", tmp_path / "b.rec", "--faces", 23, "--by-age") == 0
    assert Counter(int(label[1]) for label, _ in read_raw(tmp_path / "b.rec")) == {20: 10, 30: 3, 40: 10}
    labels = np.array([[0, age, age] for age in ages], np.float32)
    assert len(choose(labels, 500, 0, True)) == 153 and len(set(choose(labels, 500, 0, True))) == 153
    picked = [set(choose(labels, 23, seed, True).tolist()) for seed in range(2)]
    assert picked[0] != picked[1]


def test_a_damaged_file_is_neither_converted_nor_sampled(tmp_path, capsys):
    path = write_file(tmp_path / "a.rec", [(exact(0, i), draw_face(i)) for i in range(3)])
    path.write_bytes(path.read_bytes()[:-9])
    for command in (["convert"], ["sample", "--faces", 1]):
        assert run(*command, path, "--out", tmp_path / "b.rec") == 1
        assert "a.rec: truncated in record 2" in capsys.readouterr().err and not list(tmp_path.glob("b.*"))
    assert run("convert", path, "--out", path) == 2


def test_landmarks_survive_a_conversion_of_labels(tmp_path):
    with RecordWriter(tmp_path / "a.rec") as writer:
        writer.write(exact(0, 1), draw_face(0), landmarks=UTKFACE.points)
    convert(tmp_path / "a.rec", tmp_path / "b.rec", to="age,gender")
    one, other = ([line.rpartition(",")[0] for line in open(tmp_path / name)] for name in ("a.csv", "b.csv"))
    assert one == other  # but for the checksums
