"""The virtual GPU: PyTorch's own CUDA code on a machine without a GPU, with the facts of one from the catalogue."""

from vram_cli.virtual_gpu.facts import VARIABLE, card_facts

__all__ = ["VARIABLE", "card_facts"]
