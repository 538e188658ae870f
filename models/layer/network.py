"""The segmentation network of the layer analysis. It takes stored gray levels and normalizes them itself."""

import torch
from monai.networks.nets import UNet
from torch import Tensor, nn
from torch.nn import functional

LAYERS = 6
TRAINED_PADDING = 8


class SegmentationNetwork(nn.Module):
    """A 2.5D U-Net (MONAI): the neighboring slices are channels, the middle slice is labeled.

    Takes float32 (batch, 2 x neighbors + 1, rows, columns) of gray levels 0-255 on the analysis grid, any
    number of rows and columns. Returns scores (batch, 7, rows, columns); class 0 is outside, 1-6 the layers.
    """

    gray_mean: Tensor
    gray_sd: Tensor

    def __init__(
        self, neighbors: int = 2, channels: tuple[int, ...] = (24, 48, 96, 128, 128, 128)
    ) -> None:
        super().__init__()
        self.neighbors = neighbors
        self.channels = tuple(channels)
        self.register_buffer("gray_mean", torch.tensor(80.0))
        self.register_buffer("gray_sd", torch.tensor(60.0))
        # From the fifth level on only rows are halved: layers are told apart by what lies above and below
        # them, and that is far away in pixels three times as wide as high.
        levels = len(channels) - 1
        both = min(levels, 4)
        strides = [(2, 2)] * both + [(2, 1)] * (levels - both)
        self.multiple = 2**levels, 2**both
        self.unet = UNet(
            spatial_dims=2,
            in_channels=2 * neighbors + 1,
            out_channels=LAYERS + 1,
            channels=channels,
            strides=strides,  # type: ignore[arg-type] # its convolutions take pairs
            num_res_units=1,
            norm="batch",
        )

    def forward(self, image: Tensor) -> Tensor:
        rows, columns = image.shape[-2:]
        normal = (image - self.gray_mean) / self.gray_sd
        # As in training, whose crops were padded by that many columns: without them, the last columns of an
        # image that needs no padding are taken for the end of the field.
        right = TRAINED_PADDING + -(columns + TRAINED_PADDING) % self.multiple[1]
        padding = (0, right, 0, -rows % self.multiple[0])
        scores: Tensor = self.unet(functional.pad(normal, padding, mode="replicate"))
        return scores[..., :rows, :columns]
