"""IMDB-WIKI: the struct of its .mat, the age rule, what is left out and why, and files that are something else."""

import struct
from collections import Counter

import numpy as np
import pytest
from scipy.io import savemat

from agedge.errors import AgedgeError, UsageError
from agedge.labels import FEMALE, MALE, UNKNOWN
from rec_tools.readers import imdb_wiki, parse_options
from rec_tools.rows import Dropped, Row

# Matlab's datenum(1970,1,1) is 719529, as its documentation says; the 181st day of 1981 is 30 June.
JUNE_30_1981 = 719529 + 11 * 365 + 3 + 180
JULY_1_1981 = JUNE_30_1981 + 1


def cell(values):
    cells = np.empty((1, len(values)), object)
    for index, value in enumerate(values):
        cells[0, index] = value
    return cells


def columns(**changes):
    """Five good rows of the struct, before `changes`."""
    paths = [f"{index:02d}/nm{index}_rm1_1981-6-30_2009.jpg" for index in range(5)]
    table = {
        "dob": np.full((1, 5), JUNE_30_1981, np.int32),
        "photo_taken": np.full((1, 5), 2009, np.uint16),
        "full_path": cell(paths),
        "gender": np.array([[0.0, 1, 0, 1, 1]]),
        "name": cell(["Ann", "Bob", "", "Dan", "Eve"]),
        "face_location": cell([np.array([[1.0, 2, 3, 4]])] * 5),
        "face_score": np.full((1, 5), 3.5),
        "second_face_score": np.full((1, 5), np.nan),
        "celeb_names": cell(["Ann", "Bob", "Cat"]),
        "celeb_id": np.array([[1.0, 2, 3, 1, 2]]),
    }
    return {**table, **changes}


def write(folder, table, name="imdb", images=True, key=None):
    folder.mkdir(parents=True, exist_ok=True)
    savemat(folder / f"{name}.mat", {key or name: table}, do_compression=True)
    for path in table["full_path"].ravel() if images and isinstance(table, dict) and "full_path" in table else []:
        image = folder / str(path)
        if ".." not in str(path) and not str(path).startswith("/"):
            image.parent.mkdir(exist_ok=True)
            image.write_bytes(b"jpeg")
    return folder


def changed(field, values):
    column = columns()[field].astype(np.float64)
    column[0, : len(values)] = values
    return {field: column}


def reasons(rows):
    return Counter(row.reason for row in rows if isinstance(row, Dropped))


def test_good_rows_come_in_the_order_of_the_set(tmp_path):
    rows = list(imdb_wiki.read(write(tmp_path, columns())))
    assert [row.id for row in rows] == columns()["full_path"].ravel().tolist()
    assert [row.label.gender for row in rows] == [FEMALE, MALE, FEMALE, MALE, MALE]
    assert all(row.image == tmp_path / row.id for row in rows)
    same_person = [row.identity for row in rows]
    assert same_person[0] == same_person[3] and same_person[1] == same_person[4] and len(set(same_person)) == 3


def test_wiki_takes_the_name_as_identity(tmp_path):
    table = {key: value for key, value in columns().items() if not key.startswith("celeb")}
    rows = list(imdb_wiki.read(write(tmp_path, table, "wiki")))
    assert [row.identity for row in rows] == ["Ann", "Bob", None, "Dan", "Eve"]


def test_photos_count_as_taken_at_the_end_of_june(tmp_path):
    before_1970 = [719529 - 1, 719529 - 184 - 1]  # 31 December and 30 June 1969
    table = columns(**changed("dob", [JUNE_30_1981, JULY_1_1981, JULY_1_1981 + 0.99, *before_1970]))
    rows = list(imdb_wiki.read(write(tmp_path, table)))
    assert [row.label.age_min for row in rows] == [28, 27, 27, 39, 40]
    assert all(row.label.age_min == row.label.age_max for row in rows)


@pytest.mark.parametrize("dob", [0, -5, 366, 1e12, -1e300, np.nan, np.inf])
def test_an_impossible_date_of_birth_is_read_from_the_file_name(tmp_path, dob):
    table = columns(**changed("dob", [dob] * 4))
    names = ["17/10000217_1981-05-05_2009.jpg", "01/nm1_rm2_1981-7-1_2009.jpg", "01/x_1981-00-05_2009.jpg", "01/x.jpg"]
    table["full_path"][0, :4] = names
    rows = list(imdb_wiki.read(write(tmp_path, table)))
    assert [row.label.age_min for row in rows if isinstance(row, Row)] == [28, 27, 28]
    assert reasons(rows) == {"date of birth impossible": 2}


@pytest.mark.parametrize(
    "field, value, reason, allow",
    [
        ("face_score", -np.inf, "no face", {"min_face_score": -np.inf}),
        ("face_score", np.nan, "no face", {"min_face_score": -np.inf}),
        ("face_score", 0.99, "face score below 1", {"min_face_score": 0.5}),
        ("second_face_score", 1.5, "second face", {"allow_second_face": True}),
        ("gender", np.nan, "gender unknown", {"allow_unknown_gender": True}),
        ("gender", 7, "gender unknown", {"allow_unknown_gender": True}),
        ("photo_taken", 2082, "age outside 0 to 100", {"max_age": 101}),
        ("photo_taken", 1980, "age outside 0 to 100", None),
    ],
)
def test_each_fault_is_counted_and_can_be_allowed(tmp_path, field, value, reason, allow):
    folder = write(tmp_path, columns(**changed(field, [value])))
    rows = list(imdb_wiki.read(folder))
    assert reasons(rows) == {reason: 1} and isinstance(rows[0], Dropped) and len(rows) == 5
    if allow:
        rows = list(imdb_wiki.read(folder, **allow))
        assert reasons(rows) == {}
        assert field != "gender" or rows[0].label.gender == UNKNOWN


def test_ages_can_be_narrowed(tmp_path):
    folder = write(tmp_path, columns(**changed("photo_taken", [1999])))  # 18 years
    assert reasons(imdb_wiki.read(folder, min_age=21, max_age=60)) == {"age outside 21 to 60": 1}
    with pytest.raises(UsageError, match="ages 60 to 21"):
        imdb_wiki.read(folder, min_age=60, max_age=21)


def test_what_packing_checks_of_a_path_is_left_to_it(tmp_path):
    table = columns()
    table["full_path"][0] = ["../outside.jpg", "00/dr..who.jpg", "00/missing.jpg", "00/missing.jpg", ""]
    *rows, last = imdb_wiki.read(write(tmp_path, table, images=False))
    assert [row.id for row in rows] == ["../outside.jpg", "00/dr..who.jpg", "00/missing.jpg", "00/missing.jpg"]
    assert rows[0].image == tmp_path / "../outside.jpg" and last.reason == "row without a file"


def test_its_options_are_words_of_the_command_line():
    words = ["min_face_score=2", "allow_second_face=true", "max_age=80.5", "allow_unknown_gender=false"]
    assert parse_options(imdb_wiki, words) == {
        "min_face_score": 2.0,
        "allow_second_face": True,
        "max_age": 80.5,
        "allow_unknown_gender": False,
    }


def test_the_folder_or_its_parent(tmp_path):
    write(tmp_path / "imdb_crop", columns())
    assert len(list(imdb_wiki.read(tmp_path))) == len(list(imdb_wiki.read(tmp_path / "imdb_crop"))) == 5
    write(tmp_path / "wiki_crop", columns(), "wiki")
    with pytest.raises(AgedgeError, match="holds imdb_crop.imdb.mat, wiki_crop.wiki.mat"):
        imdb_wiki.read(tmp_path)


def test_no_mat_and_no_folder(tmp_path):
    with pytest.raises(AgedgeError, match="neither imdb.mat nor wiki.mat"):
        imdb_wiki.read(tmp_path)
    with pytest.raises(AgedgeError, match="no such folder"):
        imdb_wiki.read(tmp_path / "nowhere")


def drop(field):
    return {key: value for key, value in columns().items() if key != field}


@pytest.mark.parametrize(
    "table, key, reason",
    [
        (columns(), "faces", "no struct 'imdb' or 'wiki'"),
        (np.arange(12.0), "imdb", "is not a struct of one element"),
        (np.array([[(1,), (2,)]], dtype=[("dob", object)]), "imdb", "is not a struct of one element"),
        (drop("dob"), "imdb", "no field dob"),
        (columns(gender=np.ones((1, 4))), "imdb", "5 full_path but 4 gender"),
        (columns(dob=cell(["a"] * 5)), "imdb", "dob is not a row of numbers"),
        (columns(full_path=np.ones((1, 5))), "imdb", "full_path is not a cell of strings"),
        (columns(name=cell([np.ones(3)] * 5)), "imdb", "name is not a cell of strings"),
    ],
)
def test_a_mat_of_another_shape(tmp_path, table, key, reason):
    with pytest.raises(AgedgeError, match=reason) as error:
        imdb_wiki.read(write(tmp_path, table, images=False, key=key))
    assert str(error.value).startswith(str(tmp_path / "imdb.mat")) and "\n" not in str(error.value)


@pytest.mark.parametrize("share", [0, 0.05, 0.3, 0.6, 0.95])
def test_a_truncated_mat(tmp_path, share):
    mat = write(tmp_path, columns()) / "imdb.mat"
    whole = mat.read_bytes()
    mat.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(AgedgeError, match="imdb.mat: not a Matlab file, or a truncated one|holds no struct"):
        imdb_wiki.read(tmp_path)


def test_a_text_file_named_mat(tmp_path):
    (tmp_path / "imdb.mat").write_text("this is not a Matlab file\n" * 40)
    with pytest.raises(AgedgeError, match="imdb.mat: not a Matlab file"):
        imdb_wiki.read(tmp_path)


def test_a_v7_3_mat_is_named_as_such(tmp_path):
    header = b"MATLAB 7.3 MAT-file".ljust(124) + struct.pack("<H", 0x0200) + b"IM"
    (tmp_path / "imdb.mat").write_bytes(header.ljust(512, b"\0") + b"\x89HDF\r\n\x1a\n" + bytes(512))
    with pytest.raises(AgedgeError, match="v7.3"):
        imdb_wiki.read(tmp_path)
