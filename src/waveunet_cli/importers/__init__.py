"""Checkpoints of other programs, turned into ours: what is read is data, never code. One file a format."""
