"""Tables with groups of ages: a user's own, FairFace and Adience, with the faults that they are known for."""

import logging
import tarfile
from collections import Counter

import pytest

from agedge.errors import AgedgeError
from agedge.labels import Label, exact
from rec_tools.readers import adience, faces, fairface
from tests.paths import SHARED
from tests.rec_tools.readers.table_folders import lay_out, read

# A user's own faces


def test_two_persons_of_one_photograph(tmp_path):
    lines = ["file;age_min;age_max;gender;fold;race;x1;y1;x2;y2", "p.jpg;20;29;f;train;Black;0;10;50;70"]
    lines += ["p.jpg;40;40;m;;;60;5;99;80", "q.jpg;;;;3.0;;;;;"]
    rows, _ = read(faces, lay_out(tmp_path, {"faces.csv": "\n".join(lines)}))
    assert list(rows) == ["p.jpg#0,10,50,70", "p.jpg#60,5,99,80", "q.jpg"]
    one, other, whole = rows.values()
    assert (one.label, one.fold, one.race, one.box) == (Label(0, 20, 29), "train", "Black", (0, 10, 50, 70))
    assert (other.label, other.fold, other.identity) == (exact(1, 40), None, None)
    assert other.image == one.image == tmp_path / "p.jpg"
    assert (whole.label, whole.fold, whole.box) == (Label(), "3", None)


def test_faults_of_a_users_table_are_named(tmp_path):
    lines = [
        "FILE,Age,gender,fold,x1,y1,x2,y2",
        "a.jpg,5,f,../x,,,,",
        "b.jpg,5,f,val,9,9,1,1",
        "c.jpg,5,f,0,1,2,3,",
        "d.jpg,5",
    ]
    rows, reasons = read(faces, lay_out(tmp_path, {"my.csv": "\n".join(lines)}), f"table={tmp_path / 'my.csv'}")
    assert not rows and reasons == {
        "a.jpg": "fold not understood",
        "b.jpg#9,9,1,1": "box not understood",
        "c.jpg#1,2,3,": "box not understood",
        "my.csv, line 5": "line with cells missing or too many",
    }
    with pytest.raises(AgedgeError, match="needs the columns file and age .* it has file, age_min"):
        read(faces, lay_out(tmp_path, {"faces.csv": "file,age_min\na.jpg,3\n"}))


# FairFace


@pytest.mark.parametrize("place", ["", "fairface-img-margin025-trainval/"])
def test_fairface_as_distributed_with_a_spreadsheets_damage(tmp_path, place, caplog):
    header = "file,age,gender,race,service_test\n"
    train = "train/1.jpg,9-Mar,Male,East Asian,True\ntrain/2.jpg,19-Oct,Female,White,False\n"
    train += "train/3.jpg,30-Mar,Male,White,True\n"
    files = {
        "fairface_label_train.csv": header + train,
        "fairface_label_val.csv": header + "val/1.jpg,more than 70,Female,Latino_Hispanic,True\n",
        f"{place}train/1.jpg": "",
        f"{place}val/1.jpg": "",
    }
    with caplog.at_level(logging.INFO):
        rows, reasons = read(fairface, lay_out(tmp_path, files))
    assert [row.label for row in rows.values()] == [Label(1, 3, 9), Label(0, 10, 19), Label(0, 70, 120)]
    assert [row.fold for row in rows.values()] == ["train", "train", "val"]
    assert rows["train/1.jpg"].race == "East Asian" and rows["train/1.jpg"].image.is_file()
    assert reasons == {"train/3.jpg": "age not understood"} and "2 ages that a spreadsheet" in caplog.text


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="the development faces are not on this machine")
def test_all_of_the_real_fairface_is_read(tmp_path):
    with tarfile.open(SHARED / "data/fairface_dev.tar.gz") as archive:
        table = next(member for member in archive if member.name.endswith("labels.csv"))
        archive.extractall(tmp_path, [table])
    root = tmp_path / "FairFace"
    rows, reasons = read(fairface, root)
    assert not reasons and len(rows) == len((root / "labels.csv").read_text().splitlines()) - 1 > 8000
    groups = Counter((row.label.age_min, row.label.age_max) for row in rows.values())
    assert set(groups) == {*fairface.GROUPS, (70, 120)} and {row.fold for row in rows.values()} == {"train"}
    assert {row.label.gender for row in rows.values()} == {0, 1}


# Adience

ADIENCE_HEADER = (
    "user_id\toriginal_image\tface_id\tage\tgender\tx\ty\tdx\tdy\ttilt_ang\tfiducial_yaw_angle\tfiducial_score\n"
)
ADIENCE_AGES = ["(25, 32)", "(38, 48)", "(8, 23)", "35", "None", "", "(60, 100)"]


def adience_fold(user, ages):
    lines = [
        f"{user}\tphoto{i}_o.jpg\t{i}\t{age}\t{'fmu'[i % 3]}\t0\t414\t1086\t1383\t-115\t30\t17\n"
        for i, age in enumerate(ages)
    ]
    return ADIENCE_HEADER + "".join(lines)


@pytest.mark.parametrize("place", ["", "folds/"])
def test_adience_keeps_odd_ages_and_its_folds(tmp_path, place):
    files = {f"{place}fold_{fold}_data.txt": adience_fold(f"{fold}@N03", ADIENCE_AGES) for fold in range(5)}
    rows, reasons = read(adience, lay_out(tmp_path, {**files, "faces/0@N03/x": "", "aligned/0@N03/x": ""}))
    assert len(rows) == 35 and not reasons
    assert [row.fold for row in rows.values()] == [fold for fold in "01234" for _ in ADIENCE_AGES]
    labels = [row.label for row in rows.values()][:7]
    assert labels == [
        Label(0, 25, 32),
        Label(1, 38, 48),
        Label(-1, 8, 23),
        exact(0, 35),
        Label(1),
        Label(),
        Label(0, 60, 100),
    ]
    row = rows["aligned/1@N03/landmark_aligned_face.2.photo2_o.jpg"]
    assert (row.identity, row.box, row.image) == ("1@N03", None, tmp_path / row.id)
    assert "faces/1@N03/coarse_tilt_aligned_face.2.photo2_o.jpg" in read(adience, tmp_path, "images=faces")[0]


def test_adience_with_its_frontal_faces_only(tmp_path):
    lay_out(tmp_path, {"fold_frontal_3_data.txt": adience_fold("a", ["(0, 2)", "old"]), "faces/a/x": ""})
    rows, reasons = read(adience, tmp_path)
    assert [(row.fold, row.label) for row in rows.values()] == [("3", Label(0, 0, 2))]
    assert list(reasons.values()) == ["age not understood"]
    lay_out(tmp_path, {"fold_3_data.txt": adience_fold("a", ["(0, 2)"] * 3)})
    assert len(read(adience, tmp_path)[0]) == 3 and len(read(adience, tmp_path, "frontal=true")[0]) == 1
    lay_out(tmp_path / "no_images", {"fold_3_data.txt": ADIENCE_HEADER})
    with pytest.raises(AgedgeError, match="neither aligned nor faces"):
        read(adience, tmp_path / "no_images")
