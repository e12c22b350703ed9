"""Readers of the sets whose labels stand in names and folders: laid out as distributed, with the faults they have."""

import logging
import os
import tarfile
from collections import Counter

import numpy as np
import pytest
from scipy.io import savemat

from agedge.errors import AgedgeError
from agedge.labels import FEMALE, MALE, UNKNOWN, exact
from rec_tools.readers import afad, agedb, cacd2000, fgnet, parse_options, utkface
from rec_tools.rows import Dropped, Row
from tests.paths import SHARED

ARCHIVE = SHARED / "data/utkface_dev.tar.gz"


def touch(root, *paths):
    """Empty files: readers do not open images."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def kept(rows):
    return {row.id: row for row in rows if isinstance(row, Row)}


def reasons(rows):
    return Counter(row.reason for row in rows if isinstance(row, Dropped))


@pytest.mark.parametrize("reader", [utkface, afad, agedb, cacd2000, fgnet])
def test_a_folder_without_images_and_no_folder(tmp_path, reader):
    touch(tmp_path, "README.txt", "Thumbs.db")
    with pytest.raises(AgedgeError, match=f"^{tmp_path}: no .* images in it"):
        list(reader.read(tmp_path))
    with pytest.raises(AgedgeError, match="no such folder"):
        list(reader.read(tmp_path / "nowhere"))


def test_utkface_chips(tmp_path):
    whole, no_race, no_dot = (
        "24_0_1_20170116220224657 .jpg.chip.jpg",
        "61_1_20170109142408075.jpg.chip.jpg",
        "55_0_0_20170116232725357jpg.chip.jpg",
    )
    touch(tmp_path, whole, no_race, no_dot, "117_1_0_1.jpg.chip.jpg", "121_1_0_1.jpg.chip.jpg", "1_0_2_9.jpg")
    rows = list(utkface.read(tmp_path))
    assert [row.id for row in rows] == sorted(row.id for row in rows)
    faces = kept(rows)
    assert (faces[whole].label, faces[whole].race) == (exact(MALE, 24), "Black")
    assert (faces[no_race].label, faces[no_race].race) == (exact(UNKNOWN, 61), None)
    assert faces[no_dot].label == exact(MALE, 55) and faces[no_dot].image == tmp_path / no_dot
    assert faces["117_1_0_1.jpg.chip.jpg"].label == exact(FEMALE, 117)
    assert reasons(rows) == {"age outside 0 to 120": 1, "no aligned chip among chips": 1}
    assert utkface.find_crop(tmp_path) == ("utkface", 0.0)


def test_of_a_utkface_name_without_a_gender_the_rest_is_kept(tmp_path):
    (row,) = utkface.read(touch(tmp_path, "part2/53__0_20170116184028385.jpg"))
    assert (row.label, row.race) == (exact(UNKNOWN, 53), "White")


def test_utkface_in_the_wild_lies_in_three_parts(tmp_path):
    touch(tmp_path, "part1/9_1_2_1.jpg", "part3/80_0_3_1.jpg", "part2/1_1_4_1.jpg", "part2/face.jpg")
    rows = list(utkface.read(tmp_path))
    assert [row.id for row in rows] == [
        "part1/9_1_2_1.jpg",
        "part2/1_1_4_1.jpg",
        "part2/face.jpg",
        "part3/80_0_3_1.jpg",
    ]
    assert reasons(rows) == {"name without an age": 1} and utkface.find_crop(tmp_path) is None
    assert rows[3].image == tmp_path / "part3/80_0_3_1.jpg" and rows[3].race == "Indian"


@pytest.mark.skipif(not ARCHIVE.is_file(), reason="the development faces are not on this machine")
def test_utkface_on_its_real_names(tmp_path):
    with tarfile.open(ARCHIVE) as archive:
        names = [member.name for member in archive if member.name.endswith(".jpg")]
    rows = list(utkface.read(touch(tmp_path, *names) / "UTKFace"))
    faces = kept(rows)
    assert len(faces) == len(names) == len(rows)
    irregular = [id for id, row in faces.items() if row.race is None]
    assert all(faces[id].label.gender == UNKNOWN and len(id.split("_")) == 3 for id in irregular)
    assert 1 <= len(irregular) <= 5
    # As the set's page says: ages 0 to 116, a little more men than women.
    assert {row.label.age_min for row in faces.values()} <= set(range(117))
    assert 0.5 < np.mean([row.label.gender == MALE for row in faces.values()]) < 0.55


def test_a_folder_that_cannot_be_read_is_named_and_the_rest_goes_on(tmp_path, monkeypatch):
    touch(tmp_path, "20/111/1-0.jpg", "21/111/2-0.jpg")
    scandir = os.scandir

    def refuse(folder):
        if str(folder).endswith("20"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    rows = list(afad.read(tmp_path))
    assert rows[0] == Dropped("20", "folder not readable", "Permission denied")
    assert [row.id for row in rows[1:]] == ["21/111/2-0.jpg"]


@pytest.mark.parametrize("folder", ["AFAD-Full", "AFAD-Lite/tarball", "."])
def test_afad(tmp_path, folder):
    root = touch(tmp_path / folder, "15/111/638660-1.jpg", "15/112/638660-2.jpg", "72/112/77-0.jpg", "15/111/Thumbs.db")
    touch(root, "15/113/1-0.jpg", "15/1-0.jpg", "8/111/1-0.jpg", "73/112/1-0.jpg", "new/111/1-0.jpg", "README.md")
    rows = list(afad.read(tmp_path))
    faces = list(kept(rows).values())
    assert [row.label for row in faces] == [exact(MALE, 15), exact(FEMALE, 15), exact(FEMALE, 72)]
    assert [row.identity for row in faces] == ["638660", "638660", "77"]
    assert all(row.image == tmp_path / row.id and row.image.is_file() for row in faces)
    assert reasons(rows) == {"in no folder 111 or 112": 2, "age outside 15 to 72": 2, "in no folder of an age": 1}


def test_afad_without_the_user_in_the_name(tmp_path):
    (row,) = afad.read(touch(tmp_path, "30/111/face.jpg"))
    assert row.identity is None and row.label == exact(MALE, 30)


@pytest.mark.parametrize(
    "name, identity, label",
    [
        ("4509_CarlosSantana_48_m.jpg", "CarlosSantana", exact(MALE, 48)),
        ("0_MariaCallas_35_f.jpg", "MariaCallas", exact(FEMALE, 35)),
        ("16079_WillSmith _45_m.jpg", "WillSmith", exact(MALE, 45)),
        ("7_Peter_O'Toole_Jr._0_M.JPG", "Peter_O'Toole_Jr.", exact(MALE, 0)),
        ("8_Anne_2_of_3_20_f.jpg", "Anne_2_of_3", exact(FEMALE, 20)),
        ("9_Pene\u0301lopeCruz_33_f.jpg", "Pen\u00e9lopeCruz", exact(FEMALE, 33)),
        ("10_Nobody_33_x.jpg", "Nobody", exact(UNKNOWN, 33)),
        ("11_Nobody_33_.jpg", "Nobody", exact(UNKNOWN, 33)),
    ],
)
def test_agedb_names(tmp_path, name, identity, label):
    (row,) = agedb.read(touch(tmp_path, f"AgeDB/{name}"))
    assert (row.id, row.identity, row.label) == (f"AgeDB/{name}", identity, label)
    assert row.image.is_file()


def test_agedb_names_that_say_nothing(tmp_path):
    touch(tmp_path, "1_Ann_f.jpg", "Ann_30_f.jpg", "2_Ann_130_f.jpg", "3_Ann_30_f.pts", os.fsdecode(b"4_\xff_30_f.jpg"))
    rows = list(agedb.read(tmp_path))
    assert reasons(rows) == {"name is not N_Name_Age_Gender": 2, "age outside 0 to 120": 1} and len(rows) == 4


CACD = (
    "53_Robin_Williams_0001.jpg",
    "14_Aaron_Johnson_0001.jpg",
    "20_Zo\u00eb_Kravitz_0012.jpg",
    "30_Ann_O'Neal_0001.jpg",
)


def write_meta(mat, names=CACD, ranks=(2, 5, 1, 6), **changes):
    cells = np.empty((len(names), 1), object)
    cells[:, 0] = names
    images = {"name": cells, "rank": np.array(ranks, np.uint8)[:, None], "age": np.full((len(names), 1), 30), **changes}
    people = {"name": cells, "identity": np.arange(len(names))[:, None]}
    savemat(mat, {"celebrityData": people, "celebrityImageData": images})


def test_cacd2000_without_its_meta_data(tmp_path):
    touch(tmp_path, *(f"CACD2000/{name}" for name in CACD), "CACD2000/Robin_Williams_0001.jpg")
    rows = list(cacd2000.read(tmp_path))
    faces = kept(rows)
    robin = faces["CACD2000/53_Robin_Williams_0001.jpg"]
    assert (robin.label, robin.identity) == (exact(UNKNOWN, 53), "Robin_Williams") and robin.image.is_file()
    assert {row.fold for row in faces.values()} == {None} and len(faces) == 4
    assert reasons(rows) == {"name is not AGE_Name_0001": 1}


def test_cacd2000_is_split_by_the_rank_of_the_celebrity(tmp_path):
    write_meta(tmp_path / cacd2000.META)
    # Another photo of a known celebrity; the accent as another file system writes it; one who is not listed.
    touch(tmp_path, *CACD[:2], CACD[3], "21_Zoe\u0308_Kravitz_0002.jpg", "31_Ann_O'Neal_0009.jpg", "9_Nobody_0001.jpg")
    faces = {row.id: row.fold for row in cacd2000.read(tmp_path)}
    assert faces == {
        "53_Robin_Williams_0001.jpg": "val",
        "14_Aaron_Johnson_0001.jpg": "test",
        "21_Zoe\u0308_Kravitz_0002.jpg": "val",
        "30_Ann_O'Neal_0001.jpg": "train",
        "31_Ann_O'Neal_0009.jpg": "train",
        "9_Nobody_0001.jpg": None,
    }


def test_cacd2000_meta_data_elsewhere_missing_or_damaged(tmp_path):
    root = touch(tmp_path / "CACD2000", *CACD)
    mat = tmp_path / "meta.mat"
    options = parse_options(cacd2000, [f"meta={mat}"])
    with pytest.raises(AgedgeError, match="meta.mat: missing"):
        cacd2000.read(root, **options)
    write_meta(mat)
    assert [row.fold for row in cacd2000.read(root, **options)] == ["test", "val", "train", "val"]
    write_meta(mat, rank=np.ones((2, 1)))
    with pytest.raises(AgedgeError, match="meta.mat: 4 name but 2 rank"):
        cacd2000.read(root, **options)
    savemat(mat, {"celebrityImageData": {"age": 1}})
    with pytest.raises(AgedgeError, match="the struct has no field rank, name"):
        cacd2000.read(root, **options)
    mat.write_text("not a Matlab file")
    with pytest.raises(AgedgeError, match="not a Matlab file, or a truncated one"):
        cacd2000.read(root, **options)


def test_namesakes_of_cacd2000_stay_in_one_part(tmp_path):
    write_meta(tmp_path / cacd2000.META, ("20_Ann_Lee_0001.jpg", "50_Ann_Lee_0001.jpg"), (40, 4))
    touch(tmp_path, "20_Ann_Lee_0001.jpg", "50_Ann_Lee_0001.jpg")
    assert {row.fold for row in cacd2000.read(tmp_path)} == {"test"}


LEFT_EYE, RIGHT_EYE, NOSE, LEFT_CORNER, RIGHT_CORNER = (
    (150.5, 200.0),
    (250.0, 195.0),
    (201.0, 250.0),
    (170.0, 300.0),
    (235.0, 298.0),
)


def write_points(file, changes=(), count=68, text="version: 1\nn_points: {count}\n{{\n{lines}\n}}\n"):
    """A .pts file with the face's points where the 68-point scheme has them."""
    points = [(100.0 + i, 100.0 + i) for i in range(68)]
    for index, point in ((31, LEFT_EYE), (36, RIGHT_EYE), (67, NOSE), (48, LEFT_CORNER), (54, RIGHT_CORNER), *changes):
        points[index] = point
    lines = "\n".join(f"{x} {y}" for x, y in points[:count])
    file.parent.mkdir(exist_ok=True)
    file.write_text(text.format(count=count, lines=lines))


def test_fgnet(tmp_path):
    touch(
        tmp_path, "images/001A02.JPG", "images/001A43a.JPG", "images/082A00.jpg", "images/010A07b.jpg", "images/x.jpg"
    )
    touch(tmp_path, "Data_files/readme.jpg.txt")
    write_points(tmp_path / "points/001a02.pts")
    write_points(tmp_path / "points/001A43A.PTS")
    rows = list(fgnet.read(tmp_path))
    faces = kept(rows)
    assert [(row.identity, row.label.age_min) for row in faces.values()] == [
        ("001", 2),
        ("001", 43),
        ("010", 7),
        ("082", 0),
    ]
    assert {row.label.gender for row in faces.values()} == {UNKNOWN}
    assert faces["images/001A02.JPG"].landmarks == (LEFT_EYE, RIGHT_EYE, NOSE, LEFT_CORNER, RIGHT_CORNER)
    assert [row.landmarks is None for row in faces.values()] == [False, False, True, True]
    assert reasons(rows) == {"name is not PERSON A AGE": 1} and fgnet.ALIGN == "set"


@pytest.mark.parametrize(
    "fault",
    [
        {"count": 67},
        {"text": "version: 1\nn_points: 68\n{{\n{lines}\n"},
        {"text": "version: 1\nn_points: 68\n{{\n}}\n"},
        {"text": ""},
        {"text": "\ufffd"},
        {"changes": [(5, ("nan", 3))]},
        {"changes": [(5, ("x", 3))]},
        {"changes": [(31, RIGHT_EYE), (36, LEFT_EYE)]},  # mirrored
        {"changes": [(48, (170, 100)), (54, (235, 98))]},  # upside down
        {"changes": [(31, (0, 0)), (36, (0, 0))]},
    ],
)
def test_a_photo_of_fgnet_with_broken_points_is_kept_without(tmp_path, caplog, fault):
    touch(tmp_path, "images/001A02.JPG", "images/001A03.JPG")
    write_points(tmp_path / "points/001a02.pts", **fault)
    write_points(tmp_path / "points/001a03.pts")
    with caplog.at_level(logging.WARNING):
        broken, good = fgnet.read(tmp_path)
    assert broken.landmarks is None and broken.label == exact(UNKNOWN, 2) and good.landmarks is not None
    assert "photos without landmarks: 1" in caplog.text


def test_fgnet_images_alone(tmp_path, caplog):
    touch(tmp_path, "001A02.JPG")
    assert [row.id for row in fgnet.read(tmp_path)] == ["001A02.JPG"] and "photos without landmarks: 1" in caplog.text
