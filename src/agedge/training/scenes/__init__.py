"""Scenes to train a face detector on, composed from pictures of faces and photographs without any."""
