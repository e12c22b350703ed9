"""From labelled images to .rec files: crop, split, and write."""
