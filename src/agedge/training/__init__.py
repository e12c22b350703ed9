"""Training, of any network that has `loss` and `decode`: recipe, loop, schedule, checkpoints."""
