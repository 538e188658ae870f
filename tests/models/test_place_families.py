"""The gate against families of scans that show no tissue; noise with bright bands through process."""

import html
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import dcmread

import models.layer
from dicom_node.process import process
from dicom_node.report import write_objects
from dicom_node.report.page import write_page
from dicom_node.scanner import Style, write_study
from dicom_node.settings import Node, Settings
from dicom_node.study import Outcome
from models.analysis import WeightsError
from models.findings import Findings
from models.layer import LayerAnalysis, concepts
from models.layer.place import FILE, judge, load_rule
from models.layer.weights import load_weights
from models.phantom import PhantomRequest, synthesize
from models.scan import Geometry, Scan
from models.training.found import find
from models.training.negatives import FAMILIES, make_negative
from tests.report_phantom import write_source
from tests.report_reading import by_kind

SHIPPED = Path(models.layer.__file__).parent
SMALL = PhantomRequest((2, 150, 90), (0.5, 0.25, 0.35))


def noise_with_bands(seed: int, slices: int = 6) -> Scan:
    """Rayleigh noise, weaker with depth, brighter in a few bands."""
    random = np.random.default_rng(seed)
    depth = np.arange(160) * 0.2
    gain = 40 * np.exp(-depth / 40)
    for middle in random.uniform(1, 24, 4):
        gain = gain * (1 + 2 * np.exp(-0.5 * ((depth - middle) / 0.5) ** 2))
    noise = random.rayleigh(1, (slices, 160, 128)) * gain[None, :, None]
    gray = np.clip(noise, 0, 255).round().astype(np.float32)[None]
    geometry = Geometry("measured", "measured", "measured")
    affine = np.array([[0, 0, 0.2, 0], [0, -0.2, 0, 0], [-0.5, 0, 0, 0], [0, 0, 0, 1.0]])
    return Scan(gray, ("b-mode",), ("1",), np.ones(gray.shape[1:], bool), affine, geometry)


def test_noise_with_bright_bands_is_refused_by_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = write_study(noise_with_bands(2), tmp_path / "in", Style())
    process(paths, tmp_path / "out", Settings(node=Node(analyses=("models.layer:analysis",))))
    assert "This does not look like a scan of the lower back" in capsys.readouterr().err
    written = {dcmread(path).Modality for path in (tmp_path / "out").rglob("*.dcm")}
    assert written == {"SR"}, "the answer that says why, and no result"


def test_no_noise_with_bright_bands_gets_a_decision() -> None:
    torch.set_num_threads(1)
    weights, rule = load_weights(SHIPPED), load_rule(SHIPPED)
    passed = []
    for seed in range(8):
        scan = noise_with_bands(seed, slices=2)
        layers = find(scan, weights)
        if layers.labelmap.any() and judge(scan, layers, rule).reason is None:
            passed.append(seed)
    assert not passed


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_of_a_family_gets_a_decision(family: str) -> None:
    """Some lumbar sweeps cut into blocks pass as layered; none of what is no tissue does."""
    torch.set_num_threads(1)
    weights, rule = load_weights(SHIPPED), load_rule(SHIPPED)
    undoubted = []
    for kind in FAMILIES[family]:
        scan = make_negative(70, kind, SMALL)
        layers = find(scan, weights)
        if layers.labelmap.any() and judge(scan, layers, rule).doubt is None:
            undoubted.append(kind)
    assert set(undoubted) <= {"blocks"}


@pytest.fixture(scope="module")
def withheld(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scan, Findings]:
    """A lumbar phantom under a rule by which nobody is sure."""
    folder = tmp_path_factory.mktemp("weights")
    for path in SHIPPED.glob("weights.*"):
        shutil.copy(path, folder)
    text = (SHIPPED / FILE).read_text(encoding="utf-8")
    rule = load_rule(SHIPPED)
    for likeness in rule.kinds.values():
        text = text.replace(f"sure_points = {likeness.sure_points}", "sure_points = -1.0")
    (folder / FILE).write_text(text, encoding="utf-8")
    scan = synthesize(11, replace(SMALL, shape=(3, 159, 91), spacing_mm=(0.7, 0.227, 0.263))).scan
    return scan, LayerAnalysis(folder).run(scan)


def test_a_scan_near_the_limit_gets_layers_and_thickness_but_no_decision(
    withheld: tuple[Scan, Findings],
) -> None:
    _, findings = withheld
    assert findings.classifications == findings.attributions == ()
    said = [flag.sentence for flag in findings.flags if flag.code == concepts.WITHHELD]
    assert len(said) == 1
    assert "No decision is given" in said[0]
    quantities = {item.quantity.meaning for item in findings.measurements}
    assert "Contribution to the logit, in log-odds" not in quantities
    assert any(item.unit.value == "mm" for item in findings.measurements)
    assert findings.segmentation.labelmap.any()


def test_the_report_and_the_page_say_why_there_is_no_decision(
    withheld: tuple[Scan, Findings], tmp_path: Path
) -> None:
    scan, findings = withheld
    study = write_source(tmp_path / "in", scan, Style())
    outcomes = (Outcome(0, "layer", findings),)
    (tmp_path / "objects").mkdir()
    written = by_kind(write_objects(study, outcomes, tmp_path / "objects"))
    assert "parametric-map" not in written
    report = dcmread(written["measurements"].path)
    sentence = next(flag.sentence for flag in findings.flags if flag.code == concepts.WITHHELD)
    texts = [item.value for item in report.iterall() if item.tag == 0x0040A160]
    assert any(sentence in text for text in texts)
    (tmp_path / "page").mkdir()
    page = write_page(study, outcomes, tmp_path / "page").read_text(encoding="utf-8")
    assert html.escape(sentence) in page or sentence in page
    assert "This analysis decides nothing" not in page


def test_weights_with_an_earlier_gate_say_how_to_fit_it_anew(tmp_path: Path) -> None:
    text = (SHIPPED / FILE).read_text(encoding="utf-8")
    (tmp_path / FILE).write_text(text.replace("[kinds.", "[before."), encoding="utf-8")
    with pytest.raises(WeightsError, match=r"fit it anew: python -m models\.training\.place"):
        load_rule(tmp_path)
