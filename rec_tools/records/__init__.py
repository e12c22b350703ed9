"""Tools for .rec files: scan, summarize, transform and repair."""
