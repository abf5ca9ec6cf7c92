"""Named lists of runs with a report, resumable as a whole."""
