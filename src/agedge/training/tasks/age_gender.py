"""Train a network for age and gender on .rec files of faces."""

import contextlib
import hashlib
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import numpy as np

from agedge.errors import AgedgeError
from agedge.evaluation.evaluate import predict_records
from agedge.evaluation.metrics import measure
from agedge.evaluation.plots import plot_curves
from agedge.records import RecordWriter
from agedge.run_folder import CACHE
from agedge.runtime.outputs import Prediction
from agedge.training import loop
from agedge.training.data.open_data import open_data
from agedge.training.distributed.kvstore import KVStore
from agedge.training.recipe import Recipe
from agedge.training.run.divergence import ADVICE, DivergedError
from agedge.training.run.pretrained import load_pretrained
from agedge.training.task import BatchIterator, Task, TrainingBatch, Validation

MAX_AGE = 1000  # years; a prediction beyond this means that training has diverged
MIXING = 3  # first number of the seeds of mixup; see `data/sampling.py` for the other seeds


def train(
    network: Any,
    recipe: Recipe,
    contexts: list,
    resume: bool = False,
    progress: bool = True,
    create: Optional[Callable[..., Any]] = None,
) -> Path:
    """Train a network for age and gender on a list of MXNet contexts. Return the folder of the run.

    See `loop.train`; the best checkpoint has the lowest age MAE on `data.val`. `create(**arguments)` builds the
    teachers' networks, if the recipe has teachers; it is `symbols.create`.
    """

    def open_task(*arguments: Any) -> AgeGenderTask:
        return AgeGenderTask(*arguments, create=create, progress=progress)

    return loop.train(open_task, network, recipe, contexts, resume, progress)


class AgeGenderTask(Task):
    """Faces labelled with age and gender and, with distillation, the teachers' outputs for them.

    Attributes:
        data: the open data of the run.
        targets: the teachers' outputs for all faces; None without teachers.
    """

    load, plot = staticmethod(load_pretrained), staticmethod(plot_curves)

    def __init__(
        self,
        network: Any,
        recipe: Recipe,
        folder: Path,
        kvstore: KVStore,
        contexts: list,
        create: Optional[Callable[..., Any]] = None,
        progress: bool = False,
    ):
        from agedge.training.objective import Objective

        self.network, self.recipe, self.kvstore, self.folder = network, recipe, kvstore, folder
        self.size, self.contexts = network.size, contexts
        name = "train.rec" if kvstore.is_chief else f"train-worker{kvstore.rank}.rec"
        file = folder / CACHE / name
        self.data = open_data(recipe.data, network, recipe.train.batch_size, file, recipe.distill.teachers)
        self.count = self.data.count
        self.targets = None
        if recipe.distill.teachers:
            self.targets = self._compute_targets(create, folder / CACHE, progress and kvstore.is_chief)
        self.objective = Objective(network, recipe.train.mixup > 0, self.distill_loss)
        self.predict: Optional[Callable[[np.ndarray], Prediction]] = None

    def _compute_targets(self, create: Any, cache: Path, progress: bool) -> Any:
        """Return the teachers' outputs for every face, and create the loss that learns from them."""
        from agedge.training.distillation.loss import DistillLoss
        from agedge.training.distillation.teacher_outputs import compute_outputs
        from agedge.training.distillation.teachers import choose_targets, load_teachers

        faces, distill = self.data.faces, self.recipe.distill
        assert faces is not None, "open_data refuses teachers with data.cache=native"

        def images(first: int, end: int) -> np.ndarray:
            pool, rows = faces.load(np.arange(first, end))
            return pool[rows][..., :3]

        targets = choose_targets(self.network, distill)
        teachers = load_teachers(create, distill.teachers, self.size, self.contexts, self.data.crop)
        digest = hashlib.sha256(faces.checksums.tobytes()).hexdigest()
        outputs = compute_outputs(teachers, images, self.count, cache, digest, targets, progress)
        self.distill_loss = DistillLoss(self.network, outputs.widths, distill)
        return outputs

    @contextlib.contextmanager
    def batches(self, epoch: int, first: int) -> Iterator[BatchIterator]:
        """See `Task.batches`."""
        share = (self.kvstore.rank, self.kvstore.workers)
        settings = self.recipe.train
        loader = self.data.load_epoch(self.recipe.augment, settings.batch_size, settings.seed, epoch, first, share)
        with loader:
            yield BatchIterator(loader, self._complete(loader, epoch, first))

    def _complete(self, loader: Any, epoch: int, first: int) -> Iterator[TrainingBatch]:
        """Yield batches with all inputs of the objective: also the mixup shares and the teachers' outputs, if used."""
        alpha = self.recipe.train.mixup
        for step, batch in enumerate(loader, first):
            inputs = [batch.data, batch.labels]
            if alpha:
                rng = np.random.default_rng([MIXING, self.recipe.train.seed, epoch, step, self.kvstore.rank])
                shares = rng.beta(alpha, alpha, (len(batch.labels), 1))
                inputs.append(np.maximum(shares, 1 - shares).astype(np.float32))
            if self.targets:
                inputs += self.targets.batch(batch.index, batch.mirrored)
            yield TrainingBatch(tuple(inputs), batch.index)

    def save_batches(self, indices: list, path: Path) -> str:
        """See `Task.save_batches`; the images and labels as a .rec file."""
        if self.data.faces is None:
            return f"{self.data.file.name} (data.cache=native does not give record numbers)"
        path = path.with_suffix(".rec")
        with RecordWriter(path) as writer:
            for face in np.concatenate(indices):
                writer.write_labels(*self.data.faces.read_record(face))
            writer.info = {"faces": [self.data.faces.describe_record(face) for face in np.concatenate(indices)]}
        return path.name

    def metrics(self, sums: np.ndarray) -> Dict[str, Optional[float]]:
        """See `Task.metrics`."""
        faces, loss, ages, years_off, genders, correct = map(float, sums)
        return {
            "loss": loss / faces,
            "train_age_mae": years_off / ages if ages else None,
            "train_gender_acc": correct / genders if genders else None,
        }

    def describe(self, metrics: Dict[str, Any]) -> str:
        """See `Task.describe`."""
        return format_metrics(metrics, "train_")

    def validate(self) -> Validation:
        """See `Task.validate`."""
        # Only now are the network's shapes known; a hybridized block cannot infer them.
        self.predict = self.predict or predictor(self.network, self.contexts[0], self.folder)
        files = self.data.val
        answers = predict_records(self.predict, files, self.size, labels=self.data.val_layout, crop=self.data.crop)
        measured = measure(answers.labels, answers.ages, answers.p_male)
        row = {f"val_{key}": measured[key] for key in ("age_mae", "gender_acc")}
        row.update({f"val_adults_{key}": measured["adults"][key] for key in ("age_mae", "gender_acc")})
        text = f"on {', '.join(path.name for path in files)} {format_metrics(measured)}"
        return Validation(to_score(measured, files), row, text)


def to_score(measured: Dict[str, Any], files: List[Path]) -> float:
    """Return the score (lower is better): the age MAE, or minus the gender accuracy if no age is known or predicted."""
    if measured["age_mae"] is not None:
        return measured["age_mae"]
    if measured["gender_acc"] is not None:
        return -measured["gender_acc"]
    raise AgedgeError(f"{files[0]}: no face has a known label for this network's outputs")


def format_metrics(metrics: Dict[str, Any], prefix: str = "") -> str:
    """Return the known metrics (loss, age MAE, gender accuracy) as one line."""
    forms = (
        ("loss", "loss {:.3f}"),
        (f"{prefix}age_mae", "age MAE {:.2f}"),
        (f"{prefix}gender_acc", "gender {:.1%}"),
    )
    return ", ".join(form.format(metrics[key]) for key, form in forms if metrics.get(key) is not None)


def predictor(network: Any, context: Any, run: Any = "the network") -> Callable[[np.ndarray], Prediction]:
    """Return the function that predicts with a network: (n, size, size, 3) BGR uint8 -> `Prediction`.

    It raises `DivergedError`, which names the `run`, if the network outputs NaN, infinity or ages beyond MAX_AGE.
    """
    from mxnet import nd

    from agedge.runtime.model import to_network_input
    from agedge.runtime.outputs import decode
    from agedge.training.objective import Inference

    inference = Inference(network)
    inference.hybridize(static_alloc=True)
    most = 0

    def predict(images: np.ndarray) -> Prediction:
        nonlocal most
        n, most = len(images), max(len(images), most)
        # A smaller last batch is padded: MXNet plans the graph again for every new shape, and uses more memory.
        data = np.zeros((most, 3, *images.shape[1:3]), np.float32)
        data[:n] = to_network_input(images)
        with warnings.catch_warnings():  # MXNet's warning about parameters that only the loss uses
            warnings.filterwarnings("ignore", "Parameter .* not used by any computation")
            outputs = inference(nd.array(data, ctx=context))
        raw = {name: value.asnumpy()[:n] for name, value in zip(network.answers, outputs)}
        for name, values in raw.items():
            if not np.isfinite(values).all():
                raise DivergedError(f"{run}: diverged: the trained network outputs NaN or infinity as {name}; {ADVICE}")
        prediction = decode(raw, network.answers)
        if (oldest := np.abs(prediction.age).max(initial=0)) > MAX_AGE:
            raise DivergedError(f"{run}: diverged: the trained network outputs an age of {oldest:.3g} years; {ADVICE}")
        return prediction

    return predict
