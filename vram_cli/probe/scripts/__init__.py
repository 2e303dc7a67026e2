"""Trials of a training script: it runs unchanged, in a process to which vram is attached."""
