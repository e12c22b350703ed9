"""Run a network in ONNX with ONNX Runtime, on the CPU, a batch at a time."""

from typing import Dict, Optional

import numpy as np

from agedge.errors import AgedgeError
from agedge.runtime.batch_runner import RunBatch
from agedge.runtime.card import Card, fixed_inputs
from agedge.runtime.forks import abandon_after_fork, open_in_each_process


def open_network(card: Card, runtime: str, threads: Optional[int], device: str) -> RunBatch:
    """Return the function that runs the network of `card`. Threads may share it; a forked process opens its own
    session.

    Raises `AgedgeError` if the file is not an ONNX model or not the card's, or the package is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise AgedgeError(f"runtime {runtime}: the package onnxruntime is not installed") from error

    def open_session() -> RunBatch:
        file = card.path(runtime, "model")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its own, one for each kind of damage
            raise AgedgeError(f"{file}: ONNX Runtime cannot read it: {first_line(error)}") from error
        abandon_after_fork(session)
        names = [output.name for output in session.get_outputs()]
        if names != list(card.outputs):
            raise AgedgeError(f"{file}: outputs {', '.join(names)}; card.json says {', '.join(card.outputs)}")
        constants = fixed_inputs(card)
        inputs, known = [each.name for each in session.get_inputs()], [card.input["name"], *constants]
        if set(inputs) != set(known):
            raise AgedgeError(f"{file}: inputs {', '.join(inputs)}; card.json says {', '.join(known)}")

        def run(batch: np.ndarray) -> Dict[str, np.ndarray]:
            try:
                values = session.run(names, {card.input["name"]: batch, **constants})
                return {name: split_batch(value, len(batch)) for name, value in zip(names, values)}
            except Exception as error:  # as above; also outputs that cannot be split
                raise AgedgeError(f"{file}: ONNX Runtime cannot run it: {first_line(error)}") from error

        return run

    return open_in_each_process(open_session)


def split_batch(output: np.ndarray, count: int) -> np.ndarray:
    """Return an output as (count, ...). Raises `ValueError` if it is not a whole number of rows for each image."""
    return output if output.shape[:1] == (count,) else output.reshape(count, -1)


def first_line(error: Exception) -> str:
    """Return the first line of an error of ONNX Runtime: the others are about its own source code."""
    return (str(error).splitlines() or [type(error).__name__])[0]
