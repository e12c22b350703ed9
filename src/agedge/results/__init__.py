"""Result files: their kinds, the protection of existing files, and results written while a command runs."""
