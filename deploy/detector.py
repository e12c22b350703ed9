"""What is a detector's own when it is shipped: images of any size, and nine maps to compare in place of an age."""

import copy
from typing import Dict, List

import numpy as np

from agedge.faces.essh.anchors import CHANNELS
from agedge.faces.essh.card import KINDS, DetectorCard, read_card
from agedge.runtime.model import to_network_input
from agedge.runtime.model_files import read_checkpoint, save_checkpoint
from agedge.runtime.mxnet_executors import ExecutorPool
from deploy import tolerances
from deploy.isolated import ask_batches_apart
from deploy.probe_images import draw_probes
from deploy.slim import slim_checkpoint

SIZES = ((320, 320), (640, 448), (96, 160), (300, 217), (45, 33))  # height, width: whole strides, and odd maps
# Of probabilities, and of deltas in sides of an anchor. After a first epoch of training fp16 moved scores by 1.0e-4 at
# most and deltas, up to 24, by 1.0e-3; CPUs that keep feature maps in fp16 too lose more.
GATES = {**tolerances.GATES, "ncnn-fp16": tolerances.Gate(most=2e-2)}


def slim_detector(model, out) -> DetectorCard:
    """As `deploy.slim.slim_model`, for the folder of a detector that has a card."""
    card = copy.deepcopy(read_card(model))
    checkpoint = read_checkpoint(card.path("mxnet", "symbol"), card.path("mxnet", "params"))
    return save_checkpoint(slim_checkpoint(checkpoint)[0], card, out)


def ask_detector(card: DetectorCard, runtime: str) -> Dict[str, np.ndarray]:
    """What a form of the detector says of drawn pictures of `SIZES` at all places of all maps: score (n, 4), box (n, 8)
    and landmarks (n, 20)."""
    batches = [draw_probes(max(size), 2)[:, : size[0], : size[1]] for size in SIZES]
    answers = ask_mxnet(card, batches) if runtime == "mxnet" else ask_batches_apart(card.folder, runtime, batches)
    said = {kind: [] for kind in KINDS}
    for answer in answers:
        for name, value in answer.items():
            kind = name.rstrip("0123456789")
            channels = dict(zip(KINDS, CHANNELS))[kind]
            said[kind].append(value.reshape(len(value), channels, -1).transpose(0, 2, 1).reshape(-1, channels))
    return {kind: np.concatenate(values) for kind, values in said.items()}


def ask_mxnet(card: DetectorCard, batches) -> List[Dict[str, np.ndarray]]:
    """By output of the card (n, channels, h, w), for each batch (n, H, W, 3) BGR uint8."""
    symbol_file = card.path("mxnet", "symbol")
    pool = ExecutorPool(read_checkpoint(symbol_file, card.path("mxnet", "params")), symbol_file)
    answers = []
    for batch in batches:
        images = to_network_input(batch)
        pool.reserve(images.shape)[:] = images
        answers.append(dict(zip(card.outputs, pool.run(images.shape))))
    return answers
