"""Graphs and arrays as files; loading never runs what a file holds."""
