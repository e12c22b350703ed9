"""Where the face is: at its place, by a search, after padding, or as the set aligned it; and which one of several."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from agedge.crop import Crop
from agedge.errors import UsageError
from agedge.faces.detector import Faces
from agedge.labels import exact
from agedge.records import read_records
from rec_tools.packing import landmarks
from rec_tools.packing.crop_faces import BOX, CORNERS, crop_faces
from rec_tools.packing.landmarks import AT_PLACE, FIXED, PADDED, SEARCHED, SET, Place, find_landmarks
from rec_tools.packing.options import Preparation
from rec_tools.packing.pack import pack
from rec_tools.packing.prepare import prepare_all
from rec_tools.packing.split import SplitScheme
from rec_tools.rows import Dropped, Row

POINTS = ((30, 40), (70, 40), (50, 60), (35, 80), (65, 80))


def row(**more):
    return Row("a", Path("a.jpg"), exact(0, 30), **more)


@pytest.fixture(scope="module")
def photo():
    import matplotlib

    return cv2.imread(str(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"))


@pytest.fixture(scope="module")
def true_points(photo):
    return landmarks.get_detector("mtcnn").detect(photo).landmarks[0]


def distance(found, points):
    """The mean distance of landmarks, in shares of the eyes' distance."""
    return np.linalg.norm(found - points, axis=1).mean() / np.linalg.norm(points[0] - points[1])


def chip_about(photo, points, share):
    """A square with the face in its middle, `share` of whose side is the eyes' distance; and the landmarks in it."""
    half = int(np.linalg.norm(points[0] - points[1]) / share / 2)
    x, y = points.mean(axis=0).astype(int)
    return photo[y - half : y + half, x - half : x + half], points - (x - half, y - half)


def test_a_chip_is_looked_at_and_a_photo_is_searched(photo, true_points):
    chip, in_chip = chip_about(photo, true_points, 0.35)
    large = cv2.copyMakeBorder(photo, 100, 0, 900, 0, cv2.BORDER_CONSTANT, value=(90, 90, 90))
    found = find_landmarks([chip, large, photo[:60, :60]], [row()] * 3, "mtcnn")
    assert [place.method for place in found] == [AT_PLACE, SEARCHED, "no face found"]
    assert distance(found[0].landmarks, in_chip) < 0.1
    assert distance(found[1].landmarks, true_points + (900, 100)) < 0.1


def test_the_sets_box_says_where_to_look(photo, true_points):
    both = np.concatenate([photo, photo], axis=1)
    x, y = true_points.mean(axis=0)
    for offset in (0, photo.shape[1]):
        box = (x + offset - 70, y - 80, x + offset + 70, y + 80)
        (place,) = find_landmarks([both], [row(box=box)], "mtcnn")
        assert place.method == AT_PLACE and distance(place.landmarks, true_points + (offset, 0)) < 0.1
    # A box that shows no face: the nearest face that a search finds.
    (place,) = find_landmarks([both], [row(box=(900, 500, 1000, 590))], "mtcnn")
    assert place.method == SEARCHED and distance(place.landmarks, true_points + (photo.shape[1], 0)) < 0.1


def test_a_wild_box_is_not_followed(photo, true_points):
    for box in ((0, 0, 1e9, 1e9), (-1e9, -1e9, 1e9, 1e9), (5e8, 5e8, 6e8, 6e8), (10, 10, 10, 10)):
        (place,) = find_landmarks([photo], [row(box=box)], "mtcnn")
        assert distance(place.landmarks, true_points) < 0.1


class Fake:
    """A detector that finds what it is told to, and nothing at a place."""

    min_face = 40

    def __init__(self, boxes, padded=()):
        self.boxes, self.padded = boxes, padded

    def _faces(self, boxes):
        corners = np.array(boxes, float).reshape(-1, 4)
        points = np.array([corners[:, :2]] * 5).transpose(1, 0, 2) + np.arange(10).reshape(5, 2)
        return Faces(corners, np.full(len(corners), 0.9), points)

    def detect(self, image):
        return self._faces(self.padded)

    def detect_batch(self, images, min_face):
        return [self._faces(self.boxes) for _ in images]

    def detect_at(self, images, boxes):
        return [Faces.empty() for _ in images]


LEFT, MIDDLE, RIGHT = (0, 0, 30, 30), (80, 80, 120, 120), (170, 170, 199, 199)


@pytest.mark.parametrize(
    "faces, box, chosen",
    [
        ("nearest", None, MIDDLE),
        ("nearest", (160, 160, 190, 190), RIGHT),
        ("central", (160, 160, 190, 190), MIDDLE),
        ("drop", None, "several faces"),
    ],
)
def test_which_one_of_several_faces(monkeypatch, faces, box, chosen):
    monkeypatch.setitem(landmarks._detectors, "fake", Fake([LEFT, MIDDLE, RIGHT]))
    (place,) = find_landmarks([np.zeros((200, 200, 3), np.uint8)], [row(box=box)], "fake", faces)
    assert place.method == (chosen if faces == "drop" else SEARCHED)
    assert place.landmarks is None if faces == "drop" else place.landmarks[0].tolist() == [chosen[0], chosen[1] + 1]


def test_tight_chips_are_padded_and_then_taken_as_the_set_aligned_them(monkeypatch):
    image, set_crop = np.zeros((200, 200, 3), np.uint8), Crop.named("utkface", 112)
    monkeypatch.setitem(landmarks._detectors, "padded", Fake([], [(110, 110, 180, 180)]))
    (place,) = find_landmarks([image], [row()], "padded", set_crop=set_crop)
    assert place.method == PADDED and place.landmarks[0].tolist() == [10, 11]  # half a side is taken off again
    monkeypatch.setitem(landmarks._detectors, "blind", Fake([]))
    assert find_landmarks([image], [row()], "blind") == [Place(None, "no face found")]
    (place,) = find_landmarks([image], [row()], "blind", set_crop=set_crop)
    assert place.method == FIXED and np.allclose(place.landmarks, set_crop.points * 200 / 112)


def test_landmarks_of_the_set_need_no_detector():
    preparation = Preparation(size=64, align="mtcnn", crop=Crop.named("arcface", 64))
    (face,) = crop_faces([np.zeros((100, 100, 3), np.uint8)], [row(landmarks=POINTS)], preparation)
    assert face.method == SET and face.image.shape == (64, 64, 3)
    assert np.abs(face.landmarks - preparation.crop.points).max() < 6  # the nearest that a similarity comes to


def test_a_rotated_square_and_a_box_are_cut_out():
    image = np.zeros((100, 100, 3), np.uint8)
    cv2.fillConvexPoly(image, np.array([(50, 10), (90, 50), (50, 90), (10, 50)]), (0, 0, 200))
    cv2.circle(image, (50, 10), 9, (0, 250, 0), -1)  # at the top left of the upright square
    preparation = Preparation(size=40, align="set", crop=Crop.named("arcface", 40))
    (turned,) = crop_faces([image], [row(corners=((50, 10), (90, 50), (50, 90), (10, 50)))], preparation)
    assert turned.method == CORNERS and turned.landmarks is None
    green, red = turned.image[..., 1], turned.image[..., 2]
    assert green[:4, :4].mean() > 200 and red[8:36, 8:36].min() > 180 and green[20:].max() < 20
    wide = crop_faces([image], [row(box=(30, 40, 70, 60))], Preparation(size=40, align="set", margin=1.0))[0]
    assert wide.method == BOX and wide.image[20, 20, 2] == 200 and wide.image[2, 2].max() == 0
    # A box at whole pixels is exactly the pixels in it.
    noise = np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8)
    (exactly,) = crop_faces([noise], [row(box=(10, 20, 42, 52))], Preparation(size=32, align="set"))
    assert (exactly.image == noise[20:52, 10:42]).all()
    flat = crop_faces([noise] * 2, [row(box=(10, 20, 10, 20)), row(landmarks=((5, 5),) * 5)], preparation)
    assert [face.method for face in flat] == ["box of less than 8 pixels", "landmarks that make no face"]
    away = crop_faces(
        [noise] * 2, [row(box=(500, 20, 540, 60)), row(landmarks=((1e9, 5),) * 4 + ((1e9, 9),))], preparation
    )
    assert [face.method for face in away] == ["face outside the image"] * 2
    (nowhere,) = crop_faces([noise], [row()], preparation)
    assert nowhere.image is None and nowhere.method == "the set does not say where the face is"


def test_landmarks_are_kept_and_go_along_with_the_image(tmp_path):
    from rec_tools.records.stored import read_stored

    image = np.full((100, 200, 3), 90, np.uint8)
    for x, y in POINTS:
        cv2.circle(image, (x + 50, y), 3, (0, 0, 255), -1)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    points = tuple((x + 50.0, float(y)) for x, y in POINTS)
    rows = [Row("a", tmp_path / "a.png", exact(0, 3), landmarks=points)]
    for size, align in ((50, "none"), (0, "none"), (64, "set")):
        crop = Crop.named("arcface", size or 112)
        preparation = Preparation(size=size, align=align, crop=crop, quality=100)
        pack(rows, tmp_path / "out", SplitScheme.parse(""), preparation, source="", terms="")
        (stored,) = read_stored(tmp_path / "out/all.rec")
        (record,) = read_records(tmp_path / "out/all.rec")
        for x, y in stored.landmarks:
            blue, green, red = record.image[round(y), round(x)].astype(int)
            assert red > 150 and green < 90


def test_faces_are_turned_upright_by_a_detector(tmp_path, photo):
    turned = cv2.warpAffine(photo, cv2.getRotationMatrix2D((256, 300), 20, 1), photo.shape[1::-1])
    rows = []
    for name, picture in (("a", photo), ("b", turned), ("c", np.full((200, 200, 3), 90, np.uint8))):
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), picture)
        rows.append(Row(name, tmp_path / f"{name}.jpg", exact(0, 60)))
    preparation = Preparation(size=64, align="mtcnn", crop=Crop.named("utkface", 64))
    report = pack(rows, tmp_path / "out", SplitScheme.parse(""), preparation, source="", terms="")
    assert sum(report.methods.values()) == 2 and report.reasons == {"no face found": 1}
    one, other = (record.image.astype(float) for record in read_records(tmp_path / "out/all.rec"))
    # The same face, upright again: what differs is where MTCNN puts its landmarks, by a pixel or so.
    not_upright = cv2.warpAffine(one, cv2.getRotationMatrix2D((32, 32), 20, 1), (64, 64))
    off, far_off = (np.abs(one - face)[16:48, 16:48].mean() for face in (other, not_upright))
    assert off < 0.6 * far_off


def test_batches_of_any_composition_find_the_same(photo, true_points):
    chips = [chip_about(photo, true_points, share)[0] for share in (0.5, 0.4, 0.3, 0.25)]
    together = find_landmarks(chips, [row()] * 4, "mtcnn")
    for place, chip in zip(together, chips):
        (alone,) = find_landmarks([chip], [row()], "mtcnn")
        assert alone.method == place.method and np.allclose(alone.landmarks, place.landmarks, atol=1e-2)


def test_a_size_of_zero_goes_with_whole_images_only():
    with pytest.raises(UsageError, match="size 0 leaves images as they are, but align mtcnn crops faces"):
        Preparation(size=0, align="mtcnn")
    with pytest.raises(UsageError, match="size 3: must be at least 16"):
        Preparation(size=3)
    assert isinstance(prepare_all([Dropped("a", "reason")], Preparation())[0], Dropped)


def test_images_of_any_shape_are_looked_at():
    shapes = ((1, 1), (1, 5000), (5000, 1), (12, 12), (2, 3), (40, 900))
    images = [np.full((*shape, 3), 90, np.uint8) for shape in shapes]
    for faces in ("nearest", "drop"):
        assert {place.method for place in find_landmarks(images, [row()] * 6, "mtcnn", faces)} == {"no face found"}


def test_the_central_face_is_meant_whatever_the_box_says(photo, true_points):
    both = np.concatenate([photo, photo[:, :300]], axis=1)  # the first is nearer to the centre
    x, y = true_points.mean(axis=0) + (photo.shape[1], 0)
    box = (x - 70, y - 80, x + 70, y + 80)
    (nearest,) = find_landmarks([both], [row(box=box)], "mtcnn")
    (central,) = find_landmarks([both], [row(box=box)], "mtcnn", "central")
    assert nearest.landmarks[:, 0].mean() > photo.shape[1] > central.landmarks[:, 0].mean()
