"""The loop around a compiled training step."""
