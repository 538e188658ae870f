"""Classifiers to explain: one so plain that what each part adds can be written down, and an untrained one."""

import numpy as np
import torch
from torch import Tensor, nn

from models.layer.pain import PainNetwork
from models.steps.attribute import Question
from models.steps.attribute.game import open_game
from models.steps.classify import Case

BOTH = ("b-mode", "shear-wave-speed", "shear-wave-valid")
BANDS = ((2, 6), (6, 11), (11, 14), (14, 20), (20, 23), (23, 30))
THICKNESS_MM = (2.2, 3.0, 0.9, 6.0, 1.9, float("nan"))


class LinearNetwork(nn.Module):
    """logit = bias + weights · (features − reference) + Σ pairs of differences, for each member.

    ``weight`` is (member, layer, part): gray mean, thickness, shear-wave speed. ``pairs`` maps two
    (layer, part) to the weight of the product of their differences from the reference.
    """

    term_names = ("appearance", "thickness", "shear wave")

    def __init__(self, seed=0, members=5):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.channels = BOTH
        self.weight = nn.Parameter(torch.randn(members, 6, 3, generator=generator))
        with torch.no_grad():
            self.weight *= torch.tensor([0.1, 1, 1])
            self.weight[:, 5, 1] = 0  # no thickness of the muscle
        self.bias = nn.Parameter(torch.zeros(members))
        self.register_buffer("reference_gray", torch.tensor([150.0, 70, 165, 75, 185, 100]))
        self.register_buffer("reference_thickness_mm", torch.tensor([2.0, 4, 0.8, 7, 1.5, 25]))
        self.register_buffer("reference_speed", torch.tensor([2.0, 1.2, 2.5, 1.3, 4, 2.4]))
        self.pairs = {}
        self.requires_grad_(False)

    def pool(self, image: Tensor, labels: Tensor) -> Tensor:
        columns = []
        for layer in range(6):
            mask = (labels == layer + 1).float()
            count = mask.sum((1, 2, 3))
            there, many = (count > 0).float(), count.clamp(min=1)
            gray = (image[:, 0] * mask).sum((1, 2, 3)) / many
            speed = (image[:, 1] * mask).sum((1, 2, 3)) / many
            columns.append(
                torch.stack(
                    [
                        there,
                        torch.where(there > 0, gray, self.reference_gray[layer]),
                        there,
                        torch.where(there > 0, speed, self.reference_speed[layer]),
                    ],
                    1,
                )
            )
        return torch.stack(columns, 1)

    def reference(self, pooled, measured=None):
        result = pooled.clone()
        result[..., 1], result[..., 3] = self.reference_gray, self.reference_speed
        return result

    def differences(self, pooled, measured):
        known = torch.where(measured[:, :6] > 0, measured[:, :6], self.reference_thickness_mm)
        columns = [
            pooled[..., 1] - self.reference_gray,
            known - self.reference_thickness_mm,
            pooled[..., 3] - self.reference_speed,
        ]
        return torch.stack(columns, 2) * pooled[..., :1]

    def logits(self, pooled, measured):
        found = self.differences(pooled, measured)
        result = self.bias[:, None] + torch.einsum("blp,mlp->mb", found, self.weight)
        for (first, second), value in self.pairs.items():
            result = result + value * found[:, *first] * found[:, *second]
        return result

    def terms(self, pooled, measured):
        return self.differences(pooled, measured) * self.weight.mean(0)

    def evidence(self, image, labels, measured, pooled=None):
        total = torch.zeros(labels.shape)
        for layer in range(6):
            gray, _, speed = self.weight.mean(0)[layer]
            own = gray * (image[:, 0] - self.reference_gray[layer])
            own = own + speed * (image[:, 1] - self.reference_speed[layer])
            total = total + own * (labels == layer + 1)
        return total

    def forward(self, image, labels, measured):
        return self.logits(self.pool(image, labels), measured).mean(0)


def make_case(seed=0, layers=range(1, 7), slices=10):
    """Six flat layers with speckle; layers that are left out are outside."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.zeros(1, slices, 32, 20, dtype=torch.uint8)
    for layer in layers:
        top, bottom = BANDS[layer - 1]
        labels[:, :, top:bottom] = layer
    base = torch.tensor([20.0, 140, 75, 170, 80, 175, 95])[labels.long()]
    gray = base + 20 * torch.randn(base.shape, generator=generator)
    speed = 1 + 3 * torch.rand(base.shape, generator=generator)
    image = torch.stack([gray, speed, torch.ones_like(speed)], 1)
    numbers = [t if n + 1 in layers else float("nan") for n, t in enumerate(THICKNESS_MM)]
    measured = torch.tensor([[*numbers, 1.0]])
    whole = (slice(0, slices), slice(0, 32), slice(0, 20))
    return Case(image, labels, measured, whole, BOTH)


def labelmap_of(case):
    return np.ascontiguousarray(case.labels[0].numpy())


def game_of(network, case):
    """The game of one case."""
    return open_game(network, network.pool(case.image, case.labels), case.measured)


def question(network, case):
    """Why the network decides as it does, beside untrained networks of its kind."""
    logit = float(network(case.image, case.labels, case.measured)[0])
    return Question(network, case, labelmap_of(case), logit, lambda seed: LinearNetwork(seed + 100))


def pain_network(seed):
    """As before training, with a reference that is near the case and differs by direction of the probe."""
    torch.manual_seed(seed)
    network = PainNetwork(BOTH, 4)
    network.reference_across.normal_(0, 0.5)
    network.weight.data[:, network.parts["pairs"]].normal_(0, 0.02)
    return network.eval().requires_grad_(False)
