"""Models in ONNX, run by ONNX Runtime on the CPU, a batch at a time."""

from typing import Dict, Optional

import numpy as np

from agedge.errors import AgedgeError
from agedge.runtime.card import Card, fixed_inputs
from agedge.runtime.forks import abandon_after_fork, open_in_each_process


def open_network(card: Card, runtime: str, threads: Optional[int], device: str):
    """See `agedge.runtime.model.Run`. Threads may share what it returns; a forked process opens a session of its own.

    Raises `AgedgeError` where the file is not an ONNX model or not that of the card, or the package is absent.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise AgedgeError(f"runtime {runtime}: the package onnxruntime is not installed") from error

    def open_session():
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
                return {name: value.reshape(len(batch), -1) for name, value in zip(names, values)}
            except Exception as error:  # as above; also outputs that are not a number of faces
                raise AgedgeError(f"{file}: ONNX Runtime cannot run it: {first_line(error)}") from error

        return run

    return open_in_each_process(open_session)


def first_line(error: Exception) -> str:
    """Return the first line of an error of ONNX Runtime, whose others are of its own source."""
    return (str(error).splitlines() or [type(error).__name__])[0]
