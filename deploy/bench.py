"""Measure milliseconds per face at batch 1 on one thread, for every format of a model.

The formats take turns, so that other load on the machine affects all of them equally.
"""

import time
from pathlib import Path
from typing import Dict, List, Optional, Union

import numpy as np

from agedge.runtime.card import Card, load_card
from agedge.runtime.model import RUNTIMES, open_model
from agedge.runtime.model_files import find_model
from deploy.probe_images import draw_probes

WARM_UP = 10


def time_runtimes(
    model: Union[str, Path], exported: Optional[Union[str, Path]] = None, repeats: int = 200, trust: bool = False
) -> Dict[str, float]:
    """Return {runtime: median milliseconds per face} of the model's own files and of those in the folder `exported`.

    The time is from the BGR image to the raw outputs. MXNet runs on one thread only if it was not loaded before.
    `trust`: as for `load_model`.
    """
    cards: Dict[str, Card] = {}
    sources = [find_model(model)] + ([load_card(exported)] if exported else [])
    for card in sources:
        card.trusted = trust
        cards.update({runtime: card for runtime in RUNTIMES if runtime in card.files})
    models = {runtime: open_model(card, runtime, threads=1) for runtime, card in cards.items()}
    face = draw_probes(sources[0].input["size"], count=1)
    times: Dict[str, List[float]] = {runtime: [] for runtime in models}
    for turn in range(WARM_UP + repeats):
        for runtime, opened in models.items():
            start = time.perf_counter()
            opened.raw_outputs(face)
            if turn >= WARM_UP:
                times[runtime].append(time.perf_counter() - start)
    return {runtime: 1000 * float(np.median(seconds)) for runtime, seconds in times.items()}
