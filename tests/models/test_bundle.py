"""The MONAI bundle: MONAI builds the network, which says the same; weights survive the way back."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, run, verify_net_in_out

from models.layer.network import SegmentationNetwork
from models.layer.weights import Segmenter, load_weights, save_weights
from models.training.bundle import BundleError, export_bundle, import_bundle
from models.training.shipped import SHIPPED

REQUIRED = {
    "schema", "version", "changelog", "monai_version", "pytorch_version", "numpy_version", "task",
    "description", "authors", "copyright", "network_data_format", "required_packages_version",
}  # fmt: skip
"""What MONAI's metadata schema asks for (meta_schema_20240725), and the changelog."""
TENSOR = {"type", "format", "num_channels", "spatial_shape", "dtype", "value_range"}
"""What it asks for of each input and output."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of six levels, as the deepest has strides of its own, with weights by chance."""
    torch.manual_seed(3)
    network = SegmentationNetwork(1, (4, 8, 8, 8, 16, 16))
    network.gray_mean.fill_(70.5)
    for _ in range(3):
        network(255 * torch.rand(2, 3, 64, 32))
    folder = tmp_path_factory.mktemp("weights")
    save_weights(
        folder, replace(load_weights(SHIPPED), segment=Segmenter(network.eval(), (0.15, 0.4)))
    )
    return folder


@pytest.fixture
def bundle(weights: Path, tmp_path: Path) -> Path:
    export_bundle(weights, tmp_path / "bundle")
    return tmp_path / "bundle"


def edit(path: Path, key: str, value: object) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    *parents, last = key.split(".")
    place = config
    for parent in parents:
        place = place[parent]
    place[last] = value
    path.write_text(json.dumps(config), encoding="utf-8")


def test_the_bundle_has_its_parts_and_says_research_use(bundle: Path, weights: Path) -> None:
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    assert metadata.keys() >= REQUIRED
    shapes = metadata["network_data_format"]
    for tensor in (shapes["inputs"]["image"], shapes["outputs"]["pred"]):
        assert tensor.keys() >= TENSOR
        assert len(tensor["channel_def"]) == tensor["num_channels"]
    assert "Not a medical device" in metadata["intended_use"]
    assert load_weights(weights).sha256 in metadata["changelog"]["1.0.0"]
    for name in ("configs/inference.json", "models/model.pt", "docs/README.md", "LICENSE"):
        assert (bundle / name).stat().st_size > 100
    assert "import" not in (bundle / "configs" / "inference.json").read_text(encoding="utf-8")


def test_monai_builds_the_network_and_it_says_the_same(bundle: Path, weights: Path) -> None:
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / "inference.json")
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True))
    before = parser.get_parsed_content("preprocessing")
    ours = load_weights(weights).segment.network
    torch.manual_seed(0)
    image = 255 * torch.rand(2 * ours.neighbors + 1, 1, 75, 43)
    with torch.inference_mode():
        theirs = network.eval()(before({"image": image})["image"][None, :, 0])[..., :75, :43]
        torch.testing.assert_close(theirs, ours(image[None, :, 0]), atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore")  # that running a configuration runs code
def test_monai_runs_the_bundle_from_array_to_labels(
    bundle: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", sys.path.copy())  # MONAI puts the bundle on it
    network = load_weights(weights).segment.network
    sweep = np.random.default_rng(0).integers(0, 256, (11, 75, 43)).astype(np.uint8)
    np.save(tmp_path / "sweep.npy", sweep)
    run(
        config_file=str(bundle / "configs" / "inference.json"),
        bundle_root=str(bundle),
        image=str(tmp_path / "sweep.npy"),
        output=str(tmp_path / "labels.npy"),
        device="cpu",
    )
    found = np.load(tmp_path / "labels.npy")
    assert (found.dtype, found.shape) == (np.uint8, sweep.shape)
    padded = torch.from_numpy(np.pad(sweep, ((1, 1), (0, 0), (0, 0)), "edge")).float()
    with torch.inference_mode():
        scores, order = network(padded.unfold(0, 3, 1).movedim(-1, 1)).sort(1)
    clear = (scores[:, -1] - scores[:, -2] > 1e-3).numpy()
    assert clear.mean() > 0.9
    assert len(np.unique(found)) > 1
    np.testing.assert_array_equal(found[clear], order[:, -1].numpy()[clear])


@pytest.mark.filterwarnings("ignore")
def test_monai_finds_shapes_and_types_as_the_metadata_say(bundle: Path) -> None:
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "inference.json"),
        device="cpu",
        n=2,
    )


def test_weights_come_back_bit_by_bit(bundle: Path, weights: Path, tmp_path: Path) -> None:
    made = import_bundle(bundle, tmp_path / "weights")
    shipped = load_weights(weights)
    assert made.segment.spacing_mm == shipped.segment.spacing_mm
    for part in ("segment", "pain_b", "pain_bswe"):
        one = getattr(made, part).network.state_dict()
        other = getattr(shipped, part).network.state_dict()
        assert one.keys() == other.keys()
        for key, item in one.items():
            assert item.numpy().tobytes() == other[key].numpy().tobytes(), key
    assert made.sha256 == shipped.sha256
    assert (tmp_path / "weights" / "place.toml").exists(), "without a gate nothing is refused"
    assert "MONAI bundle" in made.statement


@pytest.mark.parametrize(
    ("file", "key", "value", "words"),
    [
        ("inference.json", "network_def.num_res_units", 2, "num_res_units is 2"),
        ("inference.json", "network_def._target_", "SegResNet", "_target_ is 'SegResNet'"),
        ("inference.json", "network_def.channels", [8, 16], "strides"),
        ("inference.json", "network_def", {}, "no U-Net"),
        ("inference.json", "spacing_mm", [0.2], "spacing_mm"),
        ("inference.json", "preprocessing", {}, "NormalizeIntensityd"),
    ],
)
def test_a_bundle_of_another_architecture_is_refused(
    bundle: Path, tmp_path: Path, file: str, key: str, value: object, words: str
) -> None:
    edit(bundle / "configs" / file, key, value)
    with pytest.raises(BundleError, match=words):
        import_bundle(bundle, tmp_path / "weights")
    assert not (tmp_path / "weights").exists()


def test_a_bundle_that_lacks_a_part_or_holds_other_tensors_is_refused(
    bundle: Path, tmp_path: Path
) -> None:
    model = bundle / "models" / "model.pt"
    torch.save({"x": torch.zeros(1)}, model)
    with pytest.raises(BundleError, match="does not fit its network_def"):
        import_bundle(bundle, tmp_path / "weights")
    model.write_bytes(b"no model")
    with pytest.raises(BundleError, match=r"model\.pt: cannot be read"):
        import_bundle(bundle, tmp_path / "weights")
    shutil.rmtree(bundle / "configs")
    with pytest.raises(BundleError, match=r"inference\.json: cannot be read"):
        import_bundle(bundle, tmp_path / "weights")


def test_the_shipped_network_goes_into_a_bundle(tmp_path: Path) -> None:
    files = export_bundle(SHIPPED, tmp_path)
    assert all(path.exists() for path in files)
