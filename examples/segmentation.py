"""The loss of torchvision's reference training: that of the main output plus half of the auxiliary output's."""

from torch.nn import functional


def both_losses(outputs, targets):
    main = functional.cross_entropy(outputs["out"], targets)
    return main + 0.5 * functional.cross_entropy(outputs["aux"], targets)
