"""Result files: where they may be written, and streams of results."""
