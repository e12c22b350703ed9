"""A run's progress in checkpoints of all versions."""

import json

from agedge.training.run.train_state import TrainState


def test_a_state_is_read_as_it_was_written():
    state = TrainState(12, 340, 4.5, 11, {"train.seed": 0}, 9.0, [1.0, 2.0], 3.5, 0.5)
    assert TrainState.from_json(json.loads(json.dumps(state.to_json()))) == state


def test_a_new_run_has_no_first_loss_and_no_average():
    keys = ["epoch", "step", "best", "best_epoch", "same", "sums", "seconds", "waited"]
    assert list(TrainState().to_json()) == keys


def test_version_1_names_the_optimizer_apart():
    state = TrainState.from_json({"version": 1, "epoch": 2, "step": 8, "optimizer": {"name": "adam"}, "other": 1})
    assert (state.epoch, state.step, state.same, state.sums) == (2, 8, {"optimizer.name": "adam"}, None)
