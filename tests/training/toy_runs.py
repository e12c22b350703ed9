"""Small runs on toy faces, for the tests of training."""

import io
import json
import zipfile
from unittest.mock import patch

import cv2
import numpy as np

import symbols
from agedge.crop import Crop
from agedge.labels import Label, exact
from agedge.records import RecordWriter
from agedge.training.recipe import load_recipe
from agedge.training.run import checkpoint
from agedge.training.run.checkpoint import PARAMS, PICKLED_TRAINER, STATE
from agedge.training.tasks.age_gender import AgeGenderTask, train

SIZE = 32
SMALL = [
    f"network.size={SIZE}",
    "network.stem_stride=2",
    "train.batch_size=16",
    "optimizer.warmup=5",
    "data.threads=1",
    "train.epochs=3",
]


def write_toys(path, count, seed, crop="utkface"):
    """Squares: the brightness is the age, the side of the image the gender; some labels are groups or unknown."""
    rng = np.random.default_rng(seed)
    with RecordWriter(path) as writer:
        for i in range(count):
            age, gender = int(rng.integers(1, 90)), int(rng.integers(0, 2))
            image = rng.integers(0, 30, (SIZE, SIZE, 3), np.uint8)
            image[8:24, 16 * gender : 16 * gender + 16] = 30 + 2.4 * age
            label = Label(gender, age // 10 * 10, age // 10 * 10 + 9) if i % 5 == 1 else exact(gender, age)
            label = Label(-1, age, age) if i % 7 == 2 else label
            writer.write(label, cv2.imencode(".png", image)[1].tobytes())
        writer.info = {"source": "toys", "terms": "none", "crop": Crop.named(crop, SIZE).to_json()}
    return path


def run(folder, toys, *overrides, resume=False, network=None, curves=False):
    """Train, and return the folder and the recipe. `curves`: draw curves.png, which takes as long as all the rest."""
    import mxnet as mx

    recipe = load_recipe(None, [*SMALL, *toys, f"run.dir={folder}", *overrides])
    network = network or symbols.create(**recipe.network)
    plot = AgeGenderTask.plot if curves else draw_nothing
    with patch.object(AgeGenderTask, "plot", staticmethod(plot)):
        return train(network, recipe, [mx.cpu()], resume, progress=False, create=symbols.create), recipe


def draw_nothing(rows, path):
    """In place of a task's `plot`."""


def pack_version_2(network, trainer, state, more=None):
    """As `pack_checkpoint` was in the releases that wrote version 2."""
    import mxnet as mx

    parts = {PARAMS: checkpoint.to_bytes(network.save_parameters)}
    parts[PICKLED_TRAINER] = checkpoint.to_bytes(trainer.save_states)
    for name, arrays in (more or {}).items():
        parts[name] = checkpoint.to_bytes(lambda path, arrays=arrays: mx.nd.save(path, arrays))
    return to_zip({**parts, STATE: json.dumps({**state, "version": 2})})


def to_zip(parts, **options):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", **options) as file:
        for name, part in parts.items():
            file.writestr(name, part)
    return content.getvalue()
