"""Graphs of layers: declared, checked, ordered, cut and lowered."""
