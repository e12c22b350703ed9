"""What teachers say of every training face, asked once before the training begins and kept beside the run.

They are asked about the face as it is and about its mirror image. Turns, shifts and colours that a training makes of it
are not asked about: what is said of the face as it is stands for them all.
"""

import hashlib
import json
import logging
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Optional, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from agedge.errors import AgedgeError, UsageError
from agedge.safe_write import replacing
from agedge.value_equality import compare_by_value

log = logging.getLogger(__name__)

BATCH = 64  # faces that are asked about together, each twice
FORMAT = 1  # of the file of lessons
# In the order of `distill_loss.ORDER`. At a temperature of 2, what float16 takes for 0 (3e-8) is softened to 2e-4: it
# holds distributions well. Features are of variance 1. Ages in years and P(male), which can be near 1, are few.
STORED_AS = {"ages": np.float16, "age": np.float32, "p_male": np.float32, "features": np.float16}
LARGEST = 6e4  # float16 ends at 65,504


@compare_by_value
@dataclass(frozen=True)
class Lessons:
    """What teachers said of `count` faces: {what: (count, 2, k)}, of a face and of its mirror image."""

    parts: Dict[str, np.ndarray]

    @property
    def widths(self) -> Dict[str, int]:
        """{what is taught: numbers a face}, as `DistillLoss` takes it."""
        return {name: part.shape[2] for name, part in self.parts.items()}

    def batch(self, index: np.ndarray, mirrored: np.ndarray) -> Tuple[np.ndarray, ...]:
        """Lessons (n, k) float32 of the faces `index` (n,), of the mirror image where `mirrored` (n,), for
        `DistillLoss.term`."""
        view = np.asarray(mirrored).astype(np.intp)
        return tuple(part[index, view].astype(np.float32) for part in self.parts.values())


def teach(
    teachers: list, images: Callable, count: int, cache: Path, digest: str, what: Sequence[str], progress: bool = True
) -> Lessons:
    """Ask teachers about every face and its mirror image, or read what they said before from the folder `cache`.

    `images(start, stop)` -> (n, S, S, 3) BGR uint8, of faces 0 .. count - 1; `digest`: of these; `what`: as `wanted`
    gives it. Of several teachers the mean is taught, and all of their features. Raises `AgedgeError` where they say
    nothing of `what`.
    """
    size = images(0, 1).shape[1]
    key = json.dumps([FORMAT, [teacher.digest for teacher in teachers], digest, count, size, list(what)])
    file = Path(cache) / f"lessons-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    parts = read_lessons(file, count)
    if parts is None:
        parts = ask_all(teachers, images, count, what, progress)
        write_lessons(file, parts)
    else:
        log.info("%s: what the teachers said", file)
    return Lessons(parts)


def ask_all(teachers: list, images: Callable, count: int, what: Sequence[str], progress: bool) -> dict:
    """{what: (count, 2, k)} of all teachers."""
    from agedge.training.distillation.loss import has_distribution

    for teacher in teachers:
        if "features" in what and not teacher.network.embeds:
            name = teacher.network.arguments["name"]
            raise UsageError(f"distill.hints: '{name}' of the teacher {teacher.name} has no pooled features; give 0")
    if "ages" in what:
        silent = [teacher.name for teacher in teachers if not has_distribution(teacher.network)]
        if 0 < len(silent) < len(teachers):
            log.warning("%s: no distribution of ages: only those of the other teachers are taught", ", ".join(silent))
    askers = [teacher.asker("features" in what) for teacher in teachers]
    parts = {}
    names = ", ".join(teacher.name for teacher in teachers)
    log.info("asking %s about %s faces and their mirror images", names, f"{count:,}")
    with tqdm(total=count, desc="teachers", unit="face", leave=False, disable=None if progress else True) as bar:
        for start in range(0, count, BATCH):
            stop = min(start + BATCH, count)
            faces = images(start, stop)
            both = np.concatenate([faces, faces[:, :, ::-1]])
            said = join([ask(both) for ask in askers], what)
            if not said:
                raise AgedgeError(f"distill.teachers: {names} say nothing of {', '.join(what)}")
            for name, value in said.items():
                if name not in parts:
                    parts[name] = np.empty((count, 2, value.shape[1]), STORED_AS[name])
                parts[name][start:stop, 0], parts[name][start:stop, 1] = np.split(np.clip(value, -LARGEST, LARGEST), 2)
            bar.update(stop - start)
    if "features" in parts:
        standardise(parts["features"])
    return parts


def join(answers: list, what: Sequence[str]) -> dict:
    """One answer (n, k) of several teachers' {what: (n, k)}: their mean; all features side by side. Where any has a
    distribution of ages, the ages of the others are left out."""
    said = {}
    for name in (name for name in STORED_AS if name in what):
        values = [answer[name] for answer in answers if name in answer]
        if values and not (name == "age" and "ages" in said):
            said[name] = np.concatenate(values, axis=1) if name == "features" else np.mean(values, axis=0)
    return said


def standardise(features: np.ndarray) -> None:
    """Make each of the features (N, 2, k), in place, of mean 0 and variance 1; one that never changes becomes 0."""
    rows, step = features.reshape(-1, features.shape[2]), 65536
    chunks = [rows[start : start + step] for start in range(0, len(rows), step)]
    mean = sum(chunk.sum(axis=0, dtype=np.float64) for chunk in chunks) / len(rows)
    square = sum(((chunk - mean) ** 2).sum(axis=0) for chunk in chunks) / len(rows)
    scale = np.where(square > 1e-12, 1 / np.sqrt(np.maximum(square, 1e-12)), 0)
    for chunk in chunks:
        chunk[:] = (chunk - mean) * scale


def read_lessons(file: Path, count: int) -> Optional[dict]:
    """What `write_lessons` wrote, or None where it has to be made, with a line where the file is damaged."""
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as stored:
            parts = {name: stored[name] for name in STORED_AS if name in stored.files}
        if parts and all(part.ndim == 3 and part.shape[:2] == (count, 2) for part in parts.values()):
            return parts
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error):
        pass
    log.warning("%s: damaged: the teachers are asked again", file)
    return None


def write_lessons(file: Path, parts: dict) -> None:
    """Write them, whole. Where that fails the run goes on without the file."""
    try:
        with replacing(file) as stream:
            np.savez(stream, **parts)
    except OSError as error:
        log.warning("%s: cannot be written (%s): a resumed run will ask the teachers again", file, error.strerror)
