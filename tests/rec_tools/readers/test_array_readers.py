"""Readers of .npz archives and of the benchmark's JSON: what they hold, what is dropped, and damaged files."""

import json
import math
import tracemalloc

import numpy as np
import pytest

from agedge.errors import AgedgeError, UsageError
from agedge.labels import FEMALE, MALE, UNKNOWN, Label, exact
from agedge.records import decode
from rec_tools.formats.json_list import read_items
from rec_tools.readers import benchmark, npz, parse_options
from rec_tools.rows import Dropped


def faces(count=4, size=8, kind=np.uint8):
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3)).astype(kind)


def write_npz(file, compress=False, **changes):
    """What the tools write: np.savez(image=, gender=, age=, img_size=)."""
    arrays = {"image": faces(), "age": np.array([3, 30, 62, 100]), "gender": np.array([0, 1, 1, 0]), "img_size": 8}
    arrays = {name: value for name, value in {**arrays, **changes}.items() if value is not None}
    (np.savez_compressed if compress else np.savez)(file, **arrays)
    return file


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.float64, np.int64, ">i2"])
def test_the_faces_of_an_npz_come_as_they_are(tmp_path, compress, kind):
    rows = list(npz.read(write_npz(tmp_path / "imdb_db.npz", compress, image=faces(kind=kind))))
    assert [row.label for row in rows] == [exact(0, 3), exact(1, 30), exact(1, 62), exact(0, 100)]
    assert [row.id for row in rows] == [f"imdb_db.npz#{index}" for index in range(4)]
    assert all((decode(row.image) == face).all() for row, face in zip(rows, faces()))


def test_a_folder_of_several_npz_is_read_by_name(tmp_path):
    write_npz(tmp_path / "wiki.npz", image=faces(1), age=[1], gender=[1])
    write_npz(tmp_path / "imdb.npz")
    assert [row.id.split("#")[0] for row in npz.read(tmp_path)] == ["imdb.npz"] * 4 + ["wiki.npz"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(AgedgeError, match="empty: no .npz in it"):
        npz.read(tmp_path / "empty")
    with pytest.raises(AgedgeError, match="no.npz: missing"):
        list(npz.read(tmp_path / "no.npz"))


def test_what_gender_0_means_can_be_said_and_must_be_for_morph(tmp_path):
    file = write_npz(tmp_path / "morph2_db_align.npz")
    with pytest.raises(UsageError, match="morph2_db_align.npz: .* give gender=male0, or gender=female0"):
        npz.read(file)
    for word, first in (("gender=male0", MALE), ("gender=female0", FEMALE)):
        rows = list(npz.read(file, **parse_options(npz, [word])))
        assert [row.label.gender for row in rows] == [first, 1 - first, 1 - first, first]


def test_ages_and_genders_that_are_none(tmp_path):
    changes = {"age": np.array([[121.0], [-1], [np.nan], [-1]]), "gender": np.array([0, 1, 1, np.nan])}
    rows = list(npz.read(write_npz(tmp_path / "a.npz", **changes)))
    assert rows[1].label == exact(MALE, UNKNOWN)
    assert [row.reason for row in rows if isinstance(row, Dropped)] == ["age outside 0 to 120"] * 2 + [
        "neither age nor gender"
    ]
    (row,) = npz.read(write_npz(tmp_path / "b.npz", image=faces(1), age=np.array([5]), gender=None))  # MegaAge-Asian
    assert row.label == exact(UNKNOWN, 5)
    assert list(npz.read(write_npz(tmp_path / "c.npz", image=faces(0), age=np.zeros(0), gender=None))) == []


def test_images_whose_values_are_no_bytes_are_dropped(tmp_path):
    images = faces(kind=np.float32)
    images[0] /= 255
    images[1, 0, 0, 0] = np.nan
    images[2, 0, 0, 0] = 256
    rows = list(npz.read(write_npz(tmp_path / "a.npz", image=images)))
    assert [getattr(row, "reason", "") for row in rows] == ["image values are not 0 to 255"] * 3 + [""]


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"age": np.arange(3)}, "4 image but 3 age"),
        ({"gender": np.arange(5)}, "4 image but 5 gender"),
        ({"image": None}, "needs the arrays image and age or gender; it has age, gender, img_size"),
        ({"age": None, "gender": None}, "it has image, img_size"),
        ({"image": faces()[..., 0]}, r"image is of shape \(4, 8, 8\), not"),
        ({"image": np.asfortranarray(faces())}, "image is in Fortran order"),
        ({"age": np.array(["3", "4", "5", "6"])}, "age holds <U1, not numbers"),
        ({"age": np.array([3, None, 5, 6], object)}, "age holds Python objects, which are not loaded"),
        ({"image": np.array([[1], None], object)}, "image holds Python objects, which are not loaded"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, changes, reason):
    file = write_npz(tmp_path / "a.npz", **changes)
    with pytest.raises(AgedgeError, match=f"^{file}: .*{reason}") as error:
        list(npz.read(file))
    assert "\n" not in str(error.value)


def test_a_pickle_in_an_npz_is_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    with pytest.raises(AgedgeError, match="not loaded"):
        list(npz.read(write_npz(tmp_path / "a.npz", age=np.array([Trap()] * 4, object))))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("share", [0, 0.2, 0.6, 0.97])
def test_a_truncated_npz(tmp_path, share):
    file = write_npz(tmp_path / "a.npz")
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(AgedgeError, match="a.npz: not an .npz, or a damaged one"):
        list(npz.read(file))


@pytest.mark.parametrize("compress", [False, True])
def test_a_damaged_npz(tmp_path, compress):
    file = write_npz(tmp_path / "a.npz", compress)
    content = bytearray(file.read_bytes())
    content[400:440] = bytes(40)
    file.write_bytes(content)
    with pytest.raises(AgedgeError, match="a.npz: "):
        list(npz.read(file))


def test_the_memory_does_not_grow_with_an_npz(tmp_path):
    count = 1500
    ages = np.full(count, 30)
    file = write_npz(tmp_path / "a.npz", True, image=np.zeros((count, 64, 64, 3), np.uint8), age=ages, gender=None)
    tracemalloc.start()
    read = sum(1 for _ in npz.read(file))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read == count and peak < 4e6  # the images are 18 MB


# The first entries of the published lists of AFAD and CLAP2016, and one as AgeDB's are.
AFAD = {
    "img_path": "AFAD/AFAD-Full/15/111/638660-1.jpg",
    "id_num": 638660,
    "age": 15,
    "gender": "M",
    "database": "AFAD-Full",
    "folder": 0,
    "aligned_bbox": [-57, -95, 372, -83, 360, 346, -69, 334],
    "alignment_source": "in the wild",
}
CLAP = {
    "img_path": "ChaLearn2016/train/003856.jpg",
    "age": 35,
    "std_age": 4.60901893634,
    "folder": 0,
    "database": "ChaLearn2016",
    "aligned_bbox": [20, 22, 148, 2, 169, 130, 41, 150],
    "alignment_source": "in the wild",
}
AGEDB = {**AFAD, "img_path": "AgeDB/16079_WillSmith _45_m.jpg", "name": "WillSmith ", "gender": "F", "folder": 8}
del AGEDB["id_num"]


def write_json(file, *entries):
    file.write_text(json.dumps(entries, indent=4))
    return file


def read(tmp_path, *entries):
    return list(benchmark.read(write_json(tmp_path / "set.json", *entries)))


def test_the_entries_of_the_benchmark(tmp_path):
    afad, clap, agedb = read(tmp_path, AFAD, CLAP, AGEDB)
    assert (afad.id, afad.label, afad.identity, afad.fold) == (AFAD["img_path"], exact(MALE, 15), "638660", "0")
    assert afad.image == tmp_path / AFAD["img_path"]
    assert afad.corners == ((-57, -95), (372, -83), (360, 346), (-69, 334)) and afad.box is None
    assert (clap.label, clap.identity, clap.fold) == (exact(UNKNOWN, 35), None, "train")
    assert (agedb.label.gender, agedb.identity, agedb.fold) == (FEMALE, "WillSmith", "8")
    assert benchmark.ALIGN == "set"


@pytest.mark.parametrize("database", ["CLAP2016", "ChaLearn2016", "CACD", "CACD2000", "IMDB-CLEAN", "APPA-REAL"])
def test_data_sets_with_an_official_split(tmp_path, database):
    entries = [{**AFAD, "img_path": f"{i}.jpg", "database": database, "folder": i} for i in (0, 1, 2, 3)]
    *rows, last = read(tmp_path, *entries)
    assert [row.fold for row in rows] == ["train", "val", "test"] and last.reason == "folder not understood"


def test_where_the_images_are_can_be_said(tmp_path):
    write_json(tmp_path / "AFAD.json", AFAD)
    assert [row.image for row in benchmark.read(tmp_path)] == [tmp_path / AFAD["img_path"]]
    options = parse_options(benchmark, [f"images={tmp_path / 'sets'}"])
    assert [row.image for row in benchmark.read(tmp_path, **options)] == [tmp_path / "sets" / AFAD["img_path"]]
    write_json(tmp_path / "CLAP.json", CLAP)
    with pytest.raises(AgedgeError, match="holds AFAD.json, CLAP.json; give the JSON of one database"):
        benchmark.read(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(AgedgeError, match="empty: holds no .json"):
        benchmark.read(tmp_path / "empty")


def test_every_face_of_an_image_has_its_id_and_the_same_face_the_same(tmp_path):
    other = {**AFAD, "aligned_bbox": [0, 0, 10, 0, 10, 10, 0, 10]}
    assert [row.id for row in read(tmp_path, AFAD, other, AFAD, other)] == [
        AFAD["img_path"],
        AFAD["img_path"] + "#1",
        AFAD["img_path"],
        AFAD["img_path"] + "#1",
    ]


def turned(degrees, side=100.0):
    """A square about (50, 70), turned clockwise as seen in the image, from its top left corner clockwise."""
    turn = np.exp(1j * math.radians(degrees))
    return [(50 + 70j) + corner * side / 2 * turn for corner in (-1 - 1j, 1 - 1j, 1 + 1j, -1 + 1j)]


def bbox(corners, whole=True):
    numbers = [number for corner in corners for number in (corner.real, corner.imag)]
    return [int(number) for number in numbers] if whole else numbers


@pytest.mark.parametrize("degrees", [0, 17, -44, 90, 179])
@pytest.mark.parametrize("whole", [True, False])
def test_a_turned_square_is_one(tmp_path, degrees, whole):
    (row,) = read(tmp_path, {**AFAD, "aligned_bbox": bbox(turned(degrees), whole)})
    assert np.abs(np.array(row.corners) @ (1, 1j) - turned(degrees)).max() < 1.5


@pytest.mark.parametrize(
    "square",
    [
        bbox(turned(20)[::-1]),  # mirrored
        bbox([turned(20)[i] for i in (0, 3, 2, 1)]),  # counter-clockwise
        bbox([turned(20)[i] for i in (0, 1, 3, 2)]),  # in rows
        [5] * 8,
        [0, 0, 100, 0, 100, 50, 0, 50],
        [0, 0, 100, 0, 130, 100, 30, 100],
        [0, 0, 100, 0, 100, 100, 0],
        [0, 0, 100, 0, 100, 100, 0, "100"],
        [0, 0, 100, 0, 100, 100, 0, None],
        [0, 0, 100, 0, 100, 100, 0, float("nan")],
        [0, 0, 10**400, 0, 100, 100, 0, 100],
        {"x": 1},
        7,
    ],
)
def test_what_is_no_square_is_dropped(tmp_path, square):
    (row,) = read(tmp_path, {**AFAD, "aligned_bbox": square})
    assert row.reason == "aligned_bbox is no square" and row.id == AFAD["img_path"]


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"img_path": None}, "no img_path"),
        ({"img_path": 7}, "no img_path"),
        ({"age": 121}, "age outside 0 to 120"),
        ({"age": "(25, 32)"}, "age not understood"),
        ({"age": float("nan")}, "age not understood"),
        ({"age": 10**400}, "age not understood"),
        ({"age": True}, "age not understood"),
        ({"gender": "X"}, "gender not understood"),
        ({"gender": []}, "gender not understood"),
        ({"folder": "one"}, "folder not understood"),
        ({"folder": -1}, "folder not understood"),
        ({"folder": 1.5}, "folder not understood"),
    ],
)
def test_bad_entries_are_dropped_and_the_rest_is_read(tmp_path, changes, reason):
    bad, good = read(tmp_path, {**AFAD, **changes}, CLAP)
    assert bad.reason == reason and good.id == CLAP["img_path"]


@pytest.mark.parametrize("key", ["img_path", "age", "folder"])
def test_a_missing_key_is_a_reason(tmp_path, key):
    (row,) = read(tmp_path, {name: value for name, value in AFAD.items() if name != key})
    assert row.reason == f"no {key}"


def test_gender_and_person_may_be_missing_and_numbers_be_written_with_a_point(tmp_path):
    (row,) = read(tmp_path, {**AFAD, "gender": None, "id_num": 7.0, "folder": 3.0, "age": 15.0})
    assert (row.label, row.identity, row.fold) == (exact(UNKNOWN, 15), "7", "3")
    (row,) = read(tmp_path, {**AFAD, "id_num": float("nan")})
    assert row.identity is None
    (row,) = read(tmp_path, {**AFAD, "gender": "U", "age": -1})  # the benchmark's words for unknown
    assert row.label == Label()


@pytest.mark.parametrize("changes", [{"aligned_bbox": []}, {"aligned_bbox": None}])
def test_a_face_without_a_square_is_left_to_the_detector(tmp_path, changes):
    (row,) = read(tmp_path, {**AFAD, **changes})
    assert row.corners is None and row.label == exact(MALE, 15)


def test_a_list_of_no_named_database_has_numbered_folders(tmp_path):
    (row,) = read(tmp_path, {key: value for key, value in AFAD.items() if key != "database"})  # IMDB-EM-CNN.json
    assert row.fold == "0"


def test_an_entry_that_is_no_face(tmp_path):
    (row,) = read(tmp_path, 5)
    assert row.reason == "no img_path"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "7",
        "[",
        "[{}",
        "[{},",
        "[{},]",
        "[{} {}]",
        "[,]",
        "[{}] []",
        '[{"a": 1',
        "[nul]",
        "[" * 100000,
        "\x80",
    ],
)
def test_a_broken_list_is_one_line_with_the_file(tmp_path, text):
    file = tmp_path / "set.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(AgedgeError, match=f"^{file}: ") as error:
        list(benchmark.read(file))
    assert "\n" not in str(error.value)


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(AgedgeError, match="no.json: missing"):
        list(benchmark.read(tmp_path / "no.json"))


@pytest.mark.parametrize("items", [[], [1], [{"a": "]"}, [2], "x, y", None, -1.5e3], [{"n": i} for i in range(9)]])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_list_is_read_as_json_reads_it(tmp_path, items, indent, monkeypatch):
    file = tmp_path / "list.json"
    file.write_text("\ufeff \n" + json.dumps(items, indent=indent) + "\n", encoding="utf-8")
    assert list(read_items(file)) == items
    monkeypatch.setattr("rec_tools.formats.json_list.LONGEST", 20)  # many reads instead of one
    assert list(read_items(file)) == items


def test_a_long_list_takes_little_memory(tmp_path):
    file = tmp_path / "list.json"
    item = json.dumps(AFAD)
    file.write_text("[" + ",".join([item] * 40000) + "]")
    tracemalloc.start()
    count = sum(1 for _ in read_items(file))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 40000 and peak < 2e6 < 8e6 < file.stat().st_size
