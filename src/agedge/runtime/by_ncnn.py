"""Run a network in ncnn's .param and .bin, in fp32 or with weights stored in fp16, one image at a time."""

from typing import Dict, List, Optional

import numpy as np

from agedge.errors import AgedgeError
from agedge.runtime.batch_runner import RunBatch
from agedge.runtime.card import Card, fixed_inputs
from agedge.runtime.forks import is_forked, open_in_each_process

MAGIC = b"7767517"  # first line of a .param file


def open_network(card: Card, runtime: str, threads: Optional[int], device: str) -> RunBatch:
    """Return the function that runs the network of `card`. Threads may share it.

    A forked process opens its own net with one thread, since OpenMP would wait there for the threads of its parent.

    `ncnn` is fp32 throughout. `ncnn-fp16` stores weights and feature maps in fp16 if the CPU supports it, and computes
    in fp32: fp16 arithmetic resolves ages above 64 only to 1/16 of a year. Raises `AgedgeError` if the files are
    damaged or the package is not installed.
    """
    try:
        import ncnn
    except ImportError as error:
        raise AgedgeError(f"runtime {runtime}: the package ncnn is not installed") from error

    def open_net() -> RunBatch:
        param, weights = card.path(runtime, "param"), card.path(runtime, "bin")
        with param.open("rb") as head:
            if head.readline().strip() != MAGIC:
                raise AgedgeError(f"{param}: not an ncnn .param file")
        half = runtime == "ncnn-fp16"
        net = ncnn.Net()
        net.opt.use_vulkan_compute = False
        net.opt.use_fp16_packed = half
        net.opt.use_fp16_storage = half
        net.opt.use_fp16_arithmetic = False
        if threads is not None:
            net.opt.num_threads = threads
        if is_forked():
            net.opt.num_threads = 1
        if net.load_param(str(param)) != 0:
            raise AgedgeError(f"{param}: ncnn cannot read it")
        if net.load_model(str(weights)) != 0:
            raise AgedgeError(f"{weights}: ncnn cannot read it: damaged, or not the weights of {param.name}")
        blobs = card.blobs.get(runtime, {})
        constants = fixed_inputs(card)
        missing = [name for name in (card.input["name"], *constants, *card.outputs) if name not in blobs]
        if missing:
            raise AgedgeError(
                f"{param.with_name('card.json')}: it does not name the {runtime} blob of {', '.join(missing)}"
            )
        known = {blob.name for blob in net.blobs()}
        unknown = [blobs[name] for name in (card.input["name"], *constants, *card.outputs) if blobs[name] not in known]
        if unknown:  # ncnn ends the process at some of them
            raise AgedgeError(f"{param}: it has no blob {unknown[0]}, which card.json names")

        def run(batch: np.ndarray) -> Dict[str, np.ndarray]:
            rows: Dict[str, List[np.ndarray]] = {name: [] for name in card.outputs}
            for image in batch:
                # A Mat that borrows an array's memory makes this wheel crash, so it gets a copy.
                extractor = net.create_extractor()
                status = extractor.input(blobs[card.input["name"]], ncnn.Mat(image).clone())
                for name, value in constants.items():
                    status |= extractor.input(blobs[name], ncnn.Mat(value[0]).clone())  # without the batch
                for name, row in rows.items():
                    code, value = extractor.extract(blobs[name])
                    if status != 0 or code != 0:
                        raise AgedgeError(f"{param}: ncnn cannot compute {name} from {card.input['name']}")
                    row.append(np.array(value, np.float32))
            return {name: np.stack(row) for name, row in rows.items()}

        return run

    return open_in_each_process(open_net)
