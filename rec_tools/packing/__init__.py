"""Pack labelled images into .rec files: crop faces, find copies, assign splits, write."""
