"""The teachers' outputs for every training face: computed once before training, and cached in the run's folder.

They are computed for the face and for its mirror image. Other transforms, such as rotations and colour changes, are not
applied to the teachers' input: the target is always the output for the unchanged face.
"""

import hashlib
import json
import logging
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from agedge.errors import AgedgeError, UsageError
from agedge.safe_write import replacing
from agedge.value_equality import compare_by_value

if TYPE_CHECKING:
    from agedge.training.distillation.teachers import Teacher

log = logging.getLogger(__name__)

BATCH = 64  # faces per batch; each is predicted twice, as it is and mirrored
FORMAT = 1  # of the cache file
# In the order of `loss.TARGETS`. float16 is precise enough for distributions: the values that it rounds to 0 (3e-8)
# become 2e-4 at a temperature of 2. It also suits features, which have variance 1. Ages in years and P(male), which can
# be near 1, need little memory as float32.
STORED_AS = {"ages": np.float16, "age": np.float32, "p_male": np.float32, "features": np.float16}
LARGEST = 6e4  # outputs are clipped to this; the maximum of float16 is 65,504

Arrays = Dict[str, np.ndarray]  # by target


@compare_by_value
@dataclass(frozen=True)
class TeacherOutputs:
    """The teachers' outputs for `count` faces: {target: (count, 2, k)}, for the face and for its mirror image."""

    arrays: Arrays

    @property
    def widths(self) -> Dict[str, int]:
        """Return {target: numbers per face}, the argument of `DistillLoss`."""
        return {name: array.shape[2] for name, array in self.arrays.items()}

    def batch(self, index: np.ndarray, mirrored: np.ndarray) -> Tuple[np.ndarray, ...]:
        """Return the targets of `DistillLoss.term`: (n, k) float32 each, for the faces `index` (n,); those of the
        mirror image where `mirrored` (n,) is True."""
        view = np.asarray(mirrored).astype(np.intp)
        return tuple(array[index, view].astype(np.float32) for array in self.arrays.values())


def compute_outputs(
    teachers: "List[Teacher]",
    images: Callable[[int, int], np.ndarray],
    count: int,
    cache: Path,
    digest: str,
    targets: Sequence[str],
    progress: bool = True,
) -> TeacherOutputs:
    """Run the teachers on every face and its mirror image, or read their outputs from the folder `cache`.

    `images(start, stop)` -> (n, S, S, 3) BGR uint8, of faces 0 .. count - 1; `digest`: a hash of these faces;
    `targets`: the result of `choose_targets`. The outputs of several teachers are averaged, their features
    concatenated. Raises `AgedgeError` if the teachers output none of the targets.
    """
    size = images(0, 1).shape[1]
    key = json.dumps([FORMAT, [teacher.digest for teacher in teachers], digest, count, size, list(targets)])
    file = Path(cache) / f"lessons-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    arrays = read_cache(file, count)
    if arrays is None:
        arrays = run_teachers(teachers, images, count, targets, progress)
        write_cache(file, arrays)
    else:
        log.info("%s: read the outputs of the teachers", file)
    return TeacherOutputs(arrays)


def run_teachers(
    teachers: "List[Teacher]",
    images: Callable[[int, int], np.ndarray],
    count: int,
    targets: Sequence[str],
    progress: bool,
) -> Arrays:
    """Return {target: (count, 2, k)} of all teachers; the arguments are those of `compute_outputs`."""
    from agedge.training.distillation.loss import has_distribution

    for teacher in teachers:
        if "features" in targets and not teacher.network.embeds:
            name = teacher.network.arguments["name"]
            raise UsageError(
                f"distill.hints: '{name}' of the teacher {teacher.name} has no pooled features; set it to 0"
            )
    if "ages" in targets:
        without = [teacher.name for teacher in teachers if not has_distribution(teacher.network)]
        if 0 < len(without) < len(teachers):
            log.warning("%s: no distribution of ages: only the ages of the other teachers are used", ", ".join(without))
    predictors = [teacher.open_predictor("features" in targets) for teacher in teachers]
    arrays: Arrays = {}
    names = ", ".join(teacher.name for teacher in teachers)
    log.info("running %s on %s faces and their mirror images", names, f"{count:,}")
    with tqdm(total=count, desc="teachers", unit="face", leave=False, disable=None if progress else True) as bar:
        for start in range(0, count, BATCH):
            stop = min(start + BATCH, count)
            faces = images(start, stop)
            both = np.concatenate([faces, faces[:, :, ::-1]])
            merged = merge_outputs([predict(both) for predict in predictors], targets)
            if not merged:
                raise AgedgeError(f"distill.teachers: {names} do not predict {', '.join(targets)}")
            for name, values in merged.items():
                if name not in arrays:
                    arrays[name] = np.empty((count, 2, values.shape[1]), STORED_AS[name])
                arrays[name][start:stop, 0], arrays[name][start:stop, 1] = np.split(
                    np.clip(values, -LARGEST, LARGEST), 2
                )
            bar.update(stop - start)
    if "features" in arrays:
        standardise(arrays["features"])
    return arrays


def merge_outputs(outputs: List[Arrays], targets: Sequence[str]) -> Arrays:
    """Merge several teachers' {target: (n, k)}: the mean of each target, and the concatenated features. If any teacher
    has a distribution of ages, the ages of the others are not used."""
    merged: Arrays = {}
    for name in (name for name in STORED_AS if name in targets):
        values = [output[name] for output in outputs if name in output]
        if values and not (name == "age" and "ages" in merged):
            merged[name] = np.concatenate(values, axis=1) if name == "features" else np.mean(values, axis=0)
    return merged


def standardise(features: np.ndarray) -> None:
    """Scale each of the features (N, 2, k) to mean 0 and variance 1, in place; a constant feature becomes 0."""
    rows, step = features.reshape(-1, features.shape[2]), 65536
    chunks = [rows[start : start + step] for start in range(0, len(rows), step)]
    mean = sum(chunk.sum(axis=0, dtype=np.float64) for chunk in chunks) / len(rows)
    square = sum(((chunk - mean) ** 2).sum(axis=0) for chunk in chunks) / len(rows)
    scale = np.where(square > 1e-12, 1 / np.sqrt(np.maximum(square, 1e-12)), 0)
    for chunk in chunks:
        chunk[:] = (chunk - mean) * scale


def read_cache(file: Path, count: int) -> Optional[Arrays]:
    """Return the arrays of a cache file; None if it does not exist, or (with a warning) if it is damaged."""
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in STORED_AS if name in stored.files}
        if arrays and all(array.ndim == 3 and array.shape[:2] == (count, 2) for array in arrays.values()):
            return arrays
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error):
        pass
    log.warning("%s: damaged: the teachers are run again", file)
    return None


def write_cache(file: Path, arrays: Arrays) -> None:
    """Write the outputs to a file. If that fails, log a warning; the run continues without the file."""
    try:
        with replacing(file) as stream:
            np.savez(stream, **arrays)
    except OSError as error:
        log.warning("%s: cannot be written (%s): a resumed run will run the teachers again", file, error.strerror)
