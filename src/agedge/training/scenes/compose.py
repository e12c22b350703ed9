"""One scene: a background without faces, faces pasted into it at any size, turned, lit, covered, beside each other."""

import contextlib
from dataclasses import dataclass, field
from typing import List, Sequence

import cv2
import numpy as np

from agedge.faces.annotations import Photo
from agedge.faces.boxes import overlaps
from agedge.training.scenes import cover, light
from agedge.training.scenes.cutout import (
    SHARPEST,
    Cutout,
    paste,
    similarity,
    soft_frame,
    soft_oval,
    stretch,
    turn,
    turn_boxes,
)
from agedge.training.scenes.pictures import TRIES, Pictures
from agedge.training.scenes.visible import LEAST, VISIBLE, cut_off, share_of_frame, share_of_mask, share_within

# Kinds of scenes, of what covers a face, and of what is like one and none: how many of a hundred are of each.
KINDS = {"crowd": 16, "group": 34, "portrait": 26, "tiles": 10, "empty": 14}
COVERS = {"": 52, "mask": 26, "glasses": 9, "hand": 5, "thing": 8}
DISTRACTIONS = {"letters": 26, "skin": 28, "thing": 18, "emblem": 18, "shoulders": 10}
CLOSE = 0.15  # share of a face over an earlier one from which it is put elsewhere
COLLAGES = 0.2  # share of scenes whose background is one
PLAIN = 0.12  # share of backgrounds that are walls and skies
NOTICED = 12  # of 255: a pixel that drawing changes by less still shows what it showed
TINY = 4  # pixels: a face that is smaller in its own picture is not worth pasting
LARGE = 2048  # pixels: a larger picture of a face is shrunk to that longer side


@dataclass
class Scene:
    """`image` (size, size, 3) BGR uint8; `boxes` (n, 4), `landmarks` (n, 5, 2) with NaN where not known, `ignored` (n,)
    bool: neither face nor background; `shown` (n,): how much of each box nothing stands before, 0..1; `covers`: what
    was drawn over each face itself, "" where nothing."""

    image: np.ndarray
    boxes: list = field(default_factory=list)
    landmarks: list = field(default_factory=list)
    ignored: List[bool] = field(default_factory=list)
    shown: List[float] = field(default_factory=list)
    covers: List[str] = field(default_factory=list)

    def add(self, boxes, landmarks, ignored, shown, covered="") -> None:
        """Add the faces of a cut-out, the first of which was covered."""
        self.boxes += list(boxes)
        self.landmarks += list(landmarks)
        self.ignored += [bool(neither) for neither in ignored]
        self.shown += [float(share) for share in shown]
        self.covers += [covered, *[""] * len(boxes)][: len(boxes)]

    @contextlib.contextmanager
    def drawing(self):
        """What is drawn meanwhile stands before the faces that the scene has."""
        before = self.image.copy()
        yield
        if self.boxes:
            changed = (cv2.absdiff(before, self.image).max(axis=2) > NOTICED).astype(np.float32)
            for number, box in enumerate(self.boxes):
                self.shown[number] *= 1 - share_of_mask(changed, box) / max(share_of_frame(self.image, box), 1e-6)

    def finish(self) -> tuple:
        """Boxes, landmarks, ignored and covers, as `cut_off` gives them."""
        return cut_off(self.image, self.boxes, self.landmarks, self.ignored, self.shown, self.covers)


class Composer:
    """Composes scenes of `size` pixels from sets of pictures of faces, each set as likely as another, and files of
    backgrounds without any."""

    def __init__(self, faces: Sequence[Sequence[Photo]], backgrounds: Sequence, size: int = 320):
        self.faces, self.backgrounds, self.size = faces, backgrounds, size
        self.pictures = Pictures()

    def compose(self, chance: np.random.Generator) -> Scene:
        """A scene; the same for the same state of `chance`."""
        kind = pick(chance, KINDS)
        scene = Scene(
            self.collage(chance) if chance.random() < COLLAGES else self.background(chance, self.size, self.size)
        )
        if kind == "crowd":
            for side in self.sides(chance, int(chance.integers(4, 13)), 11, 0.16):
                self.place(scene, side, chance)
        elif kind == "group":
            for side in self.sides(chance, int(chance.integers(1, 5)), 22, 0.4):
                self.place(scene, side, chance)
        elif kind == "portrait":
            self.place(scene, self.sides(chance, 1, 60, 1.1)[0], chance, clear=False)
            if chance.random() < 0.25:
                self.place(scene, self.sides(chance, 1, 20, 0.35)[0], chance)
        elif kind == "tiles":
            self.lay_tiles(scene, chance)
        if chance.random() < (0.8 if kind == "empty" else 0.3):
            with scene.drawing():
                self.distract(scene, chance)
        scene.image = light.photograph(scene.image, chance)
        return scene

    def sides(self, chance, count: int, least: float, most: float) -> np.ndarray:
        """Sides of faces, pixels: any ratio is as likely as another, `most` being a share of the scene's size."""
        return np.sort(np.exp(chance.uniform(*np.log([least, max(least, most * self.size)]), count)))

    def background(self, chance, height: int, width: int) -> np.ndarray:
        """(height, width, 3): a piece of one of the backgrounds, mirrored or not; or a wall."""
        if chance.random() < PLAIN:
            return plain(chance, height, width)
        image = self.read_background(chance)
        rows, columns = image.shape[:2]
        share = min(1, chance.uniform(0.35, 1.3))
        high = min(rows, max(8, int(share * min(rows, columns * height / width))))
        wide = min(columns, max(8, int(high * width / height)))
        top, left = int(chance.integers(rows - high + 1)), int(chance.integers(columns - wide + 1))
        piece = image[top : top + high, left : left + wide]
        if chance.random() < 0.5:
            piece = piece[:, ::-1]
        return cv2.resize(piece, (width, height), interpolation=cv2.INTER_LINEAR)

    def collage(self, chance) -> np.ndarray:
        """(size, size, 3): several backgrounds side by side, since they have many small things, seen small."""
        edges = np.round(np.linspace(0, self.size, int(chance.integers(3, 6)))).astype(int)
        sides = np.diff(edges).tolist()
        return np.vstack([np.hstack([self.background(chance, high, wide) for wide in sides]) for high in sides])

    def read_background(self, chance) -> np.ndarray:
        """One of them, as decoded. Raises `AgedgeError` where none can be read."""
        for _ in range(TRIES):
            file = self.backgrounds[chance.integers(len(self.backgrounds))]
            if (image := self.pictures.read_and_keep(file)) is not None:
                return image
        raise self.pictures.none_left(file)

    def patch(self, chance, side: int = 32) -> np.ndarray:
        """(side, side, 3): a small piece of a background."""
        return self.background(chance, side, side)

    def cut(self, chance) -> Cutout:
        """A face as its data set has it, mirrored half of the time, now and then lit anew."""
        cutout = self.read_face(chance)
        if chance.random() < 0.5:
            cutout = cutout.mirrored()
        if chance.random() < 0.7:
            cutout.image = light.light(cutout.image, chance, 0.8)
        if chance.random() < 0.24:  # in the shade or against the light; or in glaring light
            glare = chance.random() < 0.3
            cutout.image = cv2.convertScaleAbs(
                cutout.image, alpha=chance.uniform(*((1.3, 2.2) if glare else (0.2, 0.7)))
            )
        if chance.random() < 0.25:
            cutout.image = light.shade(cutout.image, chance)
        return cutout

    def read_face(self, chance) -> Cutout:
        """A picture that shows its first face, as its data set has it. Raises `AgedgeError` where there is none."""
        for _ in range(TRIES):
            photos = self.faces[chance.integers(len(self.faces))]
            photo = photos[chance.integers(len(photos))]
            if not len(photo) or (image := self.pictures.read(photo.file)) is None:
                continue
            cutout = Cutout(image, photo.boxes.astype(np.float64), photo.landmarks.astype(np.float64), photo.ignored)
            if cutout.side < TINY or share_of_frame(image, cutout.boxes[0]) < VISIBLE:
                reason = f"{photo.file}: its first face is not in the picture, or of under {TINY} pixels"
                self.pictures.leave_out(photo.file, reason)
                continue
            longest = max(image.shape[:2])
            return cutout if longest <= LARGE else cutout.shrunk(SHARPEST * LARGE / longest)[0]
        raise self.pictures.none_left(photo.file)

    def place(self, scene: Scene, side: float, chance, clear: bool = True) -> None:
        """Paste a face of `side` pixels; `clear`: where no other face is."""
        size = self.size
        for _ in range(6):
            # The centre may lie near the border: then a part of the face is cut off.
            margin = chance.uniform(-0.1, 0.6) * side
            centre = chance.uniform(min(margin, size / 2), max(size - margin, size / 2), 2)
            box = np.concatenate([centre - side / 2, centre + side / 2])
            if not clear or not any(share_within(box, other) > CLOSE for other in scene.boxes):
                break
        else:
            return
        cutout = self.cut(chance)
        if chance.random() < 0.3 and side > 24:
            cutout.image = light.blur(cutout.image, chance, cutout.side / 60)
        degrees = chance.normal(0, 14) if chance.random() < 0.9 else chance.uniform(-75, 75)
        cutout, scale = cutout.shrunk(side / cutout.side)
        middle = cutout.boxes[0].reshape(2, 2).mean(axis=0)
        matrix = similarity(middle, centre, scale, degrees)
        if chance.random() < 0.25:  # looking up or down
            matrix = stretch(matrix, middle, chance.uniform(0.75, 1.15))
        dressed = chance.random() < 0.6
        with scene.drawing():
            if dressed:
                self.dress(scene, cutout.boxes[0], skin_of(cutout), matrix, chance)
            if chance.random() < 0.45:
                mask = soft_oval(cutout, chance)
                among = slice(1)  # of the faces in the picture, the oval shows the first
            else:
                mask = soft_frame(cutout, chance.uniform(0, 0.25) if chance.random() < 0.85 else 0)
                among = slice(None)
            paste(scene.image, cutout, mask, matrix)
            boxes, landmarks = turn_boxes(cutout.boxes[among], matrix), turn(cutout.landmarks[among], matrix)
            covered = self.cover(scene, boxes[0], landmarks[0], cutout, chance)
        shown = [share_of_mask(mask, box) for box in cutout.boxes[among]]
        scene.add(boxes, landmarks, cutout.ignored[among], shown, covered)

    def cover(self, scene: Scene, box, landmarks, cutout: Cutout, chance) -> str:
        """Draw something over a face, or nothing; returns what."""
        covered = pick(chance, COVERS)
        if not covered or not np.isfinite(landmarks).all():
            return ""
        frame = cover.Frame(box, landmarks)
        if covered == "mask":
            if chance.random() < 0.25:
                cover.draw_glasses(scene.image, frame, landmarks, chance)
            cover.draw_mask(scene.image, frame, chance, self.patch(chance))
        elif covered == "glasses":
            cover.draw_glasses(scene.image, frame, landmarks, chance)
        elif covered == "hand":
            cover.draw_hand(scene.image, frame, skin_of(cutout), chance)
        else:
            cover.draw_thing(scene.image, frame, self.patch(chance), chance)
        return covered

    def dress(self, scene: Scene, box, skin, matrix, chance) -> None:
        """Neck and shoulders of a colour of skin below a face, so that a face is not told by having none."""
        (x1, y1), (x2, y2) = box.reshape(2, 2)
        wide, high, centre = x2 - x1, y2 - y1, (x1 + x2) / 2
        neck, broad = wide * chance.uniform(0.28, 0.4), wide * chance.uniform(0.9, 1.6)
        chin, collar = y2 - 0.15 * high, y2 + high * chance.uniform(0.1, 0.4)
        drop, hem = collar + high * chance.uniform(0.1, 0.35), y2 + high * chance.uniform(1.2, 3)
        lean = chance.normal(0, 0.1) * wide
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
            (throat, skin * chance.uniform(0.7, 1), None),
            (torso, chance.uniform(0, 255, 3), self.patch(chance) if chance.random() < 0.6 else None),
        ):
            points = turn(np.array(outline) + (centre + lean, 0), matrix)
            cover.fill(scene.image, points, cover.weave(colour, chance, patch))

    def lay_tiles(self, scene: Scene, chance) -> None:
        """Whole pictures side by side, faces with all that surrounds them, some of the tiles without a face."""
        columns = int(chance.integers(1, 5))
        edges = np.round(np.linspace(0, self.size, columns + 1)).astype(int)
        for top, bottom in zip(edges, edges[1:]):
            for left, right in zip(edges, edges[1:]):
                if chance.random() < 0.25:
                    continue
                cutout = self.cut(chance)
                scale = (right - left) / cutout.image.shape[1] * chance.uniform(1, 1.25)
                cutout, scale = cutout.shrunk(scale)
                matrix = similarity(
                    np.array(cutout.image.shape[1::-1]) / 2, np.array([left + right, top + bottom]) / 2, scale, 0
                )
                boxes, landmarks = turn_boxes(cutout.boxes, matrix), turn(cutout.landmarks, matrix)
                frame = np.array([left, top, right, bottom])
                shown = np.array([share_within(box, frame) for box in boxes])
                inside = shown > LEAST
                boxes = np.concatenate(
                    [np.maximum(boxes[:, :2], frame[:2]), np.minimum(boxes[:, 2:], frame[2:])], axis=1
                )
                local = matrix - np.array([[0, 0, left], [0, 0, top]])
                with scene.drawing():
                    tile = scene.image[top:bottom, left:right]
                    tile[:] = cv2.warpAffine(cutout.image, local, tile.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
                    covered = self.cover(scene, boxes[0], landmarks[0], cutout, chance) if inside[0] else ""
                scene.add(boxes[inside], landmarks[inside], cutout.ignored[inside], shown[inside], covered)

    def distract(self, scene: Scene, chance) -> None:
        """Skin without a face, emblems, things and words: ovals, shapes and letters where no face is, and shoulders
        without a head."""
        for _ in range(int(chance.integers(1, 5))):
            side = float(np.exp(chance.uniform(np.log(16), np.log(0.5 * self.size))))
            centre = chance.uniform(0, self.size, 2)
            box = np.concatenate([centre - 0.8 * side, centre + 0.8 * side])
            if scene.boxes and overlaps(box[None], np.array(scene.boxes)).max() > 0:
                continue
            what = pick(chance, DISTRACTIONS)
            if what == "letters":
                cover.write(scene.image, centre, side, chance)
                continue
            if what == "shoulders":
                upright = similarity(np.zeros(2), np.zeros(2), 1, 0)
                above = np.concatenate([centre - (side / 2, 2 * side), centre + (side / 2, -side)])
                self.dress(scene, above, skin_of(self.cut(chance)), upright, chance)
                continue
            angles = np.linspace(0, 2 * np.pi, int(chance.integers(5, 9)), endpoint=False)
            radius = side / 2 * chance.uniform(0.5, 1.1, len(angles))
            outline = centre + radius[:, None] * np.stack(
                [np.cos(angles), np.sin(angles) * chance.uniform(0.7, 1.5)], 1
            )
            if what == "emblem":
                half = self.patch(chance)[:, :16]
                cover.fill(scene.image, cover.curve(outline), np.hstack([half, half[:, ::-1]]))
                continue
            colour, patch = chance.uniform(0, 255, 3), self.patch(chance)
            if what == "skin":
                colour, patch = skin_of(self.cut(chance)), None
            cover.fill(scene.image, cover.curve(outline), cover.weave(colour, chance, patch))


def plain(chance, height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8: a smooth surface, its light and colour going over it."""
    colour = chance.uniform(0, 255) + chance.normal(0, 15, 3)
    lit = colour + chance.normal(0, chance.uniform(2, 25), (3, 3, 1)) + chance.normal(0, 4, (3, 3, 3))
    return cv2.resize(np.clip(lit, 0, 255).astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)


def pick(chance, shares: dict) -> str:
    """One of the names, by their shares."""
    weights = np.array(list(shares.values()), np.float64)
    return list(shares)[chance.choice(len(shares), p=weights / weights.sum())]


def skin_of(cutout: Cutout) -> np.ndarray:
    """(3,) the median colour of a face's middle."""
    x1, y1, x2, y2 = cutout.boxes[0]
    height, width = cutout.image.shape[:2]
    left, right = (int(np.clip(x1 + share * (x2 - x1), 0, width - 1)) for share in (0.3, 0.7))
    top, bottom = (int(np.clip(y1 + share * (y2 - y1), 0, height - 1)) for share in (0.45, 0.7))
    middle = cutout.image[top : bottom + 1 : 3, left : right + 1 : 3].reshape(-1, 3)
    return np.median(middle, axis=0) if len(middle) else np.full(3, 128.0)
