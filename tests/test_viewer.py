"""OHIF, a viewer that others wrote, shows the results where they belong, for every form of source.

It reads them from Orthanc over DICOMweb, in a headless Chromium. Needs ``tests/viewer/fetch`` to have run.
With DICOM_NODE_VIEWER_PICTURES=FOLDER what it looked like is kept.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from dicom_node.deliver import deliver
from dicom_node.scanner.style import FORMS
from tests.report_phantom import SEGMENTS
from tests.test_orthanc import Orthanc
from tests.viewer_archive import dicomweb_archive
from tests.viewer_programs import built, chromium, missing, node
from tests.viewer_study import EMPTY, SHAPE, STEP, ViewerCase, make_viewer_case

PICTURES = "DICOM_NODE_VIEWER_PICTURES"
MM = {"mm": 1.0, "cm": 10.0}
MISNAMED = {"enhanced-apex": {"px": 1.0}}
"""OHIF 3.13.2 calls the millimeters of images without patient orientation px."""


@dataclass(frozen=True)
class Seen:
    """What the viewer made of a case: its own words, and the pictures beside them."""

    form: str
    case: ViewerCase
    words: dict[str, Any]
    folder: Path

    def place(self, image_id: str) -> int:
        """The slice that an image of the viewer shows."""
        found = re.search(r"/instances/([\d.]+)/frames/(\d+)", image_id)
        assert found, image_id
        return self.case.place(found[1], int(found[2]))

    def picture(self, name: str) -> NDArray[np.int16]:
        """(row, column, red green blue) of one canvas."""
        return np.asarray(Image.open(self.folder / f"{name}.png").convert("RGB")).astype(np.int16)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with dicomweb_archive(tmp_path_factory.mktemp("archive"), missing) as running:
        yield running


@pytest.mark.parametrize("form", FORMS)
def test_ohif_shows_the_results_where_they_belong(
    form: str, archive: Orthanc, tmp_path: Path
) -> None:
    dist, browser = built("ohif"), chromium()
    case = make_viewer_case(tmp_path, form)
    deliver([*case.sources, *case.results], archive.destination, "DICOM_NODE")
    folder = Path(os.environ.get(PICTURES) or tmp_path / "seen") / form
    folder.mkdir(parents=True, exist_ok=True)

    node("drive.js", dist, archive.rest, browser, case.study.study_uid, folder)

    words = json.loads((folder / "seen.json").read_text())
    assert "failed" not in words, words["failed"]
    assert not words["blank"]
    assert words["errors"] == []
    seen = Seen(form, case, words, folder)
    every_voxel_is_on_its_frame_under_its_name(seen)
    colors_lie_on_their_layer(seen)
    calipers_open_on_their_frame_with_their_value(seen)
    the_decision_is_an_arrow_that_says_research_only(seen)


def every_voxel_is_on_its_frame_under_its_name(seen: Seen) -> None:
    held = seen.words["segmentation"]
    is_known = seen.case.study.acquisitions[0].scan.geometry.frame_step_known
    doubt = "" if is_known else " (frame distance not known)"
    assert held["segments"] == [[segment.number, segment.label + doubt] for segment in SEGMENTS]
    rebuilt = np.zeros(SHAPE, np.uint8)
    for frame in held["frames"]:
        rebuilt[seen.place(frame["on"])] = np.reshape(frame["labels"], SHAPE[1:])
    assert np.array_equal(rebuilt, seen.case.labelmap)


def colors_lie_on_their_layer(seen: Seen) -> None:
    """On the screen: where the picture alone is as gray as a layer, the picture with layers has its color."""
    places = {index: seen.place(image) for index, image in seen.words["segmentation"]["drawn"]}
    assert EMPTY in places.values()
    for index, position in places.items():
        gray = seen.picture(f"plain-{index}")[..., 0]
        colored = colors(seen.picture(f"layers-{index}"))
        expected = np.unique(seen.case.labelmap[position])
        for number in expected:
            inside = level_ground(gray) & (abs(gray - STEP * (number + 1)) < STEP // 4)
            assert inside.sum() > 500, (index, number)
            assert (colored[inside] == number).mean() > 0.99, (index, number)
        if position == EMPTY:
            assert (colored == 0).mean() > 0.999


def level_ground(gray: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Away from borders, where a screen mixes gray levels and draws outlines."""
    return maximum_filter(gray, 15) - minimum_filter(gray, 15) < STEP // 4


def colors(picture: NDArray[np.int16]) -> NDArray[np.uint8]:
    """For each pixel the segment whose hue it has, 0 where it is gray."""
    tint = picture - picture.mean(axis=-1, keepdims=True)
    strength = np.linalg.norm(tint, axis=-1)
    wanted = np.array([segment.color for segment in SEGMENTS], dtype=float)
    wanted -= wanted.mean(axis=-1, keepdims=True)
    wanted /= np.linalg.norm(wanted, axis=-1, keepdims=True)
    return np.where(strength < 10, 0, (tint @ wanted.T).argmax(axis=-1) + 1)


def calipers_open_on_their_frame_with_their_value(seen: Seen) -> None:
    lines = [one for one in seen.words["measurements"] if one["tool"] == "Length"]
    wanted = {item.segment: item for item in seen.case.findings.measurements if item.line}
    assert {one["label"] for one in lines} == {
        f"{segment.number} {segment.label}" for segment in SEGMENTS
    }
    for one in lines:
        item = wanted[int(one["label"].split()[0])]
        (position, top, column), (_, bottom, _) = item.line
        value, unit = one["text"][0].split()[:2]
        in_mm = MM | MISNAMED.get(seen.form, {})
        assert float(value) * in_mm[unit] == pytest.approx(item.value, abs=0.01)
        assert seen.place(one["on"]) == position
        assert np.allclose(
            one["pixels"], [(column + 0.5, top + 0.5), (column + 0.5, bottom + 0.5)], atol=0.51
        )


def the_decision_is_an_arrow_that_says_research_only(seen: Seen) -> None:
    (arrow,) = (one for one in seen.words["measurements"] if one["tool"] != "Length")
    assert arrow["tool"] == "ArrowAnnotate"
    assert re.search("87 % .*research only", arrow["label"])
