"""inspect --repair: every record that can be read is kept, nothing is lost, and nothing half-written appears."""

import csv
import json
import os
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agedge.errors import AgedgeError
from agedge.labels import exact
from agedge.recordio import MAGIC, Gap, pack_frame, read_frames, read_index, salvage_frames
from agedge.records import RecordWriter, check_index, read_raw
from rec_tools.records.repair import repair
from rec_tools.records.stored import read_stored
from tests.rec_tools.small_records import draw_face, run

COUNT = 12


@pytest.fixture
def path(tmp_path):
    with RecordWriter(tmp_path / "a.rec") as writer:
        for i in range(COUNT):
            writer.write(exact(i % 2, i), draw_face(i) + bytes(i % 4), file=f"{i}.jpg", identity=f"p{i}")
        writer.info = {"source": "a set", "size": 32}
    return tmp_path / "a.rec"


def files_of(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def ages(path):
    return [int(label[1]) for label, _ in read_raw(path)]


def offsets_of(path):
    return [offset for offset, _ in read_frames(path)]


def overwrite(path, at, content):
    data = bytearray(path.read_bytes())
    data[at : at + len(content)] = content
    path.write_bytes(data)


def check_whole(path, kept):
    """Everything about a repaired file is of these records, each with its own row."""
    assert ages(path) == kept and check_index(path) == len(kept)
    assert [stored.file for stored in read_stored(path)] == [f"{age}.jpg" for age in kept]
    info = json.loads(path.with_suffix(".json").read_text())
    assert info["count"] == len(kept) and info["source"] == "a set" and info["repaired"]["kept"] == len(kept)


def test_an_intact_file_stays_as_it_is(path, capsys):
    before = files_of(path.parent)
    assert run("inspect", path, "--repair") == 0 and files_of(path.parent) == before
    assert "a.rec: intact, 12 records; nothing to repair" in capsys.readouterr().out


@pytest.mark.parametrize("index, says", [(None, "missing"), ("0\t0\n", "1 entries for 12"), ("no", "not a RecordIO")])
def test_an_index_is_rebuilt(path, capsys, index, says):
    before = files_of(path.parent)
    path.with_suffix(".idx").unlink() if index is None else path.with_suffix(".idx").write_text(index)
    assert run("inspect", path, "--repair") == 0
    said = capsys.readouterr().out
    assert says in said and "rewritten for 12 records" in said and files_of(path.parent) == before


@pytest.mark.parametrize("record", [1, 5, COUNT - 1])
@pytest.mark.parametrize("cut", [1, 3, 4, 8, 9, 40, 500])
def test_a_truncated_file_keeps_its_records_byte_for_byte(path, record, cut):
    data, at = path.read_bytes(), offsets_of(path)[record]
    path.write_bytes(data[: at + cut])
    found = repair(path)
    assert found.kept == record and found.rows_lost == COUNT - record
    assert path.read_bytes() == data[:at] and (path.parent / "a.rec.damaged").read_bytes() == data[: at + cut]
    check_whole(path, list(range(record)))
    with open(path.parent / "a.csv.damaged", newline="") as file:
        assert len(list(csv.DictReader(file))) == COUNT


def test_zeros_that_are_missing_at_the_end_cost_no_record(path):
    with RecordWriter(path) as writer:
        writer.write(exact(0, 0), b"abcde", file="0.jpg")
        writer.info = {"source": "a set"}
    data = path.read_bytes()
    path.write_bytes(data[:-2])
    with pytest.raises(AgedgeError, match="truncated in record 0"):
        list(read_frames(path))  # MXNet would end the program
    repair(path)
    assert path.read_bytes() == data and ages(path) == [0]


@pytest.mark.parametrize("first, last", [(0, 0), (3, 3), (3, 5), (COUNT - 1, COUNT - 1)])
def test_after_damage_the_next_record_is_found(path, first, last):
    offsets = offsets_of(path)
    for record in range(first, last + 1):
        overwrite(path, offsets[record], b"\0" * 60)
    damaged = path.read_bytes()
    assert repair(path).kept == COUNT - (last - first + 1)
    check_whole(path, [age for age in range(COUNT) if not first <= age <= last])
    assert (path.parent / "a.rec.damaged").read_bytes() == damaged
    assert [int(key) for key, _ in read_index(path.with_suffix(".idx"))] == list(range(COUNT - 1 - last + first))


def test_a_good_record_between_two_bad_ones_is_kept(path):
    offsets = offsets_of(path)
    for record in (3, 5):
        overwrite(path, offsets[record], b"junk")
    repair(path)
    check_whole(path, [age for age in range(COUNT) if age not in (3, 5)])


@pytest.mark.parametrize("change", [4, 2000, 10**8])
def test_a_wrong_length_costs_its_record_alone(path, change):
    at = offsets_of(path)[4] + 4
    length = struct.unpack_from("<I", path.read_bytes(), at)[0]
    overwrite(path, at, struct.pack("<I", length + change))
    repair(path)
    check_whole(path, [age for age in range(COUNT) if age != 4])


def test_a_length_that_is_too_short_leaves_a_cut_off_image(path, capsys):
    at = offsets_of(path)[4] + 4
    overwrite(path, at, struct.pack("<I", struct.unpack_from("<I", path.read_bytes(), at)[0] - 8))
    assert run("inspect", path, "--repair") == 0
    check_whole(path, list(range(COUNT)))
    assert "bad       1 cut-off image: 4" in capsys.readouterr().out


def test_bytes_that_went_missing_shift_the_rest(path):
    data, at = path.read_bytes(), offsets_of(path)[6] + 50
    path.write_bytes(data[:at] + data[at + 13 :])
    repair(path)
    check_whole(path, [age for age in range(COUNT) if age != 6])


def test_a_record_with_a_broken_header_is_left_out(path):
    overwrite(path, offsets_of(path)[2] + 8, struct.pack("<I", 7))  # a label of seven numbers
    found = repair(path)
    assert "record at byte" in found.lost[0] and "7 numbers" in found.lost[0]
    check_whole(path, [age for age in range(COUNT) if age != 2])


def test_what_follows_the_last_record_is_left_out(path):
    data = path.read_bytes()
    path.write_bytes(data + b"\0" * 100)
    assert repair(path).kept == COUNT
    assert path.read_bytes() == data
    check_whole(path, list(range(COUNT)))


def test_an_earlier_original_is_not_overwritten(path, capsys):
    path.write_bytes(path.read_bytes()[:-9])
    (path.parent / "a.rec.damaged").write_text("precious")
    before = files_of(path.parent)
    assert run("inspect", path, "--repair") == 1 and files_of(path.parent) == before
    assert "a.rec.damaged: exists" in capsys.readouterr().err


def test_a_repair_that_fails_changes_nothing(path, monkeypatch):
    path.write_bytes(path.read_bytes()[:-9])
    before = files_of(path.parent)
    (path.parent / "a.rec.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.rec'"):
        repair(path)
    assert files_of(path.parent) == before


def test_a_disk_without_hard_links(path, monkeypatch):
    data = path.read_bytes()[:-9]
    path.write_bytes(data)

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    repair(path)
    assert (path.parent / "a.rec.damaged").read_bytes() == data and ages(path) == list(range(COUNT - 1))


@pytest.mark.parametrize("content", [b"this is no record file at all", MAGIC + b"\xff" * 4])
def test_what_holds_no_record_cannot_be_repaired(tmp_path, content):
    (tmp_path / "a.rec").write_bytes(content)
    before = files_of(tmp_path)
    with pytest.raises(AgedgeError, match=r"a\.rec: no record in it can be read"):
        repair(tmp_path / "a.rec")
    assert files_of(tmp_path) == before


def test_files_of_older_tools_keep_their_two_numbers(tmp_path):
    path = tmp_path / "old.rec"
    with RecordWriter(path) as writer:
        for i in range(4):
            writer.write_labels(np.array([20 + i, 1]), draw_face(i))
    path.with_suffix(".json").unlink()
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(AgedgeError, match="pass --labels"):
        repair(path)
    repair(path, "age,gender")
    assert [label.tolist() for label, _ in read_raw(path)] == [[1, 20 + i, 20 + i] for i in range(3)]


@given(
    st.lists(st.lists(st.sampled_from([MAGIC, b"ab", b"defg"]), max_size=6).map(b"".join), min_size=1, max_size=6),
    st.data(),
)
@settings(max_examples=80, deadline=None)
def test_salvage_covers_every_byte_and_never_fails(tmp_path_factory, records, data):
    path = tmp_path_factory.mktemp("frames") / "a.rec"
    content = bytearray(b"".join(map(pack_frame, records)))
    path.write_bytes(content)
    assert [record for _, record in salvage_frames(path)] == records
    start = data.draw(st.integers(0, len(content) - 1))
    content[start : start + data.draw(st.integers(1, 20))] = data.draw(st.binary(max_size=20))
    if content:
        path.write_bytes(content)
        pieces = list(salvage_frames(path))
        starts = [piece.start if isinstance(piece, Gap) else piece[0] for piece in pieces]
        assert starts == sorted(starts) and starts[0] == 0
