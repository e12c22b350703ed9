"""A flipped bit in a record is found by whoever reads it, and named; files without checksums are read as before."""

import csv
import hashlib
import json
import zlib

import cv2
import numpy as np
import pytest

from agedge.checksums import UNKNOWN, record_checksums
from agedge.cli import run_command
from agedge.errors import AgedgeError
from agedge.labels import exact
from agedge.recordio import read_frames, read_index
from agedge.records import RecordWriter, read_info, read_raw
from agedge.training.data.dataset import open_dataset
from rec_tools.cli import app
from rec_tools.records.repair import repair
from rec_tools.records.transform import convert, merge
from rec_tools.records.verify import verify

COUNT = 6


def write(path, count=COUNT):
    rng = np.random.default_rng(0)
    with RecordWriter(path) as writer:
        for number in range(count):
            image = cv2.resize(rng.integers(0, 255, (5, 5, 3), np.uint8), (48, 48))
            writer.write(exact(number % 2, 20.0 + number), cv2.imencode(".jpg", image)[1].tobytes(), file=f"{number}")
    return path


@pytest.fixture
def rec(tmp_path):
    return write(tmp_path / "a.rec")


def flip(path, record, byte):
    """Flip a bit of a record; byte 0 is its frame's first."""
    content = bytearray(path.read_bytes())
    content[dict(read_index(path.with_suffix(".idx")))[record] + byte] ^= 4
    path.write_bytes(content)


def strip(path):
    """Make of a file what older versions wrote."""
    with open(path.with_suffix(".csv"), newline="") as file:
        rows = [row[:-1] for row in csv.reader(file)]
    with open(path.with_suffix(".csv"), "w", newline="") as file:
        csv.writer(file).writerows(rows)
    info = json.loads(path.with_suffix(".json").read_text())
    del info["sha256"]
    path.with_suffix(".json").write_text(json.dumps(info))


def inspect(*words):
    with pytest.raises(SystemExit) as ended:
        run_command(app, ["inspect", *map(str, words)])
    return ended.value.code


def test_what_is_written_carries_its_checksums(rec):
    assert read_info(rec)["sha256"] == hashlib.sha256(rec.read_bytes()).hexdigest()
    assert record_checksums(rec).tolist() == [zlib.crc32(record) for _, record in read_frames(rec)]


def test_what_is_made_of_it_carries_its_own(rec, tmp_path):
    other = write(tmp_path / "b.rec", 3)
    merge([rec, other], tmp_path / "m.rec")
    convert(rec, tmp_path / "c.rec", to="gender,age", size=32)
    for made, count in (("m.rec", COUNT + 3), ("c.rec", COUNT)):
        found = verify(tmp_path / made)
        assert found.good and found.whole and found.records == count


@pytest.mark.parametrize("byte", [12 + 24, 8 + 24 + 12 + 300])  # of the label, of the image
def test_a_flipped_bit_is_one_line_that_names_file_and_record(rec, tmp_path, byte):
    flip(rec, 3, byte)
    readers = (
        lambda: list(read_raw(rec)),
        lambda: open_dataset([rec], 32),
        lambda: merge([rec], tmp_path / "m.rec"),
    )
    for reader in readers:
        with pytest.raises(AgedgeError, match="a.rec: record 3 is damaged"):
            reader()
    assert not (tmp_path / "m.rec").exists()


def test_verify_names_every_damaged_record(rec, capsys):
    flip(rec, 1, 0)  # a frame that cannot be read does not hide those behind it
    flip(rec, 4, 200)
    found = verify(rec)
    assert found.damaged == [1, 4] and found.whole is False
    assert inspect("--verify", rec) == 1
    assert "a.rec: 2 of 6 records damaged: 1, 4" in capsys.readouterr().err


def test_verify_sees_what_no_record_holds(rec):
    ends = [offset for offset, _ in read_frames(rec)][1:]
    gaps = [end for end in ends if rec.read_bytes()[end - 1] == 0]  # zeros that fill a frame up to a multiple of four
    assert gaps
    content = bytearray(rec.read_bytes())
    content[gaps[0] - 1] ^= 1
    rec.write_bytes(content)
    found = verify(rec)
    assert not found.damaged and not found.good and "although each record matches its checksum" in str(found)


def test_verify_sees_a_record_too_few(rec):
    last = read_index(rec.with_suffix(".idx"))[-1][1]
    rec.write_bytes(rec.read_bytes()[:last])
    assert not verify(rec).good


def test_a_good_file_and_one_of_an_older_version(rec, capsys):
    assert inspect("--verify", rec) == 0
    assert "a.rec: checksums right: 6 records and the whole file" in capsys.readouterr().out
    strip(rec)
    assert record_checksums(rec) is None
    assert inspect("--verify", rec) == 0
    assert "a.rec: no checksums" in capsys.readouterr().out
    flip(rec, 3, 8 + 24 + 12 + 300)
    assert len(list(read_raw(rec))) == COUNT


@pytest.mark.parametrize(
    "table", [b"", b"id,crc32\n0,zz\n", b"id,crc32\n7,00000000\n", b"\xff\xfe\0", b'id,crc32\n0,"' * 9]
)
def test_a_table_that_is_none_is_not_believed(rec, table):
    rec.with_suffix(".csv").write_bytes(table)
    assert record_checksums(rec) is None or set(record_checksums(rec)) == {UNKNOWN}
    assert len(list(read_raw(rec))) == COUNT


def test_repair_leaves_a_damaged_record_out(rec):
    flip(rec, 2, 8 + 24 + 12 + 200)
    found = repair(rec)
    assert found.kept == COUNT - 1 and "differs from its checksum" in found.lost[0]
    assert verify(rec).good and "nothing to repair" in str(repair(rec))


@pytest.mark.parametrize(
    "info", [b"[" * 5000, b'{"labels": {}}', b'{"source": [1]}', b"\xff", b'{"packed": 3}', b"1" * 5000]
)
def test_odd_json_is_one_line(rec, info):
    rec.with_suffix(".json").write_bytes(info)
    with pytest.raises(AgedgeError, match="a.json: not"):
        read_info(rec)
