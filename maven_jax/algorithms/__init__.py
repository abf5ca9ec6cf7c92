"""Objectives, and the table of algorithms: the only place that branches on a name."""
