"""Detection of faces and their five landmarks in images, and the alignment of faces to crops."""
