"""report, judged by other people's programs: dicom3tools, dcmqi, DCMTK."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from dicom_node.report import write_objects
from dicom_node.scanner import Style
from models.scan import Scan
from tests.report_phantom import SHAPE, Request, make_case
from tests.report_reading import NO_PAGES
from tests.viewer_study import make_viewer_case

pytestmark = pytest.mark.peer
CASES = {
    "enhanced, shear wave": Request(Style(form="enhanced"), shear_wave=True),
    "enhanced-apex": Request(Style(form="enhanced-apex")),
    "multi-frame": Request(Style(form="multiframe", encoding="jpeg", color="YBR_FULL_422")),
    "frames": Request(Style(form="frames")),
    "frames without patient geometry, shear wave": Request(
        Style(form="frames-plain"), shear_wave=True
    ),
    "layers absent": Request(present=(1, 3, 4, 6)),
    "non-square pixels": Request(spacing_mm=(0.5, 0.2, 0.25)),
    "nothing found": Request(present=()),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys(), scope="module")
def case(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("peers")
    study, outcomes = make_case(folder / "source", request.param)
    written = write_objects(study, outcomes, folder, NO_PAGES)
    return study, outcomes[0], {item.kind: item.path for item in reversed(written)}, request.param


def call(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a peer, not the namesake that a Python package may put beside the interpreter."""
    folders = f"/usr/bin:/bin:/usr/local/bin:{Path(sys.executable).parent}"
    path = shutil.which(program, path=folders)
    if path is None:
        pytest.skip(f"{program} is not installed")
    command = [path, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def convert(program: str, path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """One of dcmqi's converters to NRRD."""
    return call(program, "--inputDICOM", path, "--outputDirectory", folder, "-t", "nrrd")


def test_dciodvfy_finds_no_error(case):
    for kind, path in case[2].items():
        done = call("dciodvfy", path)
        errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
        assert not errors, (kind, errors[:3])


def test_dcmqi_reads_the_same_voxels(case, tmp_path):
    study, outcome, paths, request = case
    done = convert("segimage2itkimage", paths["segmentation"], tmp_path)
    assert done.returncode == 0, done.stderr
    rebuilt = np.zeros(SHAPE, np.uint8)
    for file in tmp_path.glob("*.nrrd"):
        values, voxels = on_scan(file, study.acquisitions[0].scan, request.style.form)
        found = values > 0
        rebuilt[tuple(voxels[found].T)] = values[found]
    assert np.array_equal(rebuilt, outcome.findings.segmentation.labelmap)


def on_scan(file: Path, scan: Scan, form: str) -> tuple[np.ndarray, np.ndarray]:
    """The values of an image file, and the voxel of the scan at the place of each.

    Sources without geometry in the patient lie in the plain plane, all others where the scan does.
    """
    step, row, column = scan.spacing_mm
    plain = np.array([[0, 0, column, 0], [0, row, 0, 0], [step, 0, 0, 0], [0, 0, 0, 1]])
    affine = scan.affine if form in ("enhanced", "frames") else plain
    image = sitk.ReadImage(str(file))
    values = sitk.GetArrayFromImage(image)
    indices = np.argwhere(np.ones(values.shape, bool))
    direction = np.reshape(image.GetDirection(), (3, 3))
    points = indices[:, ::-1] * image.GetSpacing() @ direction.T + image.GetOrigin()
    homogeneous = np.column_stack([points, np.ones(len(points))])
    voxels = np.linalg.solve(affine, homogeneous.T).T[:, :3]
    assert np.allclose(voxels, np.rint(voxels), atol=1e-3)
    return values.ravel(), np.rint(voxels).astype(int)


def test_dcmqi_reads_every_measurement_group(case, tmp_path):
    _, _, paths, request = case
    target = tmp_path / "groups.json"
    done = call("tid1500reader", "--inputDICOM", paths["measurements"], "--outputMetadata", target)
    assert done.returncode == 0, done.stderr
    read = json.loads(target.read_text())["Measurements"]
    # A twin and a group per layer, and one for the decision.
    assert len(read) == 2 * len(request.present) + 1


def test_dcmqi_reads_the_map(case, tmp_path):
    study, outcome, paths, request = case
    if "map" not in paths:
        # Only a source that states all of its geometry gets one.
        assert request.style.form in ("enhanced-apex", "multiframe", "frames-plain")
        return
    done = convert("paramap2itkimage", paths["map"], tmp_path)
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("*.nrrd")
    values, voxels = on_scan(file, study.acquisitions[0].scan, request.style.form)
    assert np.array_equal(values, outcome.findings.attributions[0].map[tuple(voxels.T)])


def test_dcmtk_prints_the_report(case):
    done = call("dsrdump", case[2]["measurements"])
    assert done.returncode == 0, done.stderr
    assert "Imaging Measurement Report" in done.stdout
    assert "Research use only" in done.stdout
    assert "E:" not in done.stderr


JAVA = Path("/usr/share/java")
LIMITS = [f"-Djdk.xml.xpath{name}Limit=0" for name in ("ExprGrp", "ExprOp", "TotalOp")]
"""Java 17 refuses the validator's own rules without these."""

SHORT = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
"""A run of seconds does not earn back what the best compiler and the parallel collector cost."""


def test_pixelmed_finds_no_error_in_a_report(tmp_path):
    """Of one report: a Java machine needs seconds for each, so one with few layers."""
    jars = [JAVA / f"{name}.jar" for name in ("pixelmed", "commons-codec", "javax.json")]
    if absent := [jar.name for jar in jars if not jar.exists()]:
        pytest.skip(f"{absent[0]} is not installed (apt-get install libpixelmed-java)")
    request = Request(Style(form="multiframe"), present=(1, 3))
    study, outcomes = make_case(tmp_path / "source", request)
    written = write_objects(study, outcomes, tmp_path, NO_PAGES)
    (report,) = (item.path for item in written if item.kind == "measurements")
    path = ":".join(map(str, jars))
    done = call(
        "java", *SHORT, *LIMITS, "-cp", path, "com.pixelmed.validate.DicomSRValidator", report
    )
    assert "IOD validation complete" in done.stdout, done.stderr
    assert "Root Template Validation Complete" in done.stdout
    errors = [line for line in done.stdout.splitlines() if line.startswith("Error")]
    # CID 100 is a baseline (TID 1500, row 4), which this validator takes for all that there may be.
    errors = [line for line in errors if "not found in context group 100" not in line]
    assert not errors, errors[:3]


def test_bits_that_would_fill_an_odd_number_of_bytes_get_one_empty_frame(tmp_path):
    case = make_viewer_case(tmp_path, "enhanced", ("SEG",))
    mask = dcmread(case.segmentation)
    assert mask.NumberOfFrames == 35 + 1
    assert len(mask.PixelData) * 8 == 36 * mask.Rows * mask.Columns
    places = [
        list(group.FrameContentSequence[0].DimensionIndexValues)
        for group in mask.PerFrameFunctionalGroupsSequence
    ]
    assert places == sorted(places)
    empty = [not frame.any() for frame in mask.pixel_array]
    assert empty.count(True) == 1
    done = call("dciodvfy", case.segmentation)
    assert not [line for line in done.stderr.splitlines() if line.startswith("Error")]
    done = convert("segimage2itkimage", case.segmentation, tmp_path)
    assert done.returncode == 0, done.stderr
    rebuilt = np.zeros_like(case.labelmap)
    for file in tmp_path.glob("*.nrrd"):
        values, voxels = on_scan(file, case.study.acquisitions[0].scan, "enhanced")
        rebuilt[tuple(voxels[values > 0].T)] = values[values > 0]
    assert np.array_equal(rebuilt, case.labelmap)
