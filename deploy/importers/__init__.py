"""Import weights of other systems (Keras, PyTorch, MXNet) into the networks of `symbols`."""
