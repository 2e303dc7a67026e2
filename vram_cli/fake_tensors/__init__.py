"""Predictions without CUDA: a training step on fake tensors, replayed in a model of the caching allocator."""

from __future__ import annotations

from vram_cli.errors import UnsupportedError
from vram_cli.fake_tensors.prediction import FakeTensorProbe
from vram_cli.fake_tensors.simulated_training import SimulatedTraining, training_from_config
from vram_cli.fake_tensors.simulation import Simulation

__all__ = ["FakeTensorProbe", "SimulatedTraining", "Simulation", "UnsupportedError", "training_from_config"]
