"""PainNetwork: voxels and their layers -> pooled features of each layer -> a sum of terms, the logit of pain.

The network never looks across a layer's border: a layer's features come from its own voxels alone. The logit
is a bias plus one sum of terms per layer, so the terms are an attribution by design and a layer can be
exchanged for a reference without touching the others. A last, optional part, ``interactions``, multiplies
pairs of tissue properties; it is zero unless validation people were clearly better told with it.

Everything is linear in the weights: ``logits`` = bias + ``design`` @ weight, once per member of an ensemble.
"""

from itertools import accumulate, combinations

import torch
from torch import Tensor, nn

from models.layer.network import LAYERS
from models.layer.pooling import GRAY_SD, PRESENT, SPEED, LayerPooling

ACROSS = LAYERS  # column of ``measured``: 1 = probe across the fibers, 0 = along, NaN = not known

PROPERTIES = (
    "dermis.gray",
    "superficial_fat.gray",
    "superficial_fascial_membrane.gray",
    "deep_fat.gray",
    "deep_fascial_membrane.gray",
    "muscle.gray",
    "muscle.infiltration",
)
"""Tissue properties read out of the layers' appearance, named as the simulator's factors."""


class PainNetwork(LayerPooling):
    """Logit of myofascial pain: bias + six layers' appearance, thickness and shear-wave terms + interactions.

    members  size of the ensemble of heads; each was fitted on its own draw of people.

    ``measured`` is float32 (batch, 7): thickness in mm of six layers, NaN where there is none (that of the
    muscle is never used, as the image cuts it off), then 1 for a probe across the fibers of the muscle, 0 for
    along, NaN for not known. ``reference_*`` are means of the training cohort, at which every term is zero.
    """

    reference_thickness_mm: Tensor
    reference_across: Tensor
    across_share: Tensor
    thickness_scale: Tensor
    finite: Tensor
    appearance_readout: Tensor
    speed_readout: Tensor
    speed_thickness: Tensor
    pair_mean: Tensor

    def __init__(
        self, channels: tuple[str, ...] = ("b-mode",), texture_maps: int = 8, members: int = 5
    ) -> None:
        super().__init__(channels, texture_maps)
        self.members = members
        self.register_buffer("reference_thickness_mm", torch.tensor([2.0, 4, 0.8, 7, 1.5, 25]))
        self.register_buffer("thickness_scale", torch.full((LAYERS,), 0.3))
        self.register_buffer("finite", torch.tensor([1.0, 1, 1, 1, 1, 0]))
        # What a probe across the fibers adds to each scaled feature, the log speed last, against one along
        # them; and the share of people taken across.
        self.register_buffer("reference_across", torch.zeros(LAYERS, len(self.looks) + 1))
        self.register_buffer("across_share", torch.tensor(0.5))
        # Tissue properties out of appearance, and stiffness free of what leaks in from the neighbors,
        # which is more where the layer is thin.
        readout = torch.zeros(len(PROPERTIES), LAYERS, len(self.looks))
        readout[range(LAYERS), range(LAYERS), 0] = 1.0
        self.register_buffer("appearance_readout", readout)
        self.register_buffer("speed_readout", torch.eye(LAYERS))
        self.register_buffer("speed_thickness", torch.zeros(LAYERS, LAYERS))
        speeds = LAYERS if self.shear_wave else 0
        self.couples = tuple(combinations(range(len(PROPERTIES) + LAYERS - 1 + speeds), 2))
        # Stays 0, so that products add nothing where all properties are typical.
        self.register_buffer("pair_mean", torch.zeros(len(self.couples)))
        counts = {
            "properties": len(PROPERTIES),
            "thickness": LAYERS,
            "speed": speeds,
            "generic": LAYERS * len(self.looks),
            "pairs": len(self.couples),
        }
        stops = list(accumulate(counts.values()))
        self.parts = {
            name: slice(stop - count, stop)
            for (name, count), stop in zip(counts.items(), stops, strict=True)
        }
        weight = torch.zeros(members, stops[-1])
        weight[:, : self.parts["pairs"].start].normal_(0, 0.1)
        weight[:, self.parts["generic"]] *= 0.1
        self.bias = nn.Parameter(torch.zeros(members))
        self.weight = nn.Parameter(weight)

    @property
    def term_names(self) -> tuple[str, ...]:
        """What the last axis of ``terms`` means."""
        return ("appearance", "thickness") + (("shear wave",) if self.shear_wave else ())

    def forward(self, image: Tensor, labels: Tensor, measured: Tensor) -> Tensor:
        """Logit (batch,); differentiable with respect to the image."""
        return self.logit(self.pool(image, labels), measured)

    def logit(self, pooled: Tensor, measured: Tensor) -> Tensor:
        """Logit (batch,), mean of the members."""
        return self.logits(pooled, measured).mean(0)

    def logits(self, pooled: Tensor, measured: Tensor) -> Tensor:
        """Logit of each member of the ensemble (member, batch), of features that ``pool`` gave."""
        return self.bias[:, None] + self.weight @ self.design(pooled, measured).T

    def terms(self, pooled: Tensor, measured: Tensor) -> Tensor:
        """Additive terms in log-odds (batch, 6, term), mean of the members.

        bias.mean() + terms.sum((1, 2)) + interactions = logit. A change of gain moves all layers alike; it is
        taken out of each layer's term.
        """
        present = pooled[..., PRESENT]
        look, log_speed = self.features(pooled, measured)
        look_weight, speed_weight = self._layer_weights(present)
        mean = self.weight.mean(0)
        weight = mean[self.parts["thickness"]]
        if self.shear_wave:  # what thickness says of the leak is a matter of thickness
            weight = weight + mean[self.parts["speed"]] @ self.speed_thickness
        columns = [(look_weight * look).sum(2), weight * self.thickness(pooled, measured)]
        if self.shear_wave:
            columns.append(speed_weight * log_speed)
        return torch.stack(columns, 2)

    def interactions(self, pooled: Tensor, measured: Tensor) -> Tensor:
        """What products of two properties add to the logit (batch,), mean of the members."""
        part = self.parts["pairs"]
        return self.design(pooled, measured)[:, part] @ self.weight.mean(0)[part]

    def reference(self, pooled: Tensor, measured: Tensor | None = None) -> Tensor:
        """As ``LayerPooling.reference``; with ``measured``, of a probe in the direction of this scan's.

        All terms are zero there: the direction of the probe is nobody's contribution.
        """
        typical = super().reference(pooled)
        if measured is None:
            return typical
        across = self._across(measured) * pooled[..., :1]
        look = across[..., :-1] * self.pooled_scale[:, self.looks]
        added = torch.zeros_like(typical)
        added[..., self.looks] = look
        typical[..., GRAY_SD] *= added[..., GRAY_SD].exp()
        typical[..., SPEED] *= (across[..., -1] * self.pooled_scale[:, SPEED]).exp()
        added[..., GRAY_SD] = 0.0
        return typical + added

    def design(self, pooled: Tensor, measured: Tensor) -> Tensor:
        """The columns that the weights multiply (batch, column), each of about unit variance."""
        look, log_speed = self.features(pooled, measured)
        thickness = self.thickness(pooled, measured)
        properties = torch.einsum("blg,klg->bk", look, self.appearance_readout)
        columns = [properties, thickness]
        scalars = [properties, thickness[:, :-1]]
        if self.shear_wave:
            stiffness = log_speed @ self.speed_readout.T + thickness @ self.speed_thickness.T
            columns.append(stiffness)
            scalars.append(stiffness)
        columns.append(look.flatten(1))
        scalar = torch.cat(scalars, 1)
        first, second = (list(side) for side in zip(*self.couples, strict=True))
        columns.append(scalar[:, first] * scalar[:, second] - self.pair_mean)
        return torch.cat(columns, 1)

    def features(self, pooled: Tensor, measured: Tensor) -> tuple[Tensor, Tensor]:
        """Normal appearance (batch, 6, look) and log speed (batch, 6), like compared with like.

        What the direction of the probe adds is taken out; a layer or speed that is not there has zeros.
        """
        look, speed = self.normal(pooled)
        across = self._across(measured)
        there = pooled[..., :1]
        look = (look - across[..., :-1]) * there
        mean = look[..., :1].sum(1, keepdim=True) / there.sum(1, keepdim=True).clamp(min=1)
        look = torch.cat([(look[..., :1] - mean) * there, look[..., 1:]], 2)
        speed = (speed - across[..., -1]) * pooled[..., PRESENT]
        return look, torch.where(speed.isnan(), 0.0, speed)

    def _across(self, measured: Tensor) -> Tensor:
        """What the probe's direction adds to the features (batch, 6, look + 1), against the cohort."""
        across = measured[:, ACROSS]
        known = torch.where(across.isnan(), self.across_share, across)
        return (known - self.across_share)[:, None, None] * self.reference_across

    def thickness(self, pooled: Tensor, measured: Tensor) -> Tensor:
        """Log thickness (batch, 6) less reference, over scale; 0 where there is none, and for the muscle."""
        thickness_mm = measured[:, :LAYERS]
        known = torch.where(thickness_mm > 0, thickness_mm, self.reference_thickness_mm)
        log = torch.log(known / self.reference_thickness_mm) / self.thickness_scale
        return log * self.finite * pooled[..., PRESENT]

    def _layer_weights(self, present: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of each layer's appearance (batch, 6, feature) and log speed (6,), mean of the members.

        A gain cancels in the logit, so the weights of brightness may be counted from their mean.
        """
        weight = self.weight.mean(0)
        look = weight[self.parts["generic"]].view(LAYERS, -1) + torch.einsum(
            "k,klg->lg", weight[self.parts["properties"]], self.appearance_readout
        )
        there = present[..., None]
        mean = (look[:, :1] * there).sum(1, keepdim=True) / there.sum(1, keepdim=True).clamp(min=1)
        brightness = (look[:, :1] - mean) * there
        look = torch.cat([brightness, look[:, 1:].expand(len(present), -1, -1)], 2)
        speed = weight[self.parts["speed"]]
        return look, speed @ self.speed_readout if self.shear_wave else speed

    def evidence(
        self, image: Tensor, labels: Tensor, measured: Tensor, pooled: Tensor | None = None
    ) -> Tensor:
        """Evidence of each voxel for pain in log-odds (batch, slice, row, column); 0 outside the layers.

        Its mean over a layer's voxels is that layer's appearance (and shear-wave) term: the class activation
        map of a network that pools by averaging (Zhou 2016). Thickness and the products of ``interactions``
        belong to no voxel and are not in it. ``pooled`` saves computing what ``pool`` gives.
        """
        pooled = self.pool(image, labels) if pooled is None else pooled
        look, speed = self._layer_weights(pooled[..., PRESENT])
        evidence = self.share_out(image, labels, pooled, (look, speed))
        # What the probe's direction adds is the same for all voxels of a layer.
        plain, typical = self.normal(pooled), self.features(pooled, measured)
        offset = (look * (plain[0] - typical[0])).sum(2)
        if self.shear_wave:
            offset = offset + speed * (plain[1].nan_to_num() - typical[1])
        by_label = torch.cat([offset.new_zeros(len(offset), 1), offset], 1)
        return evidence - by_label.gather(1, labels.flatten(1).long()).view(labels.shape)
