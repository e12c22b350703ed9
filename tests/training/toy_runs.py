"""Small runs on toy faces, for the tests of training."""

import cv2
import numpy as np

import symbols
from agedge.faces.crop import Crop
from agedge.labels import Label, exact
from agedge.records import RecordWriter
from agedge.training.ages import train
from agedge.training.recipe import load_recipe

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


def run(folder, toys, *overrides, resume=False, network=None):
    import mxnet as mx

    recipe = load_recipe(None, [*SMALL, *toys, f"run.dir={folder}", *overrides])
    network = network or symbols.create(**recipe.network)
    return train(network, recipe, [mx.cpu()], resume, progress=False, create=symbols.create), recipe
