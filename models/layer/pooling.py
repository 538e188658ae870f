"""LayerPooling: what one number after another says of a layer's own voxels, and the way back to the voxels.

Features are means over a layer's voxels, and standard deviations, which are means of squares: so each can
be shared out over the voxels it was pooled from, with nothing left over. No feature looks across a border.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from models.layer.network import LAYERS

SLICES_AT_ONCE = 8
"""Slices pooled in one piece: bounds memory, and the pieces' sums add up to the same features."""
GRAY_STEP = 20.0  # gray levels; about one standard deviation between patients at one gain
LEAST_SPEED = 0.1  # m/s; an invalid voxel says 0
LEAST_WEIGHT = 1e-6
INNER_ROWS, INNER_POWER = 7, 8  # 2 mm of rows: shear-wave maps are blurred by about 1.5 mm
ROW_STEP = 10.0  # rows; a trend with depth is counted in gray levels per this many rows

PRESENT, GRAY, GRAY_SD, SPEED, TREND, TEXTURE = range(6)
"""Columns of ``LayerPooling.pool``; means, then standard deviations of the texture maps fill the rest."""


class LayerPooling(nn.Module):
    """Features of each layer from its own voxels alone.

    channels      ("b-mode",) or ("b-mode", "shear-wave-speed", "shear-wave-valid").
    texture_maps  number of maps of the small texture network that all layers share.

    ``image`` is float32 (batch, channel, slice, row, column): gray levels 0-255, m/s, 0 or 1. ``labels``
    is uint8 (batch, slice, row, column), 0 = outside, 1-6. ``reference_pooled`` (6, feature) are the means of
    the training cohort, geometric means for standard deviation and speed; ``pooled_scale`` the standard
    deviations of what ``normal`` makes of the features.
    """

    reference_pooled: Tensor
    pooled_scale: Tensor

    def __init__(self, channels: tuple[str, ...] = ("b-mode",), texture_maps: int = 8) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.texture_maps = texture_maps
        self.shear_wave = "shear-wave-speed" in self.channels
        features = TEXTURE + 2 * texture_maps
        reference, scale = torch.ones(LAYERS, features), torch.ones(LAYERS, features)
        reference[:, GRAY] = torch.tensor([150.0, 70.0, 165.0, 75.0, 185.0, 100.0])
        reference[:, GRAY_SD] = 25.0
        reference[:, SPEED] = torch.tensor([2.0, 1.2, 2.5, 1.3, 4.0, 2.4])
        reference[:, TREND:] = 0.0
        scale[:, [GRAY, GRAY_SD, SPEED]] = torch.tensor([GRAY_STEP, 0.2, 0.2])
        self.register_buffer("reference_pooled", reference)
        self.register_buffer("pooled_scale", scale)
        # A layer's own voxels minus their mean, in; texture maps, out. No bias in the first: zero stays zero.
        self.texture = nn.Sequential(
            nn.Conv2d(1, texture_maps, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(texture_maps, texture_maps, 3, padding=2, dilation=2),
            nn.ReLU(),
        )
        self.margin = 3  # pixels that the texture network sees around one
        self.looks = (GRAY, GRAY_SD, *range(TREND, features))  # columns of a layer's appearance

    @property
    def reference_gray_mean(self) -> Tensor:
        """Mean gray level (6,) of the cohort's layers."""
        return self.reference_pooled[:, GRAY]

    def reference(self, pooled: Tensor) -> Tensor:
        """The same features (batch, 6, feature) at the cohort's means, with the gain of the scan kept.

        What the layers would show of the typical person under the same settings: the statistics-matched
        reference of a Shapley value. A speed that was not measured stays not measured.
        """
        typical = self.reference_pooled.expand_as(pooled).clone()
        typical[..., GRAY] += self.gain(pooled)
        typical[..., PRESENT] = pooled[..., PRESENT]
        typical = torch.where(pooled.isnan(), pooled, typical)
        return torch.where(pooled[..., :1] > 0, typical, pooled)

    def gain(self, pooled: Tensor) -> Tensor:
        """How much brighter the layers that are there are than the cohort's, in gray levels (batch, 1)."""
        present = pooled[..., PRESENT]
        above = (pooled[..., GRAY] - self.reference_gray_mean) * present
        return above.sum(1, keepdim=True) / present.sum(1, keepdim=True).clamp(min=1)

    def normal(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Appearance (batch, 6, look) and log speed (batch, 6), less reference, over scale.

        Absent layers have zeros; a speed that was not measured is NaN. The gain of the scan is taken out.
        """
        center, scale = self.reference_pooled, self.pooled_scale
        gray = pooled[..., GRAY] - center[:, GRAY] - self.gain(pooled)
        gray_sd = torch.log(pooled[..., GRAY_SD] / center[:, GRAY_SD])
        rest = pooled[..., TREND:] - center[:, TREND:]
        look = torch.cat([gray[..., None], gray_sd[..., None], rest], 2) / scale[:, self.looks]
        speed = torch.log(pooled[..., SPEED] / center[:, SPEED]) / scale[:, SPEED]
        return look * pooled[..., :1], speed * pooled[..., PRESENT]

    def share_out(
        self, image: Tensor, labels: Tensor, pooled: Tensor, weights: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Σ weight · normal feature of each layer, shared out over its voxels (batch, slice, row, column).

        ``pooled`` is what ``pool`` gives; ``weights`` of appearance (batch, 6, look) and of speed (6,) weigh
        what ``normal`` gives. The mean over a layer's voxels is that layer's sum: a logarithm or a root of a
        mean is shared out in proportion (DeepLIFT's rescale rule).
        """
        look, speed = weights
        center, gain = self.reference_pooled, self.gain(pooled)[:, 0]
        share = look / self.pooled_scale[:, self.looks]
        total = torch.zeros(labels.shape, device=image.device)
        for number in range(LAYERS):
            mask = (labels == number + 1).float()
            used = torch.nonzero(mask.amax((0, 1, 3)))[:, 0]
            if used.numel() == 0:
                continue
            # Only the layer's rows and what the texture network sees around them: same sums, less work.
            window = slice(max(int(used[0]) - self.margin, 0), int(used[-1]) + 1 + self.margin)
            mask, part = mask[:, :, window], image[:, :, :, window]
            own, typical, weight = pooled[:, number], center[number], share[:, number]
            rest = (part[:, 0] - _each(own[:, GRAY])) * mask
            offset = own[:, GRAY] - typical[GRAY] - gain
            found = _each(weight[:, 0]) * (rest + _each(offset))
            square = rest.square() + 1e-2 - typical[GRAY_SD].square()
            found += _each(weight[:, 1] * _log_slope(own[:, GRAY_SD], typical[GRAY_SD])) * square
            middle, spread = _rows_of(mask)
            rows = torch.arange(mask.shape[2], device=mask.device)[:, None] - _each(middle)
            trend = rest * rows / _each(spread) * ROW_STEP - typical[TREND]
            found += _each(weight[:, 2]) * trend
            found += self._share_texture(rest, own, number, weight[:, 3:])
            if self.shear_wave:
                slope = speed[number] / self.pooled_scale[number, SPEED]
                found += slope * self._share_speed(part, mask, typical[SPEED])
            total[:, :, window] += found * mask
        return total

    def _share_texture(self, rest: Tensor, own: Tensor, number: int, weight: Tensor) -> Tensor:
        """The texture maps' part of one layer (batch, slice, row, column)."""
        count = self.texture_maps
        center = self.reference_pooled[number, TEXTURE:]
        first, deviation = own[:, TEXTURE : TEXTURE + count], own[:, TEXTURE + count :]
        # (σ - σ₀) = (σ² - σ₀²) / (σ + σ₀), and σ² is a mean over voxels
        second = weight[:, count:] / (deviation + center[count:]).clamp(min=1e-3)
        # Σ weight · (map - typical) + second · ((map - first)² + 1e-6 - typical²), by powers of the map
        linear = weight[:, :count] - 2 * second * first
        rest_of = second * (first.square() + 1e-6 - center[count:].square())
        constant = (rest_of - weight[:, :count] * center[:count]).sum(1)
        planes = []
        for plane in rest.unbind(1):
            maps = self.texture((plane / GRAY_STEP)[:, None])
            sums = torch.einsum("bm,bmrc->brc", linear, maps)
            sums += torch.einsum("bm,bmrc->brc", second, maps.square())
            planes.append(sums + constant[:, None, None])
        return torch.stack(planes, 1)

    def _share_speed(self, image: Tensor, mask: Tensor, typical: Tensor) -> Tensor:
        """Log speed of each voxel less the typical one, weighted as it was pooled."""
        inner = _inner(mask) * image[:, 2]
        share = mask.sum((1, 2, 3)) / inner.sum((1, 2, 3)).clamp(min=LEAST_WEIGHT)
        return inner * _each(share) * (image[:, 1].clamp(min=LEAST_SPEED) / typical).log()

    def pool(self, image: Tensor, labels: Tensor) -> Tensor:
        """Features of each layer from its own voxels alone, (batch, 6, 5 + 2 x texture maps).

        In order: 1 if the layer is there, mean gray level, its standard deviation, shear-wave speed
        (geometric mean over valid voxels, those inside the layer counting more: the maps are blurred), trend
        of the gray level with depth, then mean and standard deviation of each texture map. A layer that is
        not there has its reference values; a layer without a valid speed has NaN there.
        """
        sums = self._over_slices(self._first_sums, image, labels)
        count, gray, rows, squares, valid, log_speed = sums.unbind(2)
        here, many = count > 0, count.clamp(min=1)
        center = self.reference_pooled
        gray_mean, middle = gray / many, rows / many
        spread = (squares / many - middle.square()).clamp(min=1.0)

        def second(image: Tensor, labels: Tensor) -> Tensor:
            return self._second_sums(image[:, 0], labels, torch.stack([gray_mean, middle], 2))

        means = self._over_slices(second, image, labels) / many[..., None]
        gray_sd = (means[..., 0] + 1e-2).sqrt()
        speed = (log_speed / valid.clamp(min=LEAST_WEIGHT)).exp()
        none = torch.nan if self.shear_wave else center[:, SPEED]
        speed = torch.where(valid > 0, speed, none)
        trend = means[..., 1] / spread * ROW_STEP
        first, square = means[..., 2:].chunk(2, dim=2)
        deviation = ((square - first.square()).clamp(min=0) + 1e-6).sqrt()
        plain = torch.stack([here.float(), gray_mean, gray_sd, speed, trend], 2)
        absent = center.clone()
        absent[:, PRESENT] = 0.0
        return torch.where(here[..., None], torch.cat([plain, first, deviation], 2), absent)

    def _first_sums(self, image: Tensor, labels: Tensor) -> Tensor:
        """(batch, 6, 6): voxels, gray levels, rows, squared rows, weights and weighted logs of the speed."""
        row = torch.arange(labels.shape[2], device=labels.device, dtype=torch.float32)[:, None]
        columns = []
        for layer in range(1, LAYERS + 1):
            mask = (labels == layer).float()
            parts = [mask, mask * image[:, 0], mask * row, mask * row.square()]
            if self.shear_wave:
                inner = _inner(mask) * image[:, 2]
                parts += [inner, inner * image[:, 1].clamp(min=LEAST_SPEED).log()]
            else:
                parts += [torch.zeros_like(mask)] * 2
            columns.append(torch.stack([part.sum((1, 2, 3)) for part in parts], 1))
        return torch.stack(columns, 1)

    def _second_sums(self, gray: Tensor, labels: Tensor, means: Tensor) -> Tensor:
        """(batch, 6, 2 + 2 x maps): squared deviations, deviations x rows, texture maps, their squares."""
        columns = []
        for layer in range(1, LAYERS + 1):
            mask = (labels == layer).float()
            rows = torch.nonzero(mask.amax((0, 1, 3)))[:, 0]
            if rows.numel() == 0:
                columns.append(gray.new_zeros(gray.shape[0], 2 + 2 * self.texture_maps))
                continue
            # Only the layer's rows and what the texture network sees around them: same sums, less work.
            top, bottom = max(int(rows[0]) - self.margin, 0), int(rows[-1]) + 1 + self.margin
            mask, part = mask[:, :, top:bottom], gray[:, :, top:bottom]
            mean, middle = means[:, layer - 1].unbind(1)
            rest = (part - _each(mean)) * mask
            row = torch.arange(top, top + part.shape[2], device=part.device)[:, None]
            plain = [rest.square(), rest * (row - _each(middle))]
            batch, slices = rest.shape[:2]
            maps = self.texture((rest / GRAY_STEP).flatten(0, 1)[:, None])
            maps = (maps * mask.flatten(0, 1)[:, None]).unflatten(0, (batch, slices))
            sums = [item.sum((1, 2, 3))[:, None] for item in plain]
            sums += [maps.sum((1, 3, 4)), maps.square().sum((1, 3, 4))]
            columns.append(torch.cat(sums, 1))
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


def _inner(mask: Tensor) -> Tensor:
    """Weight of each voxel (batch, slice, row, column), greatest where the layer is thick above and below."""
    share = functional.avg_pool2d(mask, (INNER_ROWS, 1), 1, (INNER_ROWS // 2, 0))
    return mask * share**INNER_POWER


def _rows_of(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (at least 1) of the rows of a layer's voxels, each (batch,)."""
    row = torch.arange(mask.shape[2], device=mask.device, dtype=torch.float32)
    count = mask.sum((1, 3))
    many = count.sum(1).clamp(min=1)
    middle = (count * row).sum(1) / many
    return middle, ((count * row.square()).sum(1) / many - middle.square()).clamp(min=1.0)


def _log_slope(value: Tensor, reference: Tensor) -> Tensor:
    """(log value - log reference) / (value² - reference²), also where both are the same."""
    ratio = value / reference
    near = (ratio - 1).abs() < 1e-4
    safe = torch.where(near, ratio.new_tensor(2.0), ratio)
    slope = torch.where(near, 1 - (ratio - 1), safe.log() / (safe.square() - 1) * 2)
    return slope / (2 * reference.square())


def _each(values: Tensor) -> Tensor:
    """(batch,) beside (batch, slice, row, column)."""
    return values[:, None, None, None]
