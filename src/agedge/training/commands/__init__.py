"""The command line of train.py: its options, the flags of older scripts, and sweeps."""
