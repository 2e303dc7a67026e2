"""A model of PyTorch's CUDA caching allocator in plain integers, and the traces that are replayed in it."""
