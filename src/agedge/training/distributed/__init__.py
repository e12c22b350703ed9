"""Training on many devices and machines by MXNet's KVStore."""
