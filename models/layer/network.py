"""The two networks of the layer analysis. Both take stored gray levels (0-255) and normalize them themselves.

SegmentationNetwork   neighboring slices -> seven class scores per pixel of the middle slice
PainNetwork           voxels and their layers -> pooled features of each layer -> a sum of terms, the logit

The pain network never looks across a layer's border: a layer's features come from its own voxels alone, and
the logit is a bias plus one sum of terms per layer. So the terms are an attribution by design, and a layer
can be exchanged for a reference without touching the others.
"""

from collections.abc import Callable

import torch
from monai.networks.nets import UNet
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

LAYERS = 6
SLICES_AT_ONCE = 8
"""Slices pooled in one piece: bounds memory, and the pieces' sums add up to the same features."""

GRAY_STEP = 20.0  # gray levels; about one standard deviation between patients at one gain
LOG_STEP = (
    0.2  # thickness, contrast and speed enter as log(value / reference), in steps of about 20 %
)


class SegmentationNetwork(nn.Module):
    """A 2.5D U-Net (MONAI): the neighboring slices are channels, the middle slice is labeled.

    Takes float32 (batch, 2 x neighbors + 1, rows, columns) of gray levels 0-255 on the analysis grid, any
    number of rows and columns. Returns scores (batch, 7, rows, columns); class 0 is outside, 1-6 the layers.
    """

    gray_mean: Tensor
    gray_sd: Tensor

    def __init__(
        self, neighbors: int = 2, channels: tuple[int, ...] = (24, 48, 96, 128, 128)
    ) -> None:
        super().__init__()
        self.neighbors = neighbors
        self.channels = tuple(channels)
        self.register_buffer("gray_mean", torch.tensor(80.0))
        self.register_buffer("gray_sd", torch.tensor(60.0))
        strides = (2,) * (len(channels) - 1)
        self.multiple = 2 ** len(strides)
        self.unet = UNet(
            spatial_dims=2,
            in_channels=2 * neighbors + 1,
            out_channels=LAYERS + 1,
            channels=channels,
            strides=strides,
            num_res_units=1,
            norm="batch",
        )

    def forward(self, image: Tensor) -> Tensor:
        rows, columns = image.shape[-2:]
        normal = (image - self.gray_mean) / self.gray_sd
        padding = (0, -columns % self.multiple, 0, -rows % self.multiple)
        scores: Tensor = self.unet(functional.pad(normal, padding, mode="replicate"))
        return scores[..., :rows, :columns]


class PainNetwork(nn.Module):
    """Logit of myofascial pain: bias + sum over six layers of appearance, thickness and shear-wave terms.

    channels      ("b-mode",) or ("b-mode", "shear-wave-speed", "shear-wave-valid").
    texture_maps  number of maps of the small texture network that all layers share.

    ``image`` is float32 (batch, channel, slice, row, column): gray levels 0-255, m/s, 0 or 1. ``labels`` is
    uint8 (batch, slice, row, column), 0 = outside, 1-6. ``thickness_mm`` is float32 (batch, 6), NaN where a
    layer has none; that of the muscle is never used, as the image cuts it off. The ``reference_*`` buffers
    hold the training cohort's mean per layer, at which every term is zero.
    """

    reference_gray_mean: Tensor
    reference_gray_sd: Tensor
    reference_thickness_mm: Tensor
    reference_speed: Tensor
    finite: Tensor

    def __init__(self, channels: tuple[str, ...] = ("b-mode",), texture_maps: int = 8) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.texture_maps = texture_maps
        self.shear_wave = "shear-wave-speed" in self.channels
        # Cohort means per layer, superficial to deep: gray level, its SD inside the layer, mm, m/s.
        starts = {
            "reference_gray_mean": [150.0, 70.0, 165.0, 75.0, 185.0, 100.0],
            "reference_gray_sd": [25.0] * LAYERS,
            "reference_thickness_mm": [2.0, 4.0, 0.8, 7.0, 1.5, 25.0],
            "reference_speed": [2.0, 1.2, 2.5, 1.3, 4.0, 2.4],
            "finite": [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
        }
        for name, values in starts.items():
            self.register_buffer(name, torch.tensor(values))
        # A layer's own voxels minus their mean, in; texture maps, out. No bias in the first: zero stays zero.
        self.texture = nn.Sequential(
            nn.Conv2d(1, texture_maps, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(texture_maps, texture_maps, 3, padding=2, dilation=2),
            nn.ReLU(),
        )
        self.margin = 3  # pixels that the texture network sees around one
        self.texture_normal = nn.BatchNorm1d(2 * texture_maps * LAYERS, affine=False)
        self.bias = nn.Parameter(torch.zeros(()))
        self.brightness_weight = nn.Parameter(0.1 * torch.randn(LAYERS))
        self.contrast_weight = nn.Parameter(0.1 * torch.randn(LAYERS))
        self.texture_weight = nn.Parameter(0.02 * torch.randn(LAYERS, 2 * texture_maps))
        self.thickness_weight = nn.Parameter(0.1 * torch.randn(LAYERS))
        self.speed_weight = nn.Parameter(0.1 * torch.randn(LAYERS)) if self.shear_wave else None

    @property
    def term_names(self) -> tuple[str, ...]:
        """What the last axis of ``terms`` means."""
        return ("appearance", "thickness") + (("shear wave",) if self.shear_wave else ())

    def forward(self, image: Tensor, labels: Tensor, thickness_mm: Tensor) -> Tensor:
        """Logit (batch,); differentiable with respect to the image."""
        return self.logit(self.pool(image, labels), thickness_mm)

    def logit(self, pooled: Tensor, thickness_mm: Tensor) -> Tensor:
        """Logit (batch,) of features that ``pool`` gave."""
        return self.bias + self.terms(pooled, thickness_mm).sum((1, 2))

    def terms(self, pooled: Tensor, thickness_mm: Tensor) -> Tensor:
        """Additive terms in log-odds (batch, 6, term), of features (batch, 6, feature) that ``pool`` gave.

        A change of gain moves all layers alike. The weights of brightness sum to zero over the layers that
        are there, so it cancels in the logit; it is taken out of each term as well.
        """
        present, gray, gray_sd, speed, texture = pooled.split([1, 1, 1, 1, pooled.shape[2] - 4], 2)
        here = present[..., 0]
        count = here.sum(1, keepdim=True).clamp(min=1)
        weight = self.brightness_weight * here
        weight = (weight - weight.sum(1, keepdim=True) / count) * here
        brightness = (gray[..., 0] - self.reference_gray_mean) * here / GRAY_STEP
        brightness = brightness - brightness.sum(1, keepdim=True) / count
        contrast = torch.log(gray_sd[..., 0] / self.reference_gray_sd) / LOG_STEP
        normal = self.texture_normal(texture.flatten(1)).view_as(texture)
        appearance = (
            weight * brightness
            + self.contrast_weight * contrast
            + (self.texture_weight * normal).sum(2)
        )
        known = torch.where(thickness_mm > 0, thickness_mm, self.reference_thickness_mm)
        thickness = torch.log(known / self.reference_thickness_mm) / LOG_STEP
        columns = [appearance, self.thickness_weight * self.finite * thickness]
        if self.speed_weight is not None:
            columns.append(
                self.speed_weight * torch.log(speed[..., 0] / self.reference_speed) / LOG_STEP
            )
        return torch.stack(columns, 2) * present

    def pool(self, image: Tensor, labels: Tensor) -> Tensor:
        """Features of each layer from its own voxels alone, (batch, 6, 4 + 2 x texture maps).

        In order: 1 if the layer is there, mean gray level, its SD, mean shear-wave speed over valid voxels,
        then mean and SD of each texture map. A layer that is not there has its reference values.
        """
        sums = self._over_slices(self._first_sums, image, labels)
        count, gray, valid, speed = sums.unbind(2)
        here = count > 0
        gray_mean = torch.where(here, gray / count.clamp(min=1), self.reference_gray_mean)
        speed_mean = torch.where(valid > 0, speed / valid.clamp(min=1), self.reference_speed)

        def second(image: Tensor, labels: Tensor) -> Tensor:
            return self._second_sums(image[:, 0], labels, gray_mean)

        means = self._over_slices(second, image, labels) / count.clamp(min=1)[..., None]
        gray_sd = torch.where(here, (means[..., 0] + 1e-2).sqrt(), self.reference_gray_sd)
        first, square = means[..., 1:].chunk(2, dim=2)
        texture = torch.cat([first, (square - first.square()).clamp(min=1e-6).sqrt()], 2)
        start = self.texture_normal.running_mean
        assert start is not None
        texture = torch.where(here[..., None], texture, start.view(texture.shape[1:]))
        plain = torch.stack([here.float(), gray_mean, gray_sd, speed_mean.clamp(min=0.1)], 2)
        return torch.cat([plain, texture], 2)

    def _first_sums(self, image: Tensor, labels: Tensor) -> Tensor:
        """(batch, 6, 4): voxels, sum of gray levels, valid voxels, sum of their speeds."""
        columns = []
        for layer in range(1, LAYERS + 1):
            mask = (labels == layer).float()
            valid = mask * image[:, 2] if self.shear_wave else torch.zeros_like(mask)
            speed = valid * image[:, 1] if self.shear_wave else valid
            columns.append(
                torch.stack(
                    [part.sum((1, 2, 3)) for part in (mask, mask * image[:, 0], valid, speed)], 1
                )
            )
        return torch.stack(columns, 1)

    def _second_sums(self, gray: Tensor, labels: Tensor, mean: Tensor) -> Tensor:
        """(batch, 6, 1 + 2 x maps): squared deviations, texture maps, squared texture maps, summed."""
        columns = []
        for layer in range(1, LAYERS + 1):
            mask = (labels == layer).float()
            rows = torch.nonzero(mask.amax((0, 1, 3)))[:, 0]
            if rows.numel() == 0:
                columns.append(gray.new_zeros(gray.shape[0], 1 + 2 * self.texture_maps))
                continue
            # Only the layer's rows and what the texture network sees around them: same sums, less work.
            top, bottom = max(int(rows[0]) - self.margin, 0), int(rows[-1]) + 1 + self.margin
            mask, part = mask[:, :, top:bottom], gray[:, :, top:bottom]
            rest = (part - mean[:, layer - 1, None, None, None]) * mask
            batch, slices = rest.shape[:2]
            maps = self.texture((rest / GRAY_STEP).flatten(0, 1)[:, None])
            maps = (maps * mask.flatten(0, 1)[:, None]).unflatten(0, (batch, slices))
            square = rest.square().sum((1, 2, 3))[:, None]
            columns.append(
                torch.cat([square, maps.sum((1, 3, 4)), maps.square().sum((1, 3, 4))], 1)
            )
        return torch.stack(columns, 1)

    def _over_slices(
        self, sums: Callable[[Tensor, Tensor], Tensor], image: Tensor, labels: Tensor
    ) -> Tensor:
        """Add up ``sums`` over pieces of slices; for a gradient, each piece is computed twice."""
        total: Tensor | float = 0.0
        for start in range(0, labels.shape[1], SLICES_AT_ONCE):
            piece = slice(start, start + SLICES_AT_ONCE)
            arguments = image[:, :, piece], labels[:, piece]
            again = image.requires_grad and labels.shape[1] > SLICES_AT_ONCE
            total = total + (
                checkpoint(sums, *arguments, use_reentrant=False) if again else sums(*arguments)
            )
        assert isinstance(total, Tensor)
        return total
