"""Faces in pictures: where they are, their five landmarks, and the crop that a network sees."""
