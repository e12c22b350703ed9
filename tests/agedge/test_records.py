"""RecordIO files: byte for byte MXNet's, every record once, faults named."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agedge.crop import Crop
from agedge.errors import AgedgeError
from agedge.evaluation.batches import evaluation_batches
from agedge.labels import Label, exact
from agedge.recordio import MAGIC, pack_frame, read_frames
from agedge.records import RecordWriter, check_index, read_crop, read_records

CROP = Crop.named("utkface", 32)


def jpeg_of(value, size=32):
    return cv2.imencode(".jpg", np.full((size, size, 3), value, np.uint8))[1].tobytes()


def write_faces(path, count=10, size=32, crop=CROP):
    """`count` grey faces; the age of each is its number, so that a record can be told from the others."""
    with RecordWriter(path) as writer:
        for i in range(count):
            writer.write(exact(i % 2, i % 101), jpeg_of(i % 250, size), file=f"{i}.jpg")
        writer.info = {"size": size, "crop": crop.to_json() if crop else None}
    return path


@given(st.lists(st.lists(st.sampled_from([MAGIC, b"a", b"bc", b"def", b"ghij"]), max_size=8).map(b"".join), min_size=1))
@settings(max_examples=60, deadline=None)
def test_frames_read_back(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("frames") / "a.rec"
    path.write_bytes(b"".join(map(pack_frame, records)))
    assert [record for _, record in read_frames(path)] == records


def test_files_are_those_of_mxnet_byte_for_byte(tmp_path):
    import mxnet as mx

    theirs = mx.recordio.MXIndexedRecordIO(str(tmp_path / "m.idx"), str(tmp_path / "m.rec"), "w")
    rng = np.random.default_rng(0)
    with RecordWriter(tmp_path / "o.rec") as ours:
        for i in range(60):
            data = rng.bytes(int(rng.integers(0, 300)) * 4) + MAGIC * (i % 3) + rng.bytes(i)
            header = mx.recordio.IRHeader(3, [1, i, i], i, 0)
            theirs.write_idx(i, mx.recordio.pack(header, data))
            ours.write(exact(1, i), data)
    theirs.close()
    for extension in ("rec", "idx"):
        assert (tmp_path / f"m.{extension}").read_bytes() == (tmp_path / f"o.{extension}").read_bytes()


def test_labels_images_and_tables_come_back(tmp_path):
    path = write_faces(tmp_path / "a.rec", 5)
    records = list(read_records(path))
    assert [record.label.tolist() for record in records] == [[i % 2, i, i] for i in range(5)]
    assert all(abs(int(record.image.mean()) - i) <= 1 for i, record in enumerate(records))
    assert json.loads(path.with_suffix(".json").read_text())["count"] == 5
    assert path.with_suffix(".csv").read_text().splitlines()[2].startswith("1,1.jpg,1,1,1")
    assert read_crop(path).same_as(CROP)


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), RecordWriter(tmp_path / "a.rec") as writer:
        writer.write(exact(1, 2), b"x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [3, 7, 100, 700])
def test_a_truncated_file_names_record_and_byte(tmp_path, keep):
    path = write_faces(tmp_path / "a.rec")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(AgedgeError, match=r"a\.rec: truncated in record \d+ at byte \d+ of"):
        list(read_records(path))


def test_missing_empty_and_foreign_files(tmp_path):
    (tmp_path / "empty.rec").touch()
    (tmp_path / "text.rec").write_text("this is no record file at all")
    for name, reason in (("none", "missing"), ("empty", "empty"), ("text", "no RecordIO magic number")):
        with pytest.raises(AgedgeError, match=f"{name}.rec: .*{reason}|{name}.rec: {reason}"):
            list(read_records(tmp_path / f"{name}.rec"))


def test_an_index_of_another_file_is_refused(tmp_path):
    path = write_faces(tmp_path / "a.rec", 5)
    assert check_index(path) == 5
    other = write_faces(tmp_path / "b.rec", 7)
    path.with_suffix(".idx").write_bytes(other.with_suffix(".idx").read_bytes())
    with pytest.raises(AgedgeError, match=r"a\.idx: not the index of a\.rec: 7 entries for 5 records"):
        check_index(path)
    path.with_suffix(".idx").write_text("no index")
    with pytest.raises(AgedgeError, match=r"a\.idx: not a RecordIO index"):
        check_index(path)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 130])
def test_every_record_is_evaluated_exactly_once_in_every_pass(tmp_path, count):
    path = write_faces(tmp_path / "a.rec", count)
    for _ in range(3):
        batches = list(evaluation_batches(path, 32, batch_size=64))
        assert np.concatenate([batch.index for batch in batches]).tolist() == list(range(count))
        assert np.concatenate([batch.labels[:, 1] for batch in batches]).tolist() == [i % 101 for i in range(count)]


def test_a_bad_image_is_left_out_and_counted(tmp_path):
    with RecordWriter(tmp_path / "a.rec") as writer:
        for i in range(70):
            writer.write(exact(0, i), b"this is text" if i == 66 else b"" if i == 3 else jpeg_of(i))
    bad = []
    seen = [i for batch in evaluation_batches(tmp_path / "a.rec", 32, bad=bad) for i in batch.index]
    assert bad == [3, 66] and seen == [i for i in range(70) if i not in bad]


@pytest.mark.parametrize("layout, numbers", [("gender,age", [1, 33]), ("age,gender", [33, 1])])
def test_files_of_older_tools(tmp_path, layout, numbers):
    import mxnet as mx

    writer = mx.recordio.MXIndexedRecordIO(str(tmp_path / "a.idx"), str(tmp_path / "a.rec"), "w")
    for i in range(4):
        writer.write_idx(i, mx.recordio.pack(mx.recordio.IRHeader(0, numbers, i, 0), jpeg_of(i)))
    writer.close()
    assert [r.label.tolist() for r in read_records(tmp_path / "a.rec", layout)] == [[1, 33, 33]] * 4
    with pytest.raises(AgedgeError, match="labels of 2 numbers and no JSON beside it: pass --labels"):
        list(read_records(tmp_path / "a.rec"))


def test_a_wide_crop_is_moved_to_a_tight_one(tmp_path):
    wide, tight = Crop.named("arcface", 64), Crop.named("utkface", 64)
    image = np.zeros((64, 64, 3), np.uint8)
    cv2.circle(image, tuple(int(v) for v in wide.points[0].round()), 3, (255, 255, 255), -1)
    with RecordWriter(tmp_path / "a.rec") as writer:
        writer.write(Label(), cv2.imencode(".jpg", image)[1].tobytes())
        writer.info = {"crop": wide.to_json()}
    (batch,) = evaluation_batches(tmp_path / "a.rec", 64, crop=tight)
    y, x = np.argwhere(batch.images[0][..., 0] > 128).mean(axis=0)
    assert np.abs(np.array([x, y]) - tight.points[0]).max() < 2.5


def test_labels_that_mean_nothing_are_unknown(tmp_path):
    with RecordWriter(tmp_path / "a.rec") as writer:
        for label in ([3, -5, 400], [np.nan, np.nan, np.nan], [1, 50, 20], [0, 7, 9]):
            writer.write_labels(np.array(label), jpeg_of(9))
    expected = [[-1, -1, -1], [-1, -1, -1], [1, -1, -1], [0, 7, 9]]
    assert [record.label.tolist() for record in read_records(tmp_path / "a.rec")] == expected


def test_the_central_square_of_an_oblong_image_is_seen(tmp_path):
    image = np.full((64, 96, 3), 255, np.uint8)
    image[:, 16:80] = 90
    with RecordWriter(tmp_path / "a.rec") as writer:
        writer.write(exact(0, 1), cv2.imencode(".png", image)[1].tobytes())
    (batch,) = evaluation_batches(tmp_path / "a.rec", 32)
    assert batch.images.max() == 90


@pytest.mark.parametrize(
    "text, says",
    [
        ("[1, 2]", "a.json: not what pack writes"),
        ('{"labels": "sex"}', "a.json: not what pack writes"),
        ("{", "a.json: not JSON"),
        ('{"crop": {"size": 0, "points": [[0, 0], [0, 0], [0, 0], [0, 0], [0, 0]]}}', "a.json: crop must have a size"),
        ('{"crop": {"size": 112}}', "a.json: crop is missing or invalid"),
        ('{"labels": "age,gender"}', "a.rec: record 0: labels age,gender: the records have 3 numbers, not 2"),
    ],
)
def test_a_json_that_cannot_be_is_named(tmp_path, text, says):
    path = write_faces(tmp_path / "a.rec", 2)
    path.with_suffix(".json").write_text(text)
    with pytest.raises(AgedgeError, match=says):
        list(evaluation_batches(path, 32, crop=CROP))


def test_images_that_opencv_refuses_are_bad_images(tmp_path):
    tiny = cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes()
    huge = tiny[:16] + (100000).to_bytes(4, "big") * 2 + tiny[24:]
    with RecordWriter(tmp_path / "a.rec") as writer:
        for content in (jpeg_of(1), huge, jpeg_of(2)):
            writer.write(exact(0, 1), content)
    bad = []
    assert sum(len(batch.index) for batch in evaluation_batches(tmp_path / "a.rec", 32, bad=bad)) == 2 and bad == [1]
