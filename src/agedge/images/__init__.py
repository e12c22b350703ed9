"""Image and video files: recognise the format, check the structure, decode the pixels."""
