"""Loss, gradients and steps of nnU-Net in PyTorch: ``python _reference_step.py OUT.npz``.

A small network with deep supervision: logits of three outputs are themselves the parameters.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

CLASSES, SHAPE = 3, (8, 12, 4)
torch.manual_seed(0)
labels = torch.randint(0, CLASSES, (2, 1, *SHAPE))
labels[1][labels[1] == 2] = 0  # a class that a sample lacks
ignored = labels.clone()
ignored[torch.rand(labels.shape) < 0.3] = CLASSES
regions = torch.stack([labels[:, 0] > 0, labels[:, 0] == 2], 1)
logits = [4 * torch.randn(2, CLASSES, *(size // step for size in SHAPE)) for step in (1, 2, 4)]
arrays = {"labels": labels[:, 0].numpy(), "ignored": ignored[:, 0].numpy()}
arrays |= {f"logits{place}": one.numpy() for place, one in enumerate(logits)}


def coarser(target: torch.Tensor, step: int) -> torch.Tensor:
    """Return the labels of a level, as batchgeneratorsv2 makes them."""
    size = [edge // step for edge in SHAPE]
    return torch.nn.functional.interpolate(target.float(), size, mode="nearest-exact")


def softmax_loss(batch_dice: bool, ignore: int | None) -> torch.nn.Module:
    """Return the loss as nnUNetTrainer builds it."""
    return DC_and_CE_loss(
        {"batch_dice": batch_dice, "smooth": 1e-5, "do_bg": False, "ddp": False},
        {},
        ignore_label=ignore,
        dice_class=MemoryEfficientSoftDiceLoss,
    )


def differentiated(loss: torch.nn.Module, outputs: list[torch.Tensor], targets: list[torch.Tensor]) -> None:
    """Store value and gradients of one comparison."""
    name = f"case{sum(key.endswith('.value') for key in arrays)}"
    outputs = [one.clone().requires_grad_() for one in outputs]
    value = loss(outputs, targets) if len(outputs) > 1 else loss(outputs[0], targets[0])
    value.backward()
    arrays[f"{name}.value"] = value.detach().numpy()
    for place, one in enumerate(outputs):
        gradient = torch.zeros_like(one) if one.grad is None else one.grad
        arrays[f"{name}.gradient{place}"] = gradient.numpy()


for batch_dice in (False, True):
    differentiated(softmax_loss(batch_dice, None), logits[:1], [labels])
    differentiated(softmax_loss(batch_dice, CLASSES), logits[:1], [ignored])
    differentiated(
        DC_and_BCE_loss(
            {}, {"batch_dice": batch_dice, "do_bg": True, "smooth": 1e-5, "ddp": False},
            dice_class=MemoryEfficientSoftDiceLoss,
        ),
        [logits[0][:, :2]],
        [regions],
    )  # fmt: skip
    with_ignore = DC_and_BCE_loss(
        {}, {"batch_dice": batch_dice, "do_bg": True, "smooth": 1e-5, "ddp": False},
        use_ignore_label=True, dice_class=MemoryEfficientSoftDiceLoss,
    )  # fmt: skip
    unlabelled = ignored == CLASSES
    differentiated(with_ignore, [logits[0][:, :2]], [torch.cat([regions & ~unlabelled, unlabelled], 1)])
    weights = np.array([1, 0.5, 0])
    wrapped = DeepSupervisionWrapper(softmax_loss(batch_dice, None), weights / weights.sum())
    differentiated(wrapped, logits, [coarser(labels, step) for step in (1, 2, 4)])

# Steps with gradients of many sizes, some of which are clipped.
weight = torch.nn.Parameter(torch.randn(40))
arrays["weight"] = weight.detach().clone().numpy()
optimizer = torch.optim.SGD([weight], 0.01, momentum=0.99, weight_decay=3e-5, nesterov=True)
gradients, rates, weights = [], [], []
for step in range(20):
    rate = 0.01 * (1 - step / 20) ** 0.9
    for group in optimizer.param_groups:
        group["lr"] = rate
    gradient = torch.randn(40) * 10 ** (step % 3 - 1)
    weight.grad = gradient.clone()
    torch.nn.utils.clip_grad_norm_([weight], 12)
    optimizer.step()
    gradients.append(gradient.numpy())
    rates.append(rate)
    weights.append(weight.detach().clone().numpy())
arrays |= {"gradients": np.array(gradients), "rates": np.array(rates), "weights": np.array(weights)}
np.savez(sys.argv[1], **arrays)
