"""Training data: datasets, sampling, augmentation and loaders."""
