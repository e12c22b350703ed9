"""Models in ONNX, run by ONNX Runtime on the CPU, a batch at a time."""

from typing import Dict, Optional

import numpy as np

from agedge.errors import AgedgeError
from agedge.runtime.card import Card, fixed_inputs


def open_network(card: Card, runtime: str, threads: Optional[int], device: str):
    """See `agedge.runtime.model.Run`. Raises `AgedgeError` where the file is no ONNX model or the package is absent."""
    try:
        import onnxruntime
    except ImportError as error:
        raise AgedgeError(f"runtime {runtime}: the package onnxruntime is not installed") from error

    file = card.path(runtime, "model")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own, one for each kind of damage
        raise AgedgeError(f"{file}: ONNX Runtime cannot read it: {str(error).splitlines()[0]}") from error
    names = [output.name for output in session.get_outputs()]
    if names != list(card.outputs):
        raise AgedgeError(f"{file}: outputs {', '.join(names)}; card.json says {', '.join(card.outputs)}")
    constants = fixed_inputs(card)

    def run(batch: np.ndarray) -> Dict[str, np.ndarray]:
        values = session.run(names, {card.input["name"]: batch, **constants})
        return {name: value.reshape(len(batch), -1) for name, value in zip(names, values)}

    return run
