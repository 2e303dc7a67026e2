"""Prediction: a training step on fake tensors of a target GPU, replayed in a model of its allocator."""

from __future__ import annotations

from vram_cli.probe.simulated.errors import UnsupportedError
from vram_cli.probe.simulated.probe import SimulatedProbe
from vram_cli.probe.simulated.simulation import Simulation
from vram_cli.probe.simulated.subject import Subject, subject_of

__all__ = ["SimulatedProbe", "Simulation", "Subject", "UnsupportedError", "subject_of"]
