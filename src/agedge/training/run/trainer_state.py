"""Save and restore the state of a Gluon trainer: the optimizer's arrays per parameter, and its counters.

MXNet's own `Trainer.save_states` writes a pickle, and reading a pickle can run code. Here the arrays have names ("3.0":
the first array of parameter 3) and the counters are numbers; the optimizer, not the file, defines which arrays exist.
"""

from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

from agedge.errors import AgedgeError

COUNTS = "counts"
# Attributes that MXNet's optimizers change in addition to their arrays: the first two in all optimizers, m_schedule in
# Nadam, the others in LARS. (LBSGD's gradient sums last longer than a step only with `batch_scale`, which no recipe can
# set.)
MOVING = ("num_update", "begin_num_update", "m_schedule", "last_lr", "cur_lr")


def collect_state(trainer: Any) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Return a trainer's state as ({name: number}, {name: NDArray})."""
    optimizer, states = trainer._optimizer, trainer._updaters[0].states
    arrays = {
        f"{index}.{number}": array
        for index, state in states.items()
        for number, array in enumerate(flatten_state(state))
    }
    # Each device has its counters; all are equal.
    counts = max(optimizer._all_index_update_counts.values(), key=lambda of: max(of.values(), default=0))
    numbers = {name: getattr(optimizer, name) for name in MOVING if hasattr(optimizer, name)}
    numbers = {name: value for name, value in numbers.items() if value is not None}
    return {**numbers, COUNTS: {str(index): count for index, count in counts.items()}}, arrays


def restore_state(trainer: Any, numbers: Any, arrays: Mapping[str, Any], shown_as: Any) -> None:
    """Restore the state that `collect_state` returned; `shown_as`: name of the file in errors.

    `arrays` may be NumPy arrays. All devices get the same arrays and counters, since the saving process may have had
    other devices. Raises `AgedgeError` where an array is missing or does not have the parameter's shape and type.
    """
    optimizer = trainer._optimizer
    check_numbers(numbers, optimizer, shown_as)
    if not trainer._kv_initialized:
        trainer._init_kvstore()
    expected = set()
    for index, parameter in enumerate(trainer._params):
        if parameter.grad_req == "null":
            continue
        for updater, weight in zip(trainer._updaters, parameter.list_data()):
            state = optimizer.create_state_multi_precision(index, weight)
            for number, array in enumerate(flatten_state(state)):
                name = f"{index}.{number}"
                expected.add(name)
                copy_into(array, arrays.get(name), f"{shown_as}: optimizer state {name} of {parameter.name}")
            updater.states[index], updater.states_synced[index] = state, True
    if more := sorted(set(arrays) - expected):
        raise AgedgeError(f"{shown_as}: holds optimizer state {more[0]}, which this network does not have")
    counts = {int(index): count for index, count in numbers[COUNTS].items()}
    optimizer._all_index_update_counts = {context.device_id: dict(counts) for context in trainer._contexts}
    optimizer._index_update_count = optimizer._all_index_update_counts[trainer._contexts[0].device_id]
    for name in MOVING:
        if hasattr(optimizer, name) and name in numbers:
            setattr(optimizer, name, numbers[name])


def flatten_state(state: Any) -> List[Any]:
    """Return the arrays of one parameter's state: None, an array, or a tuple of these, nested at most once."""
    parts = state if isinstance(state, (tuple, list)) else [state]
    parts = [one for part in parts for one in (part if isinstance(part, (tuple, list)) else [part])]
    return [part for part in parts if part is not None]


def copy_into(array: Any, value: Any, what: str) -> None:
    """Copy `value`, a NumPy or MXNet array, into an NDArray of the same shape and type. Raises `AgedgeError`."""
    if value is None:
        raise AgedgeError(f"{what}: missing")
    if value.shape != array.shape or np.dtype(value.dtype) != np.dtype(array.dtype):
        raise AgedgeError(f"{what}: is {value.shape} {np.dtype(value.dtype)}, not {array.shape} {array.dtype.__name__}")
    array[:] = value if isinstance(value, np.ndarray) else value.as_in_context(array.context)


def check_numbers(numbers: Any, optimizer: Any, shown_as: Any) -> None:
    """Raise `AgedgeError` if the numbers of a trainer's state are not valid."""
    if not isinstance(numbers, dict) or not isinstance(numbers.get(COUNTS), dict):
        raise AgedgeError(f"{shown_as}: the trainer's state must be a mapping with '{COUNTS}'")
    counts = numbers[COUNTS]
    if not all(is_count(count) and str(index).isdecimal() and len(str(index)) < 10 for index, count in counts.items()):
        raise AgedgeError(f"{shown_as}: the trainer's counts must be a whole number per parameter")
    for name in MOVING:
        value = numbers.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
            raise AgedgeError(f"{shown_as}: the trainer's {name} must be a number")
    if not all(is_count(numbers.get(name)) for name in ("num_update", "begin_num_update")):
        raise AgedgeError(f"{shown_as}: the trainer's number of updates must be a whole number")


def is_count(value: Any) -> bool:
    """Return whether a value from JSON is a whole number that can be a count."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
