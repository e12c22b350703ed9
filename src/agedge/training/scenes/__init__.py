"""Scenes to train a face detector on: composed of faces and backgrounds, or cropped from photographs."""
