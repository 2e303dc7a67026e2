"""A batch for torchvision's detection models: random images with boxes."""

import torch


def batch(n: int, size: int, boxes: int):
    images = [torch.rand(3, size, size) for _ in range(n)]
    corners = torch.tensor([10.0, 10.0, 100.0, 100.0]).repeat(boxes, 1)
    targets = [{"boxes": corners, "labels": torch.ones(boxes, dtype=torch.int64)} for _ in range(n)]
    return images, targets
