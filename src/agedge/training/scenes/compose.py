"""Composing a scene: faces of any size, rotated, lit and covered, pasted into a background without faces."""

import contextlib
from dataclasses import dataclass, field
from typing import Iterator, List, Sequence

import cv2
import numpy as np

from agedge.faces.annotations import Photo
from agedge.faces.boxes import overlaps
from agedge.training.scenes import cover, light
from agedge.training.scenes.cutout import (
    MIN_SCALE,
    Cutout,
    frame_mask,
    oval_mask,
    paste,
    similarity,
    stretch,
    transform_boxes,
    transform_points,
)
from agedge.training.scenes.images import TRIES, File, ImageReader
from agedge.training.scenes.visible import (
    MIN_INSIDE,
    MIN_VISIBLE,
    Rows,
    SceneFaces,
    clip_faces,
    share_of_frame,
    share_of_mask,
    share_within,
)

# Kinds of scenes, of covers of a face, and of distractions: how many of a hundred are of each.
KINDS = {"crowd": 16, "group": 34, "portrait": 26, "tiles": 10, "empty": 14}
COVERS = {"": 52, "mask": 26, "glasses": 9, "hand": 5, "thing": 8}
DISTRACTIONS = {"letters": 26, "skin": 28, "thing": 18, "emblem": 18, "shoulders": 10}
CLOSE = 0.15  # a face that covers a larger share of an earlier one is put elsewhere
COLLAGES = 0.2  # share of scenes whose background is a collage
PLAIN = 0.12  # share of backgrounds that are walls and skies
NOTICED = 12  # of 255: a pixel that drawing changes by less counts as unchanged
TINY = 4  # pixels: a face that is smaller in its own image is not pasted
LARGE = 2048  # pixels: an image of a face whose longer side is larger is shrunk to that


@dataclass
class Scene:
    """A scene while it is composed.

    `image` (size, size, 3) BGR uint8; `boxes` (n, 4); `landmarks` (n, 5, 2), NaN if unknown; `ignored` (n,) bool:
    neither face nor background; `shown` (n,): the share of each box that nothing hides, 0..1; `covers`: a name for what
    was drawn over each face itself, "" for nothing.
    """

    image: np.ndarray
    boxes: list = field(default_factory=list)
    landmarks: list = field(default_factory=list)
    ignored: List[bool] = field(default_factory=list)
    shown: List[float] = field(default_factory=list)
    covers: List[str] = field(default_factory=list)

    def add(self, boxes: Rows, landmarks: Rows, ignored: Rows, shown: Rows, covered: str = "") -> None:
        """Add the faces of a cutout. `covered` is the cover of the first."""
        self.boxes += list(boxes)
        self.landmarks += list(landmarks)
        self.ignored += [bool(neither) for neither in ignored]
        self.shown += [float(share) for share in shown]
        self.covers += [covered, *[""] * len(boxes)][: len(boxes)]

    @contextlib.contextmanager
    def drawing(self) -> Iterator[None]:
        """Count what is drawn while the context lasts as hiding the faces that the scene already has."""
        before = self.image.copy()
        yield
        if self.boxes:
            changed = (cv2.absdiff(before, self.image).max(axis=2) > NOTICED).astype(np.float32)
            for number, box in enumerate(self.boxes):
                self.shown[number] *= 1 - share_of_mask(changed, box) / max(share_of_frame(self.image, box), 1e-6)

    def finish(self) -> SceneFaces:
        """Return the faces as they are to be found."""
        return clip_faces(self.image, self.boxes, self.landmarks, self.ignored, self.shown, self.covers)


class Composer:
    """Composes scenes of `size` pixels.

    `faces`: datasets of annotated images of faces, each dataset as likely as another; `backgrounds`: files of images
    without a face.
    """

    def __init__(self, faces: Sequence[Sequence[Photo]], backgrounds: Sequence[File], size: int = 320):
        self.faces, self.backgrounds, self.size = faces, backgrounds, size
        self.images = ImageReader()

    def compose(self, rng: np.random.Generator) -> Scene:
        """Compose a scene; the same for the same state of `rng`."""
        kind = pick(rng, KINDS)
        scene = Scene(self.collage(rng) if rng.random() < COLLAGES else self.background(rng, self.size, self.size))
        if kind == "crowd":
            for side in self.sides(rng, int(rng.integers(4, 13)), 11, 0.16):
                self.place(scene, side, rng)
        elif kind == "group":
            for side in self.sides(rng, int(rng.integers(1, 5)), 22, 0.4):
                self.place(scene, side, rng)
        elif kind == "portrait":
            self.place(scene, self.sides(rng, 1, 60, 1.1)[0], rng, clear=False)
            if rng.random() < 0.25:
                self.place(scene, self.sides(rng, 1, 20, 0.35)[0], rng)
        elif kind == "tiles":
            self.lay_tiles(scene, rng)
        if rng.random() < (0.8 if kind == "empty" else 0.3):
            with scene.drawing():
                self.distract(scene, rng)
        scene.image = light.simulate_camera(scene.image, rng)
        return scene

    def sides(self, rng: np.random.Generator, count: int, least: float, most: float) -> np.ndarray:
        """Draw `count` sides of faces in pixels, in ascending order: log-uniform from `least` to the share
        `most` of the scene's side."""
        low, high = np.log([least, max(least, most * self.size)])
        return np.sort(np.exp(rng.uniform(low, high, count)))

    def background(self, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
        """Return (height, width, 3): a crop of one of the backgrounds, mirrored or not; or a plain surface."""
        if rng.random() < PLAIN:
            return plain(rng, height, width)
        image = self.read_background(rng)
        rows, columns = image.shape[:2]
        share = min(1, rng.uniform(0.35, 1.3))
        high = min(rows, max(8, int(share * min(rows, columns * height / width))))
        wide = min(columns, max(8, int(high * width / height)))
        top, left = int(rng.integers(rows - high + 1)), int(rng.integers(columns - wide + 1))
        piece = image[top : top + high, left : left + wide]
        if rng.random() < 0.5:
            piece = piece[:, ::-1]
        return cv2.resize(piece, (width, height), interpolation=cv2.INTER_LINEAR)

    def collage(self, rng: np.random.Generator) -> np.ndarray:
        """Return (size, size, 3): several backgrounds side by side, which have many small objects."""
        edges = np.round(np.linspace(0, self.size, int(rng.integers(3, 6)))).astype(int)
        sides = np.diff(edges).tolist()
        return np.vstack([np.hstack([self.background(rng, high, wide) for wide in sides]) for high in sides])

    def read_background(self, rng: np.random.Generator) -> np.ndarray:
        """Return one of the backgrounds, decoded. Raises `AgedgeError` if none can be read."""
        for _ in range(TRIES):
            file = self.backgrounds[rng.integers(len(self.backgrounds))]
            if (image := self.images.read_cached(file)) is not None:
                return image
        raise self.images.none_readable(file)

    def draw_patch(self, rng: np.random.Generator, side: int = 32) -> np.ndarray:
        """Return (side, side, 3): a small crop of a background."""
        return self.background(rng, side, side)

    def draw_cutout(self, rng: np.random.Generator) -> Cutout:
        """Return a random face; half of them are mirrored, many are lit anew."""
        cutout = self.read_face(rng)
        if rng.random() < 0.5:
            cutout = cutout.mirrored()
        if rng.random() < 0.7:
            cutout.image = light.relight(cutout.image, rng, 0.8)
        if rng.random() < 0.24:  # in shade or against the light; or in glaring light
            glare = rng.random() < 0.3
            cutout.image = cv2.convertScaleAbs(cutout.image, alpha=rng.uniform(*((1.3, 2.2) if glare else (0.2, 0.7))))
        if rng.random() < 0.25:
            cutout.image = light.light_from_side(cutout.image, rng)
        return cutout

    def read_face(self, rng: np.random.Generator) -> Cutout:
        """Return an image that shows its first face, as in its dataset. Raises `AgedgeError` if there is none."""
        for _ in range(TRIES):
            photos = self.faces[rng.integers(len(self.faces))]
            photo = photos[rng.integers(len(photos))]
            if not len(photo) or (image := self.images.read(photo.file)) is None:
                continue
            cutout = Cutout(image, photo.boxes.astype(np.float64), photo.landmarks.astype(np.float64), photo.ignored)
            if cutout.side < TINY or share_of_frame(image, cutout.boxes[0]) < MIN_VISIBLE:
                reason = f"{photo.file}: its first face is outside of the image, or smaller than {TINY} pixels"
                self.images.skip(photo.file, reason)
                continue
            longest = max(image.shape[:2])
            return cutout if longest <= LARGE else cutout.shrunk(MIN_SCALE * LARGE / longest)[0]
        raise self.images.none_readable(photo.file)

    def place(self, scene: Scene, side: float, rng: np.random.Generator, clear: bool = True) -> None:
        """Paste a face of `side` pixels; `clear`: only where no other face is."""
        size = self.size
        for _ in range(6):
            # The centre may lie near the border: then a part of the face is outside.
            margin = rng.uniform(-0.1, 0.6) * side
            centre = rng.uniform(min(margin, size / 2), max(size - margin, size / 2), 2)
            box = np.concatenate([centre - side / 2, centre + side / 2])
            if not clear or not any(share_within(box, other) > CLOSE for other in scene.boxes):
                break
        else:
            return
        cutout = self.draw_cutout(rng)
        if rng.random() < 0.3 and side > 24:
            cutout.image = light.blur(cutout.image, rng, cutout.side / 60)
        degrees = rng.normal(0, 14) if rng.random() < 0.9 else rng.uniform(-75, 75)
        cutout, scale = cutout.shrunk(side / cutout.side)
        middle = cutout.boxes[0].reshape(2, 2).mean(axis=0)
        matrix = similarity(middle, centre, scale, degrees)
        if rng.random() < 0.25:  # looking up or down
            matrix = stretch(matrix, middle, rng.uniform(0.75, 1.15))
        dressed = rng.random() < 0.6
        with scene.drawing():
            if dressed:
                self.dress(scene, cutout.boxes[0], skin_of(cutout), matrix, rng)
            if rng.random() < 0.45:
                mask = oval_mask(cutout, rng)
                among = slice(1)  # the oval shows only the first face of the image
            else:
                mask = frame_mask(cutout, rng.uniform(0, 0.25) if rng.random() < 0.85 else 0)
                among = slice(None)
            paste(scene.image, cutout, mask, matrix)
            boxes, landmarks = (
                transform_boxes(cutout.boxes[among], matrix),
                transform_points(cutout.landmarks[among], matrix),
            )
            covered = self.cover(scene, boxes[0], landmarks[0], cutout, rng)
        shown = [share_of_mask(mask, box) for box in cutout.boxes[among]]
        scene.add(boxes, landmarks, cutout.ignored[among], shown, covered)

    def cover(
        self, scene: Scene, box: np.ndarray, landmarks: np.ndarray, cutout: Cutout, rng: np.random.Generator
    ) -> str:
        """Draw a random cover over a face, or none. Return its name, "" for none."""
        covered = pick(rng, COVERS)
        if not covered or not np.isfinite(landmarks).all():
            return ""
        axes = cover.FaceAxes(box, landmarks)
        if covered == "mask":
            if rng.random() < 0.25:
                cover.draw_glasses(scene.image, axes, landmarks, rng)
            cover.draw_mask(scene.image, axes, rng, self.draw_patch(rng))
        elif covered == "glasses":
            cover.draw_glasses(scene.image, axes, landmarks, rng)
        elif covered == "hand":
            cover.draw_hand(scene.image, axes, skin_of(cutout), rng)
        else:
            cover.draw_object(scene.image, axes, self.draw_patch(rng), rng)
        return covered

    def dress(
        self, scene: Scene, box: np.ndarray, skin: np.ndarray, matrix: np.ndarray, rng: np.random.Generator
    ) -> None:
        """Draw neck and shoulders below a face, so that a detector does not learn that pasted faces have none."""
        (x1, y1), (x2, y2) = box.reshape(2, 2)
        wide, high, centre = x2 - x1, y2 - y1, (x1 + x2) / 2
        neck, broad = wide * rng.uniform(0.28, 0.4), wide * rng.uniform(0.9, 1.6)
        chin, collar = y2 - 0.15 * high, y2 + high * rng.uniform(0.1, 0.4)
        drop, hem = collar + high * rng.uniform(0.1, 0.35), y2 + high * rng.uniform(1.2, 3)
        lean = rng.normal(0, 0.1) * wide
        throat = [(-neck, chin), (neck, chin), (neck * 1.2, drop), (-neck * 1.2, drop)]
        torso = [
            (-neck, collar),
            (neck, collar),
            (broad, drop),
            (broad * 1.05, hem),
            (-broad * 1.05, hem),
            (-broad, drop),
        ]
        for outline, colour, patch in (
            (throat, skin * rng.uniform(0.7, 1), None),
            (torso, rng.uniform(0, 255, 3), self.draw_patch(rng) if rng.random() < 0.6 else None),
        ):
            points = transform_points(np.array(outline) + (centre + lean, 0), matrix)
            cover.fill_outline(scene.image, points, cover.make_cloth(colour, rng, patch))

    def lay_tiles(self, scene: Scene, rng: np.random.Generator) -> None:
        """Lay whole images of faces side by side; some of the tiles have no face."""
        columns = int(rng.integers(1, 5))
        edges = np.round(np.linspace(0, self.size, columns + 1)).astype(int)
        for top, bottom in zip(edges, edges[1:]):
            for left, right in zip(edges, edges[1:]):
                if rng.random() < 0.25:
                    continue
                cutout = self.draw_cutout(rng)
                scale = (right - left) / cutout.image.shape[1] * rng.uniform(1, 1.25)
                cutout, scale = cutout.shrunk(scale)
                matrix = similarity(
                    np.array(cutout.image.shape[1::-1]) / 2, np.array([left + right, top + bottom]) / 2, scale, 0
                )
                boxes, landmarks = transform_boxes(cutout.boxes, matrix), transform_points(cutout.landmarks, matrix)
                frame = np.array([left, top, right, bottom])
                shown = np.array([share_within(box, frame) for box in boxes])
                inside = shown > MIN_INSIDE
                boxes = np.concatenate(
                    [np.maximum(boxes[:, :2], frame[:2]), np.minimum(boxes[:, 2:], frame[2:])], axis=1
                )
                local = matrix - np.array([[0, 0, left], [0, 0, top]])
                with scene.drawing():
                    tile = scene.image[top:bottom, left:right]
                    tile[:] = cv2.warpAffine(cutout.image, local, tile.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
                    covered = self.cover(scene, boxes[0], landmarks[0], cutout, rng) if inside[0] else ""
                scene.add(boxes[inside], landmarks[inside], cutout.ignored[inside], shown[inside], covered)

    def distract(self, scene: Scene, rng: np.random.Generator) -> None:
        """Draw what may be mistaken for a face: skin, emblems, things, letters, shoulders without a head."""
        for _ in range(int(rng.integers(1, 5))):
            side = float(np.exp(rng.uniform(np.log(16), np.log(0.5 * self.size))))
            centre = rng.uniform(0, self.size, 2)
            box = np.concatenate([centre - 0.8 * side, centre + 0.8 * side])
            if scene.boxes and overlaps(box[None], np.array(scene.boxes)).max() > 0:
                continue
            what = pick(rng, DISTRACTIONS)
            if what == "letters":
                cover.draw_letters(scene.image, centre, side, rng)
                continue
            if what == "shoulders":
                upright = similarity(np.zeros(2), np.zeros(2), 1, 0)
                above = np.concatenate([centre - (side / 2, 2 * side), centre + (side / 2, -side)])
                self.dress(scene, above, skin_of(self.draw_cutout(rng)), upright, rng)
                continue
            angles = np.linspace(0, 2 * np.pi, int(rng.integers(5, 9)), endpoint=False)
            radius = side / 2 * rng.uniform(0.5, 1.1, len(angles))
            outline = centre + radius[:, None] * np.stack([np.cos(angles), np.sin(angles) * rng.uniform(0.7, 1.5)], 1)
            if what == "emblem":
                half = self.draw_patch(rng)[:, :16]
                cover.fill_outline(scene.image, cover.smooth_outline(outline), np.hstack([half, half[:, ::-1]]))
                continue
            colour, patch = rng.uniform(0, 255, 3), self.draw_patch(rng)
            if what == "skin":
                colour, patch = skin_of(self.draw_cutout(rng)), None
            cover.fill_outline(scene.image, cover.smooth_outline(outline), cover.make_cloth(colour, rng, patch))


def plain(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return (height, width, 3) uint8: a smooth surface, such as a wall or the sky."""
    colour = rng.uniform(0, 255) + rng.normal(0, 15, 3)
    lit = colour + rng.normal(0, rng.uniform(2, 25), (3, 3, 1)) + rng.normal(0, 4, (3, 3, 3))
    return cv2.resize(np.clip(lit, 0, 255).astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)


def pick(rng: np.random.Generator, shares: dict) -> str:
    """Draw one of the names, by their shares."""
    weights = np.array(list(shares.values()), np.float64)
    return list(shares)[rng.choice(len(shares), p=weights / weights.sum())]


def skin_of(cutout: Cutout) -> np.ndarray:
    """Return the median BGR colour (3,) of a face's middle."""
    x1, y1, x2, y2 = cutout.boxes[0]
    height, width = cutout.image.shape[:2]
    left, right = (int(np.clip(x1 + share * (x2 - x1), 0, width - 1)) for share in (0.3, 0.7))
    top, bottom = (int(np.clip(y1 + share * (y2 - y1), 0, height - 1)) for share in (0.45, 0.7))
    middle = cutout.image[top : bottom + 1 : 3, left : right + 1 : 3].reshape(-1, 3)
    return np.median(middle, axis=0) if len(middle) else np.full(3, 128.0)
