"""A model of PyTorch's CUDA caching allocator in plain integers, and traces to replay through it."""
