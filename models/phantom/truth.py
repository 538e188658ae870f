"""Truth on disk: the label map as NIfTI and the numbers as JSON."""

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from models.phantom.factors import LAYERS
from models.phantom.synthesize import Phantom


def write_truth(phantom: Phantom, folder: Path) -> tuple[Path, Path]:
    """Write ``labelmap.nii.gz`` and ``truth.json`` into a folder, and return both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    image_path, text_path = folder / "labelmap.nii.gz", folder / "truth.json"
    sitk.WriteImage(to_image(phantom.labelmap, phantom.scan.affine), str(image_path))
    truth = {
        "seed": phantom.seed,
        "pain": phantom.pain,
        "pain_probability": phantom.pain_probability,
        "pain_latent": phantom.pain_latent,
        "thickness_mm": {LAYERS[number - 1]: mm for number, mm in phantom.thickness_mm.items()},
        "facts": dict(phantom.scan.facts),
        "factors": phantom.factors,
    }
    text_path.write_text(json.dumps(truth, indent=2) + "\n", encoding="utf-8")
    return image_path, text_path


def to_image(volume: NDArray[np.uint8], affine: NDArray[np.float64]) -> sitk.Image:
    """A volume (slice, row, column) as an ITK image, which counts (column, row, slice) and places in LPS."""
    image = sitk.GetImageFromArray(volume)
    columns = affine[:3, [2, 1, 0]]
    spacing = np.linalg.norm(columns, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((columns / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image
