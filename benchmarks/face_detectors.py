"""The detectors that benchmarks/faces.py compares, each in a process of its own, on one thread.

As a program (`python -m benchmarks.face_detectors NAME`, which needs NumPy and OpenCV beside what the detector itself
does, not this project's environment) it answers requests, lines of JSON on stdin, with lines of JSON on stdout:
{"image": FILE.npy, "repeats": 3} with the milliseconds of each repeat and the faces, {} with the memory held.
"""

import os

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
os.environ.update({name: "1" for name in (*THREADS, "TF_NUM_INTEROP_THREADS")}, TF_CPP_MIN_LOG_LEVEL="3")

import json  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
import types  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from agedge.errors import AgedgeError  # noqa: E402
from agedge.faces.detection import create_detector  # noqa: E402
from agedge.faces.detector import Faces  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
MEGABYTE = 1e6
KEYPOINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")


class FacenetPytorch:
    """MTCNN of the facenet-pytorch package."""

    def __init__(self, min_face: float):
        import torch

        torch.set_num_threads(1)
        replace_torchvision()
        from facenet_pytorch import MTCNN

        self.detector = MTCNN(keep_all=True, min_face_size=min_face, device="cpu")

    def detect(self, image: np.ndarray) -> Faces:
        boxes, scores, landmarks = self.detector.detect(np.ascontiguousarray(image[..., ::-1]), landmarks=True)
        return Faces.empty() if boxes is None else sort_faces(boxes, scores, landmarks)


def replace_torchvision() -> None:
    """Where torchvision does not load (its wheels on PyPI want a CUDA build of torch), what facenet-pytorch takes from
    it, the non-maximum suppression of one image, is OpenCV's."""
    try:
        import torchvision.ops  # noqa: F401

        return
    except (ImportError, RuntimeError):
        import torch

    def batched_nms(boxes, scores, images, threshold):
        sides = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        kept = cv2.dnn.NMSBoxes(sides.tolist(), scores.tolist(), 0.0, threshold)
        return torch.as_tensor(np.asarray(kept, np.int64).reshape(-1))

    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional", "torchvision.ops")
    modules = {name: types.ModuleType(name) for name in (*names, "torchvision.ops.boxes")}
    modules["torchvision.transforms"].functional = modules["torchvision.transforms.functional"]
    modules["torchvision.ops.boxes"].batched_nms = batched_nms
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    sys.modules.update(modules)


class MtcnnPackage:
    """The `mtcnn` package, on TensorFlow."""

    def __init__(self, min_face: float):
        from mtcnn import MTCNN

        self.detector, self.min_face = MTCNN(device="CPU:0"), min_face

    def detect(self, image: np.ndarray) -> Faces:
        found = self.detector.detect_faces(np.ascontiguousarray(image[..., ::-1]), min_face_size=self.min_face)
        boxes = np.array([face["box"] for face in found], np.float64).reshape(-1, 4)  # x, y, width, height
        boxes[:, 2:] += boxes[:, :2]
        landmarks = [[face["keypoints"][name] for name in KEYPOINTS] for face in found]
        return sort_faces(boxes, [face["confidence"] for face in found], landmarks)


class YuNet:
    """OpenCV's FaceDetectorYN with its own defaults, and a network from a file."""

    def __init__(self, file: str):
        if not Path(file).is_file():
            raise AgedgeError(f"{file}: no such file")
        self.detector = cv2.FaceDetectorYN.create(file, "", (320, 320))

    def detect(self, image: np.ndarray) -> Faces:
        self.detector.setInputSize(image.shape[1::-1])
        rows = self.detector.detect(image)[1]
        if rows is None:
            return Faces.empty()
        boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
        return sort_faces(boxes, rows[:, 14], rows[:, 4:14])


def sort_faces(boxes, scores, landmarks) -> Faces:
    faces = Faces(boxes, scores, landmarks)
    return faces.take(np.argsort(-faces.scores, kind="stable"))


def create(kind: str, option: str):
    """A detector by its kind and its one option: the smallest face in pixels, or a file or folder."""
    if kind == "mtcnn":
        return create_detector("mtcnn", min_face=float(option))
    if kind == "essh":
        return create_detector("essh", **({"folder": option} if option else {}))
    if kind == "plain":
        from benchmarks.plain_mtcnn import PlainMTCNN

        return PlainMTCNN(min_face=float(option))
    if kind == "yunet":
        return YuNet(option)
    return {"facenet-pytorch": FacenetPytorch, "mtcnn-package": MtcnnPackage}[kind](int(option))


@dataclass
class Worker:
    """A detector in a process of its own. `python` runs it; raises `AgedgeError` where it cannot be made there."""

    kind: str
    option: str
    python: str = sys.executable

    def __post_init__(self):
        paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
        try:
            self.process = subprocess.Popen(
                [self.python, "-m", "benchmarks.face_detectors", self.kind, self.option],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": paths},
                text=True,
            )
        except OSError as error:
            raise AgedgeError(f"{self.kind}: {self.python}: {error.strerror}") from None
        self._read()

    def detect(self, file: Path, repeats: int = 1) -> tuple:
        """`Faces` of an image, BGR uint8 in a .npy, and the milliseconds (repeats,) that it took."""
        answer = self._request(image=str(file), repeats=repeats)
        return Faces(*answer["faces"]), answer["ms"]

    def memory(self) -> float:
        """Megabytes that the process holds."""
        return self._request()["memory"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()

    def _request(self, **request) -> dict:
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
        except OSError:
            raise AgedgeError(f"{self.kind}: its process ended") from None
        return self._read()

    def _read(self) -> dict:
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": "its process ended"}
        if "error" in answer:
            raise AgedgeError(f"{self.kind}: {answer['error']}")
        return answer


def serve(kind: str, option: str) -> None:
    """Create a detector, report that it is ready, and answer requests until there are no more."""
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print as they like

    def answer(**values) -> None:
        print(json.dumps(values), file=answers, flush=True)

    cv2.setNumThreads(1)
    try:
        detector = create(kind, option)
        detector.detect(np.zeros((64, 64, 3), np.uint8))  # some load their weights here
    except Exception as error:  # whatever it is that does not install
        answer(error=" ".join(str(error).split()) or type(error).__name__)
        return
    answer(ready=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "image" not in request:
            answer(memory=resident())
            continue
        image, taken = np.load(request["image"]), []
        for _ in range(request["repeats"]):
            started = time.perf_counter()
            faces = detector.detect(image)
            taken.append((time.perf_counter() - started) * 1e3)
        answer(ms=taken, faces=[getattr(faces, name).tolist() for name in ("boxes", "scores", "landmarks")])


def resident() -> float:
    """Megabytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MEGABYTE


if __name__ == "__main__":
    serve(*sys.argv[1:])
