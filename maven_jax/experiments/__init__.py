"""One sweep in one folder: lanes, the compiled program, the host loop, and what is on disk."""
