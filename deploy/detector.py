"""Slim and run a detector for its export: images of any size, and nine maps to compare instead of an age."""

import copy
from pathlib import Path
from typing import Dict, List, Sequence, Union

import numpy as np

from agedge.faces.essh.anchors import CHANNELS
from agedge.faces.essh.card import KINDS, read_card
from agedge.runtime.card import Card
from agedge.runtime.model import to_network_input
from agedge.runtime.model_files import Checkpoint, read_checkpoint, save_checkpoint
from agedge.runtime.mxnet_executors import ExecutorPool
from deploy import tolerances
from deploy.isolated import RawOutputs, run_batches_isolated
from deploy.probe_images import draw_probes
from deploy.slim import SlimModel, slim_checkpoint

SIZES = ((320, 320), (640, 448), (96, 160), (300, 217), (45, 33))  # height, width: whole strides, and odd maps
# Of probabilities, and of deltas in sides of an anchor. After a first epoch of training fp16 moved scores by 1.0e-4 at
# most and deltas, up to 24, by 1.0e-3; CPUs that keep feature maps in fp16 too lose more.
TOLERANCES = {**tolerances.TOLERANCES, "ncnn-fp16": tolerances.Tolerance(most=2e-2)}


def slim_detector(model: Union[str, Path], folder: Path) -> SlimModel:
    """Write the slim MXNet files of a detector that has a card into `folder`, as `deploy.slim.slim_into` does."""
    card = copy.deepcopy(read_card(model))
    source = read_checkpoint(card.path("mxnet", "symbol"), card.path("mxnet", "params"))
    checkpoint = slim_checkpoint(source)[0]
    save_checkpoint(checkpoint, card, folder)
    return SlimModel(folder, card, checkpoint, collect_maps(run_mxnet(card, checkpoint, draw_batches())))


def run_exported(slim: SlimModel, runtime: str) -> Dict[str, np.ndarray]:
    """Run an exported format of a detector on the drawn images, and return its maps as `collect_maps` does."""
    return collect_maps(run_batches_isolated(slim.folder, runtime, draw_batches()))


def draw_batches() -> List[np.ndarray]:
    """Draw two images (2, h, w, 3) BGR uint8 of each of the `SIZES`."""
    return [draw_probes(max(size), 2)[:, : size[0], : size[1]] for size in SIZES]


def collect_maps(results: Sequence[RawOutputs]) -> Dict[str, np.ndarray]:
    """Join the maps of all strides and batches: score (n, 4), box (n, 8) and landmarks (n, 20) at all n places."""
    joined: Dict[str, List[np.ndarray]] = {kind: [] for kind in KINDS}
    widths = dict(zip(KINDS, CHANNELS))
    for result in results:
        for name, value in result.items():
            kind = name.rstrip("0123456789")
            channels = widths[kind]
            joined[kind].append(value.reshape(len(value), channels, -1).transpose(0, 2, 1).reshape(-1, channels))
    return {kind: np.concatenate(values) for kind, values in joined.items()}


def run_mxnet(card: Card, checkpoint: Checkpoint, batches: Sequence[np.ndarray]) -> List[RawOutputs]:
    """Run a detector's network in MXNet on batches (n, h, w, 3) BGR uint8.

    Returns {output: (n, channels, h, w)} for each batch.
    """
    pool = ExecutorPool(checkpoint, card.path("mxnet", "symbol"))
    results: List[RawOutputs] = []
    for batch in batches:
        images = to_network_input(batch)
        pool.reserve(images.shape)[:] = images
        results.append(dict(zip(card.outputs, pool.run(images.shape))))
    return results
