"""One run: how it starts, saves, resumes, logs and stops."""
