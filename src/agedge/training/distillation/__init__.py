"""Training on the outputs of teacher networks."""
