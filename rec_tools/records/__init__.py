"""Work with finished .rec files: scan, summarise, verify, repair, transform and split."""
