"""The loss of torchvision's reference training: the main output's, and half of the auxiliary one's."""

from torch.nn import functional


def both_losses(outputs, targets):
    main = functional.cross_entropy(outputs["out"], targets)
    return main + 0.5 * functional.cross_entropy(outputs["aux"], targets)
