"""Images as files: what they are, whether they are safe to open, and their pixels."""
