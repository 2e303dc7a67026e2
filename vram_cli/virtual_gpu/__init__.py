"""The virtual GPU: PyTorch's own CUDA code on a machine without a GPU, with the facts of one from the catalogue."""

from vram_cli.virtual_gpu.facts import VARIABLE, card_facts
from vram_cli.virtual_gpu.library import LIBRARIES, environment, machine_has_gpu, obstacle

__all__ = ["LIBRARIES", "VARIABLE", "card_facts", "environment", "machine_has_gpu", "obstacle"]
