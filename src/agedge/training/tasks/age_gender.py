"""Training a network of ages and genders on .rec files of faces."""

import contextlib
import hashlib
import warnings
from pathlib import Path

import numpy as np

from agedge.errors import AgedgeError
from agedge.evaluation.evaluate import predict_records
from agedge.evaluation.metrics import measure
from agedge.evaluation.plots import plot_curves
from agedge.records import RecordWriter
from agedge.training.data.open_data import open_data
from agedge.training.loop import run
from agedge.training.run.divergence import ADVICE, DivergedError
from agedge.training.run.pretrained import load_pretrained
from agedge.training.task import Batches, Inputs, Measured, Task

ABSURD = 1000  # years: no network that has learnt anything answers such an age
MIXING = 3  # which chance a seed is for, beside those of `order.py`


def train(network, recipe, contexts: list, resume: bool = False, progress: bool = True, create=None) -> Path:
    """Train `network` as the recipe says, on a list of MXNet contexts, into `recipe.run.dir`. Returns that folder.

    See `loop.run`; the best checkpoint has the lowest age MAE on `data.val`. `create(**arguments)` builds the networks
    of teachers, where the recipe has any: `symbols.create`.
    """

    def open_task(*arguments) -> Ages:
        return Ages(*arguments, create, progress)

    return run(open_task, network, recipe, contexts, resume, progress)


class Ages(Task):
    """Faces with an age and a gender each, and what teachers say of them."""

    load, plot = staticmethod(load_pretrained), staticmethod(plot_curves)

    def __init__(self, network, recipe, folder: Path, store, contexts: list, create=None, progress=False):
        from agedge.training.objective import Objective

        self.network, self.recipe, self.store, self.folder = network, recipe, store, folder
        self.size = network.size
        name = "train.rec" if store.is_chief else f"train-worker{store.rank}.rec"
        self.data = open_data(recipe, folder / "cache" / name, network)
        self.count = self.data.count
        self.contexts = contexts
        self.taught = None
        if recipe.distill.teachers:
            self.taught = self._ask_teachers(create, folder / "cache", progress and store.is_chief)
        self.objective = Objective(network, recipe.train.mixup > 0, self.lessons)
        self.predict = None

    def _ask_teachers(self, create, cache: Path, progress: bool):
        """What the teachers say of every face."""
        from agedge.training.distillation.loss import DistillLoss
        from agedge.training.distillation.teacher_outputs import teach
        from agedge.training.distillation.teachers import load_teachers, wanted

        faces, distill = self.data.faces, self.recipe.distill

        def images(first: int, end: int) -> np.ndarray:
            pool, rows = faces.pool(np.arange(first, end))
            return pool[rows][..., :3]

        what = wanted(self.network, distill)
        teachers = load_teachers(create, distill.teachers, self.size, self.contexts, self.data.crop)
        digest = hashlib.sha256(faces.checksums.tobytes()).hexdigest()
        taught = teach(teachers, images, self.count, cache, digest, what, progress)
        self.lessons = DistillLoss(self.network, taught.widths, distill)
        return taught

    @contextlib.contextmanager
    def batches(self, epoch: int, first: int):
        part = (self.store.rank, self.store.workers)
        with self.data.stream(self.recipe, self.size, epoch, first, part) as stream:
            yield Batches(stream, self._complete(stream, epoch, first))

    def _complete(self, stream, epoch: int, first: int):
        """Batches with all that the objective takes: shares of mixed faces, and what teachers say."""
        alpha = self.recipe.train.mixup
        for step, batch in enumerate(stream, first):
            inputs = [batch.data, batch.labels]
            if alpha:
                chance = np.random.default_rng([MIXING, self.recipe.train.seed, epoch, step, self.store.rank])
                shares = chance.beta(alpha, alpha, (len(batch.labels), 1))
                inputs.append(np.maximum(shares, 1 - shares).astype(np.float32))
            if self.taught:
                inputs += self.taught.batch(batch.index, batch.mirrored)
            yield Inputs(tuple(inputs), batch.index)

    def save_batches(self, indices: list, path: Path) -> str:
        if self.data.faces is None:
            return f"{self.data.file.name} (data.cache=native does not say which)"
        path = path.with_suffix(".rec")
        with RecordWriter(path) as writer:
            for face in np.concatenate(indices):
                writer.write_labels(*self.data.faces.record(face))
            writer.info = {"faces": [self.data.faces.where(face) for face in np.concatenate(indices)]}
        return path.name

    def figures(self, sums: np.ndarray) -> dict:
        faces, loss, ages, years_off, genders, right = map(float, sums)
        return {
            "loss": loss / faces,
            "train_age_mae": years_off / ages if ages else None,
            "train_gender_acc": right / genders if genders else None,
        }

    def say(self, figures: dict) -> str:
        return say(figures, "train_")

    def validate(self) -> Measured:
        # Not before the network has its shapes: hybridized blocks cannot learn them.
        self.predict = self.predict or predictor(self.network, self.contexts[0], self.folder)
        files = self.data.val
        answers = predict_records(self.predict, files, self.size, labels=self.data.val_layout, crop=self.data.crop)
        measured = measure(answers.labels, answers.ages, answers.p_male)
        row = {f"val_{key}": measured[key] for key in ("age_mae", "gender_acc")}
        row.update({f"val_adults_{key}": measured["adults"][key] for key in ("age_mae", "gender_acc")})
        text = f"on {', '.join(path.name for path in files)} {say(measured)}"
        return Measured(to_score(measured, files), row, text)


def to_score(measured: dict, files: list) -> float:
    """What the best epoch has least of: the age MAE, or where no age is known or given, wrong genders."""
    if measured["age_mae"] is not None:
        return measured["age_mae"]
    if measured["gender_acc"] is not None:
        return -measured["gender_acc"]
    raise AgedgeError(f"{files[0]}: it knows nothing of what this network answers")


def say(figures: dict, prefix: str = "") -> str:
    """Loss, age MAE and gender accuracy as a line, as far as they are known."""
    forms = (
        ("loss", "loss {:.3f}"),
        (f"{prefix}age_mae", "age MAE {:.2f}"),
        (f"{prefix}gender_acc", "gender {:.1%}"),
    )
    return ", ".join(form.format(figures[key]) for key, form in forms if figures.get(key) is not None)


def predictor(network, context, run="the network"):
    """Return a network as a model to be asked: (n, size, size, 3) BGR uint8 -> `Prediction`.

    That raises `AgedgeError`, which names the `run`, where the network answers anything but numbers, or absurd ages.
    """
    from mxnet import nd

    from agedge.runtime.model import to_network_input
    from agedge.runtime.outputs import decode
    from agedge.training.objective import Inference

    inference = Inference(network)
    inference.hybridize(static_alloc=True)
    most = 0

    def predict(images: np.ndarray):
        nonlocal most
        n, most = len(images), max(len(images), most)
        # A last, smaller batch is filled up: each time the shape changes MXNet plans anew, and takes more memory.
        data = np.zeros((most, 3, *images.shape[1:3]), np.float32)
        data[:n] = to_network_input(images)
        with warnings.catch_warnings():  # MXNet's, of parameters that only the loss needs
            warnings.filterwarnings("ignore", "Parameter .* not used by any computation")
            said = inference(nd.array(data, ctx=context))
        raw = {name: value.asnumpy()[:n] for name, value in zip(network.answers, said)}
        for name, values in raw.items():
            if not np.isfinite(values).all():
                raise DivergedError(f"{run}: diverged: the trained network answers {name} NaN or infinity; {ADVICE}")
        prediction = decode(raw, network.answers)
        if (oldest := np.abs(prediction.age).max(initial=0)) > ABSURD:
            raise DivergedError(f"{run}: diverged: the trained network answers an age of {oldest:.3g} years; {ADVICE}")
        return prediction

    return predict
