"""The plain MTCNN cascade on MXNet (Zhang et al., IEEE SPL 2016): the reference for agedge's own.

Image by image and level by level, an executor a shape, the networks as the paper draws them, crops by OpenCV, boxes and
NMS by NumPy; the same weights and numbers as `agedge.faces.mtcnn`: pyramid, thresholds, rounding of crops.
"""

import cv2
import numpy as np

from agedge.faces.boxes import nms_numpy
from agedge.faces.detector import Faces
from agedge.faces.mtcnn.weights import HEADS, LAYERS, load_weights, name_weights

CELL, STRIDE, FACTOR = 12, 2, 0.709
SIDES = {"rnet": 24, "onet": 48}


class PlainMTCNN:
    """`min_face`: the side, in pixels, of the smallest face to find."""

    def __init__(self, min_face: float = 40, thresholds=(0.6, 0.7, 0.8)):
        self.min_face, self.thresholds = min_face, thresholds
        self.nets = {name: PlainNet(name) for name in LAYERS}

    def detect(self, image: np.ndarray) -> Faces:
        """Return the faces of a BGR uint8 image (h, w, 3), best score first."""
        boxes = self.propose(image)
        offsets, scores = self.run_on_boxes("rnet", image, boxes)
        face = scores[:, 1] > self.thresholds[1]
        boxes, offsets, scores = boxes[face], offsets[face], scores[face, 1]
        kept = nms_numpy(boxes, scores, 0.7)
        boxes = make_square(move(boxes[kept], offsets[kept]))
        offsets, points, scores = self.run_on_boxes("onet", image, boxes)
        face = scores[:, 1] > self.thresholds[2]
        boxes, offsets, points, scores = boxes[face], offsets[face], points[face], scores[face, 1]
        corner, size = boxes[:, None, :2], (boxes[:, 2:] - boxes[:, :2])[:, None]
        landmarks = corner + size * points.reshape(-1, 2, 5).transpose(0, 2, 1)
        boxes = move(boxes, offsets).clip(0, np.tile(image.shape[1::-1], 2))
        return Faces(boxes, scores, landmarks).take(nms_numpy(boxes, scores, 0.7, "min"))

    def propose(self, image: np.ndarray) -> np.ndarray:
        """P-net's square boxes (n, 4)."""
        found, scale = [(np.empty((0, 4)), np.empty(0), np.empty((0, 4)))], CELL / self.min_face
        while min(image.shape[:2]) * scale >= CELL:
            offsets, scores = self.nets["pnet"].run(normalise(shrink(image, scale))[None])
            y, x = np.nonzero(scores[0, 1] > self.thresholds[0])
            corner = np.stack([x, y], axis=1) * STRIDE
            cells, score = np.concatenate([corner, corner + CELL], axis=1), scores[0, 1, y, x]
            kept = nms_numpy(cells, score, 0.5)  # before scaling: many cells overlap by exactly a half
            found.append((cells[kept] / scale, score[kept], offsets[0][:, y, x].T[kept]))
            scale *= FACTOR
        boxes, scores, offsets = map(np.concatenate, zip(*found))
        kept = nms_numpy(boxes, scores, 0.7)
        return make_square(move(boxes[kept], offsets[kept]))

    def run_on_boxes(self, name: str, image: np.ndarray, boxes: np.ndarray) -> list:
        """The outputs of R- or O-net for boxes (n, 4)."""
        if not len(boxes):
            return [np.empty((0, width)) for width in HEADS[name].values()]
        return self.nets[name].run(np.stack([normalise(cut_out(image, box, SIDES[name])) for box in boxes]))


class PlainNet:
    """A network and an executor for every shape that it has seen."""

    def __init__(self, name: str):
        import mxnet as mx

        self.symbol, self.executors = build_symbol(name), {}
        self.weights = {key: mx.nd.array(value) for key, value in name_weights(name, load_weights(name)).items()}

    def run(self, batch: np.ndarray) -> list:
        """The outputs for a batch (n, 3, h, w), RGB, (x - 127.5) / 128: those of `HEADS`, scores as probabilities."""
        import mxnet as mx

        if batch.shape not in self.executors:
            arguments = {**self.weights, "data": mx.nd.zeros(batch.shape)}
            self.executors[batch.shape] = self.symbol.bind(mx.cpu(), arguments, grad_req="null")
        return [output.asnumpy() for output in self.executors[batch.shape].forward(is_train=False, data=batch)]


def build_symbol(name: str):
    """The network as the paper draws it."""
    import mxnet as mx

    x = mx.sym.Variable("data")
    for number, (kind, *arguments) in enumerate(LAYERS[name], 1):
        if kind == "pool":
            kernel, rounding = arguments
            x = mx.sym.Pooling(x, kernel=(kernel,) * 2, stride=(2, 2), pool_type="max", pooling_convention=rounding)
            continue
        if kind == "conv":
            kernel, channels = arguments
            x = mx.sym.Convolution(x, kernel=(kernel,) * 2, num_filter=channels, name=f"layer{number}")
        else:
            x = mx.sym.FullyConnected(x, num_hidden=arguments[0], name=f"layer{number}")
        x = mx.sym.LeakyReLU(x, act_type="prelu", name=f"prelu{number}")
    outputs = []
    for head, width in HEADS[name].items():
        if name == "pnet":
            y = mx.sym.Convolution(x, kernel=(1, 1), num_filter=width, name=head)
        else:
            y = mx.sym.FullyConnected(x, num_hidden=width, name=head)
        outputs.append(mx.sym.softmax(y, axis=1) if head == "score" else y)
    return mx.sym.Group(outputs)


def normalise(image: np.ndarray) -> np.ndarray:
    return (image[..., ::-1].transpose(2, 0, 1).astype(np.float32) - 127.5) / 128


def shrink(image: np.ndarray, scale: float) -> np.ndarray:
    height, width = (int(np.ceil(side * scale)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def move(boxes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    return boxes + offsets * np.tile(boxes[:, 2:] - boxes[:, :2], 2)


def make_square(boxes: np.ndarray) -> np.ndarray:
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def cut_out(image: np.ndarray, box: np.ndarray, side: int) -> np.ndarray:
    """The box of the image at (side, side, 3), the border replicated where it leaves the image."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = np.round(box).astype(int)
    pads = (max(-y1, 0), max(y2 - height, 0), max(-x1, 0), max(x2 - width, 0))
    inside = image[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
    if not inside.size:
        return np.zeros((side, side, 3), np.uint8)
    if any(pads):
        inside = cv2.copyMakeBorder(inside, *pads, cv2.BORDER_REPLICATE)
    interpolation = cv2.INTER_AREA if inside.shape[0] > side else cv2.INTER_LINEAR
    return cv2.resize(inside, (side, side), interpolation=interpolation)
