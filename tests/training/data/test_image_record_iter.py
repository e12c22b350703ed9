"""MXNet's reader: every face once a pass, in RGB; what it does not have is refused."""

import cv2
import numpy as np
import pytest

from agedge.crop import Crop
from agedge.errors import UsageError
from agedge.evaluation.batches import evaluation_batches
from agedge.labels import exact
from agedge.records import RecordWriter, encode, read_crop, read_records
from agedge.training.data.image_record_iter import ImageRecordLoader, prepare_training_file
from agedge.training.recipe import AugmentSection

LAYOUT = "gender,age_min,age_max"


def write_faces(path, count=10, crop="utkface"):
    """`count` grey faces; the age of each is its number."""
    with RecordWriter(path) as writer:
        for i in range(count):
            writer.write(exact(i % 2, i), encode(np.full((32, 32, 3), i, np.uint8)))
        writer.info = {"crop": Crop.named(crop, 32).to_json()}
    return path


def read(path, batch_size, steps, seed=0, augment=None, layout=LAYOUT, **options):
    augment = AugmentSection(**(augment or {}))
    return list(ImageRecordLoader(path, layout, 32, batch_size, augment, seed, 1, steps, threads=2, **options))


def ages(batches):
    return [age for batch in batches for age in batch.labels[:, 1]]


def test_a_pass_shows_every_face_once_in_rgb(tmp_path):
    with RecordWriter(tmp_path / "a.rec") as writer:
        for i in range(40):
            image = np.zeros((32, 32, 3), np.uint8)
            image[..., 2] = 200  # red, in OpenCV's order
            writer.write(exact(1, i), encode(image))
    orders = []
    for seed in (1, 1, 2):
        batches = read(tmp_path / "a.rec", 8, 5, seed)
        orders.append(ages(batches))
        assert sorted(orders[-1]) == list(range(40))
        red, green, blue = batches[0].data.mean(axis=(0, 2, 3))
        assert red > 190 and green < 10 and blue < 10 and batches[0].data.shape == (8, 3, 32, 32)
        assert (batches[0].index == -1).all() and batches[0].mirrored is None
    assert orders[0] == orders[1] != orders[2]


def test_it_goes_on_where_it_stopped(tmp_path):
    path = write_faces(tmp_path / "a.rec", 40)
    assert ages(read(path, 8, 5, first=3)) == ages(read(path, 8, 5))[24:]
    with ImageRecordLoader(path, LAYOUT, 32, 8, AugmentSection(), 0, 1, 5) as loader:
        next(loader)
        loader.close()
        assert list(loader) == [] and loader.waited > 0


def test_parts_share_the_faces_out(tmp_path):
    path = write_faces(tmp_path / "a.rec", 40)
    first, second = (ages(read(path, 10, 4, part=(i, 2))) for i in range(2))
    assert len(first) == len(second) == 20 and set(first) | set(second) == set(range(40))
    assert len(ages(read(path, 10, 6, part=(0, 2)))) == 30, "goes on with another pass"


def test_augmentation_changes_faces_and_keeps_labels(tmp_path):
    rng = np.random.default_rng(0)
    with RecordWriter(tmp_path / "a.rec") as writer:
        image = cv2.resize(rng.integers(0, 255, (6, 6, 3), np.uint8), (32, 32))
        for _ in range(8):
            writer.write(exact(1, 20), encode(image))
    assert np.ptp(read(tmp_path / "a.rec", 8, 1)[0].data, axis=0).max() == 0
    changes = {"mirror": 0.5, "rotate": 20, "shear": 0.3, "scale": 0.2, "shift": 0.1, "brightness": 0.4, "noise": 0.2}
    for key, value in changes.items():
        (batch,) = read(tmp_path / "a.rec", 8, 1, augment={key: value})
        assert np.ptp(batch.data, axis=0).max() > 5, key
        assert (batch.labels == [1, 20, 20]).all()


@pytest.mark.parametrize("key", ["blur", "jpeg", "cutout", "grey"])
def test_transforms_that_the_reader_does_not_have_are_refused(tmp_path, key):
    with pytest.raises(UsageError, match=rf"augment.{key}=0.1: .*data.cache=native"):
        read(tmp_path / "a.rec", 8, 1, augment={key: 0.1})


@pytest.mark.parametrize("layout, numbers", [("gender,age", [1, 33]), ("age,gender", [33, 1])])
def test_labels_of_older_tools_and_invalid_labels(tmp_path, layout, numbers):
    with RecordWriter(tmp_path / "a.rec") as writer:
        for label in (numbers, [-7, 999]):
            writer.write_labels(np.array(label), encode(np.zeros((32, 32, 3), np.uint8)))
    (batch,) = read(tmp_path / "a.rec", 2, 1, layout=layout)
    assert sorted(batch.labels.tolist()) == [[-1, -1, -1], [1, 33, 33]]


def test_it_sees_the_same_square_of_an_oblong_image_as_evaluation(tmp_path):
    image = np.full((64, 96, 3), 255, np.uint8)
    image[:, 16:80] = 90
    with RecordWriter(tmp_path / "a.rec") as writer:
        writer.write(exact(0, 1), cv2.imencode(".png", image)[1].tobytes())
    (seen,) = evaluation_batches(tmp_path / "a.rec", 32)
    assert read(tmp_path / "a.rec", 1, 1)[0].data.max() == seen.images.max() == 90


def test_bad_images_are_left_out_and_named(tmp_path, caplog):
    with RecordWriter(tmp_path / "a.rec") as writer:
        for i in range(20):
            writer.write(exact(0, i), b"this is text" if i == 5 else encode(np.full((32, 32, 3), i, np.uint8)))
    file, count, layout = prepare_training_file([tmp_path / "a.rec"], tmp_path / "cache.rec")
    assert count == 19 and "1 records are not images and are left out: 5" in caplog.text
    assert sorted(ages(read(file, 19, 1, layout=layout))) == [i for i in range(20) if i != 5]


def test_several_files_are_one(tmp_path, caplog):
    first, second = write_faces(tmp_path / "a.rec", 4), write_faces(tmp_path / "b.rec", 6, crop="arcface")
    file, count, _ = prepare_training_file([first, second], tmp_path / "cache.rec")
    assert count == 10 == len(list(read_records(file))) and read_crop(file).same_as(Crop.named("utkface", 32))
    assert "b.rec: its faces have a different crop" in caplog.text
