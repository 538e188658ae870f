"""Bundle: the segmentation network as a MONAI bundle, and back.

The bundle's network is MONAI's U-Net alone; what our network does around it, neighbors, normalization and
padding, stands in ``configs/inference.json``, which ``monai.bundle run`` takes from array to labels. The
metadata say which slices its input are.
"""

import hashlib
import json
import math
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import Tensor

from models.layer.labels import SEGMENTS
from models.layer.network import TRAINED_PADDING, SegmentationNetwork
from models.layer.weights import Segmenter, Weights, load_weights, save_weights
from models.training.config import TrainingError
from models.training.shipped import SHIPPED, copy_gate

METADATA, INFERENCE = Path("configs/metadata.json"), Path("configs/inference.json")
MODEL, README, LICENSE = Path("models/model.pt"), Path("docs/README.md"), Path("LICENSE")
SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)
UNET = "unet."
NORMALIZE, PAD = "NormalizeIntensityd", "DivisiblePadd"


class BundleError(TrainingError):
    """A bundle cannot be written or read; says which file and what is wrong."""


def export_bundle(weights_folder: Path, out: Path) -> tuple[Path, ...]:
    """Write the segmentation network of a weights folder as a bundle; returns the files.

    Raises BundleError when the network holds more than a U-Net and its normalization.
    """
    weights = load_weights(weights_folder)
    network = weights.segment.network
    state = network.state_dict()
    rest = {key for key in state if not key.startswith(UNET)} - {"gray_mean", "gray_sd"}
    if rest:
        raise BundleError(f"the network has parts that a bundle does not hold: {sorted(rest)}")
    texts = {
        METADATA: json.dumps(_metadata(weights), indent=4) + "\n",
        INFERENCE: json.dumps(_inference(weights.segment), indent=4) + "\n",
        README: _readme(weights),
        LICENSE: _license(),
    }
    for path, text in texts.items():
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_text(text, encoding="utf-8")
    (out / MODEL).parent.mkdir(exist_ok=True)
    torch.save(
        {
            key.removeprefix(UNET): item
            for key, item in state.items()
            if key not in ("gray_mean", "gray_sd")
        },
        out / MODEL,
    )
    return tuple(out / path for path in (*texts, MODEL))


def network_def(network: SegmentationNetwork) -> dict[str, Any]:
    """The U-Net as MONAI's ConfigParser builds it."""
    strides: Any = network.unet.strides  # MONAI types them as numbers, and takes pairs
    return {
        "_target_": "UNet",
        "spatial_dims": 2,
        "in_channels": 2 * network.neighbors + 1,
        "out_channels": len(SEGMENTS) + 1,
        "channels": list(network.channels),
        "strides": [list(pair) for pair in strides],  # rows, columns
        "num_res_units": 1,
        "norm": "batch",
    }


def _preprocessing(network: SegmentationNetwork) -> list[dict[str, Any]]:
    """What the network does itself before its U-Net: normalize, and pad as in training."""
    return [
        {
            "_target_": NORMALIZE,
            "keys": "image",
            "subtrahend": float(network.gray_mean),
            "divisor": float(network.gray_sd),
        },
        {
            "_target_": "BorderPadd",
            "keys": "image",
            "spatial_border": [0, 0, 0, 0, 0, TRAINED_PADDING],
            "mode": "edge",
        },
        {
            "_target_": PAD,
            "keys": "image",
            "k": [1, *network.multiple],
            "mode": "edge",
            "method": "end",
        },
    ]


def _inference(segmenter: Segmenter) -> dict[str, Any]:
    """What MONAI runs: the grid's sweep as NumPy array in, the most probable labels as NumPy array out."""
    network, around = segmenter.network, segmenter.network.neighbors
    return {
        "bundle_root": ".",
        "image": "image.npy",
        "output": "labels.npy",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": network_def(network),
        "spacing_mm": list(segmenter.spacing_mm),
        "preprocessing": {"_target_": "Compose", "transforms": _preprocessing(network)},
        "sweep": "$torch.from_numpy(np.load(@image).astype(np.float32))",
        "neighbors": f"$torch.arange({-around}, {around + 1})[:, None] + torch.arange(len(@sweep))",
        "stack": "$@sweep[@neighbors.clamp(0, len(@sweep) - 1)]",
        "ready": "$@preprocessing({'image': @stack})['image'][None].to(@device)",
        "inferer": {
            "_target_": "SliceInferer",
            "spatial_dim": 0,
            "roi_size": "$tuple(@ready.shape[-2:])",
            "sw_batch_size": 8,
        },
        "scores": "$@inferer(@ready, @network_def)[0]",
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "AsDiscreted", "keys": "pred", "argmax": True}],
        },
        "labels": "$@postprocessing({'pred': @scores})['pred'][0, :, :@sweep.shape[1], :@sweep.shape[2]]",
        "initialize": [
            f"$@network_def.load_state_dict(torch.load(@bundle_root + '/{MODEL}', weights_only=True))",
            "$@network_def.to(@device).eval().requires_grad_(False)",
        ],
        "run": ["$np.save(@output, @labels.cpu().numpy().astype(np.uint8))"],
    }


def _metadata(weights: Weights) -> dict[str, Any]:
    network = weights.segment.network
    return {
        "schema": SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported from weights {weights.sha256}"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch"),
        "numpy_version": version("numpy"),
        "required_packages_version": {},
        "name": "Lumbar soft tissue layers in ultrasound",
        "task": "Segmentation of six layers of the lower back in B-mode ultrasound",
        "description": f"{weights.statement} Not a medical device.",
        "authors": "dicom-node",
        "copyright": "Apache-2.0",
        "intended_use": "Research use only. Not a medical device.",
        "image_classes": "B-mode gray levels 0 to 255",
        "label_classes": "one channel of class scores for each label",
        "network_data_format": _data_format(network),
    }


def _data_format(network: SegmentationNetwork) -> dict[str, Any]:
    """What goes in and what comes out; any number of rows and columns that the levels divide."""
    slices, classes = 2 * network.neighbors + 1, ["outside", *(item.label for item in SEGMENTS)]
    shared = {
        "type": "image",
        "spatial_shape": [f"{multiple}*n" for multiple in network.multiple],
        "dtype": "float32",
        "is_patch_data": False,
    }
    image = shared | {
        "format": "magnitude",
        "modality": "US",
        "num_channels": slices,
        "value_range": [0, 255],
        "channel_def": {str(at): f"slice {at - network.neighbors:+d}" for at in range(slices)},
    }
    scores = shared | {
        "format": "segmentation",
        "num_channels": len(classes),
        "value_range": [],
        "channel_def": {str(number): name for number, name in enumerate(classes)},
    }
    return {"inputs": {"image": image}, "outputs": {"pred": scores}}


def _readme(weights: Weights) -> str:
    network, (row_mm, column_mm) = weights.segment.network, weights.segment.spacing_mm
    labels = ", ".join(item.label.lower() for item in SEGMENTS)
    count = 2 * network.neighbors + 1
    return f"""# Six layers of the lower back in ultrasound

Research use only. Not a medical device. {weights.statement}

Input of the network: {count} neighboring slices of a sweep as channels, gray levels 0 to 255, resampled to
{row_mm:g} mm (rows) by {column_mm:g} mm (columns); rows run from the probe down; at the ends of a sweep the
last slice repeats. Output: scores of seven classes for the middle slice: outside, {labels}.

## Run it

In this folder, with a sweep on that grid as NumPy array (slice, row, column):

    pip install monai fire
    python -m monai.bundle run --config_file configs/inference.json --image sweep.npy --output labels.npy

`labels.npy` is uint8 (slice, row, column): 0 outside, 1 to 6 the layers. From elsewhere add
`--bundle_root FOLDER`. As every configuration that MONAI runs it holds Python expressions: run only what you
trust. In Python, `stack` being those channels (channel, slice, row, column):

    from monai.bundle import ConfigParser
    parser = ConfigParser()
    parser.read_config("configs/inference.json")
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load("models/model.pt", weights_only=True))
    image = parser.get_parsed_content("preprocessing")({{"image": stack}})["image"]
    scores = network.eval()(image[:, 0][None])  # of the first slice

The metadata are checked without network by a copy of the schema that they name:

    pip install jsonschema
    python -m monai.bundle verify_metadata --meta_file configs/metadata.json --filepath SCHEMA.json

## What it does not

It neither reads DICOM or NIfTI nor resamples. dicom-node makes the labels of each column run from the skin
down, brings them back to the images' own grid and refuses scans that show no lumbar layers; none of that is
in this bundle, nor are thickness, pain and attribution. Its labels are those of the network alone.
Weights sha256 {weights.sha256}.
"""


def _license() -> str:
    return (
        "Apache License, Version 2.0\n\nLicensed under the Apache License, Version 2.0; you may not use "
        "these files except in\ncompliance with the License. You may obtain a copy of the License at\n\n"
        "    http://www.apache.org/licenses/LICENSE-2.0\n\nUnless required by applicable law or agreed to in "
        'writing, software distributed\nunder the License is distributed on an "AS IS" BASIS, WITHOUT '
        "WARRANTIES OR\nCONDITIONS OF ANY KIND, either express or implied. See the License for the specific\n"
        "language governing permissions and limitations under the License.\n"
    )


def import_bundle(bundle: Path, out: Path) -> Weights:
    """Make a weights folder of a bundle's network; the pain networks stay the shipped ones.

    Raises BundleError when the bundle is not of this architecture, or a file of it is missing.
    """
    shipped = load_weights(SHIPPED)
    config, metadata = _read(bundle / INFERENCE), _read(bundle / METADATA)
    network = _network(bundle, config)
    data, state = _model(bundle)
    mean, sd = _normalization(bundle, config)
    state = {UNET + key: item for key, item in state.items()}
    try:
        network.load_state_dict(state | {"gray_mean": mean, "gray_sd": sd}, strict=True)
    except RuntimeError as error:
        raise BundleError(f"{bundle / MODEL} does not fit its network_def: {error}") from error
    spacing = config.get("spacing_mm", ())
    if len(spacing) != 2 or not all(math.isfinite(mm) and mm > 0 for mm in spacing):
        raise BundleError(
            f"{bundle / INFERENCE}: spacing_mm must be two numbers above 0 (row, column)"
        )
    statement = (
        f"Segmentation imported from the MONAI bundle {metadata.get('name', bundle.name)}, version "
        f"{metadata.get('version')}, model sha256 {hashlib.sha256(data).hexdigest()}. "
        f"Pain networks as in weights {shipped.sha256[:16]}: trained on simulation only. Research use only."
    )
    segmenter = Segmenter(network.eval(), (float(spacing[0]), float(spacing[1])))
    out.mkdir(parents=True, exist_ok=True)
    save_weights(out, replace(shipped, statement=statement.replace('"', "'"), segment=segmenter))
    copy_gate(out)
    return load_weights(out)


def _network(bundle: Path, config: dict[str, Any]) -> SegmentationNetwork:
    """The network of this architecture that ``network_def`` asks for, without its weights."""
    definition = config.get("network_def", {})
    try:
        network = SegmentationNetwork(
            (definition["in_channels"] - 1) // 2, tuple(definition["channels"])
        )
    except (KeyError, TypeError) as error:
        raise BundleError(f"{bundle / INFERENCE}: network_def names no U-Net: {error}") from error
    for key, value in network_def(network).items():
        if definition.get(key) != value:
            raise BundleError(
                f"{bundle / INFERENCE}: network_def.{key} is {definition.get(key)!r}, this node's network "
                f"has {value!r}"
            )
    return network


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = ConfigParser.load_config_file(path)
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: cannot be read: {error}") from error
    return found


def _model(bundle: Path) -> tuple[bytes, dict[str, Tensor]]:
    path = bundle / MODEL
    try:
        return path.read_bytes(), torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, UnpicklingError) as error:
        raise BundleError(f"{path}: cannot be read as a state dict: {error}") from error


def _normalization(bundle: Path, config: dict[str, Any]) -> tuple[Tensor, Tensor]:
    steps = config.get("preprocessing", {}).get("transforms", ())
    for step in steps:
        if step.get("_target_") == NORMALIZE:
            return torch.tensor(step["subtrahend"]), torch.tensor(step["divisor"])
    raise BundleError(
        f"{bundle / INFERENCE}: preprocessing has no {NORMALIZE} with subtrahend and divisor"
    )
