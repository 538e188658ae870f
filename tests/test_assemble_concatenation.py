"""A sweep that arrives in several instances is one sweep again, or incomplete."""

import copy

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import UID

from dicom_node.errors import Incomplete
from dicom_node.report import write_objects
from dicom_node.scanner import Style, write_study
from dicom_node.study import Outcome
from tests.assemble_studies import SHAPE, assemble, make_scan
from tests.plain_analysis import Plain

COUNTS = (1, 2, 1)
"""Frames of each part; SHAPE has four."""


def parts(folder, form, change=lambda part, number: None):
    """The instance cut into parts as PS3.3 C.7.6.16.2.2.4 has it, numbered against their order of names."""
    whole = dcmread(write_study(make_scan(), folder / "whole", Style(form))[0])
    size = whole.Rows * whole.Columns
    paths, start = [], 0
    for number, count in enumerate(COUNTS, start=1):
        part = copy.deepcopy(whole)
        part.SOPInstanceUID = UID(f"{whole.SOPInstanceUID[:50]}.{9 - number}")
        part.file_meta.MediaStorageSOPInstanceUID = part.SOPInstanceUID
        part.ConcatenationUID, part.InConcatenationNumber = UID("2.25.77"), number
        part.InConcatenationTotalNumber, part.ConcatenationFrameOffsetNumber = len(COUNTS), start
        part.NumberOfFrames, part.InstanceNumber = count, 9 - number
        part.PixelData = whole.PixelData[start * size : (start + count) * size]
        if "PerFrameFunctionalGroupsSequence" in whole:
            groups = whole.PerFrameFunctionalGroupsSequence[start : start + count]
            part.PerFrameFunctionalGroupsSequence = list(groups)
        change(part, number)
        paths.append(folder / f"part-{9 - number}.dcm")
        part.save_as(paths[-1])
        start += count
    return paths


@pytest.mark.parametrize("form", ["enhanced", "enhanced-apex", "multiframe"])
def test_parts_are_one_sweep_in_their_order(tmp_path, form):
    study = assemble(parts(tmp_path, form)[::-1])
    (acquisition,) = study.acquisitions
    np.testing.assert_array_equal(acquisition.scan.voxels, make_scan().voxels)
    (source,) = acquisition.sources
    numbers = [
        (int(source.headers()[f.instance].InConcatenationNumber), f.number) for f in source.frames
    ]
    assert numbers == [(1, 1), (2, 1), (2, 2), (3, 1)]
    assert study.unused == ()


def no_total(part, number):
    del part.InConcatenationTotalNumber


def twice(part, number):
    part.InConcatenationNumber = min(number, 2)


@pytest.mark.parametrize(
    ("left_out", "change", "reason"),
    [
        (0, None, "1 of 3 parts are missing"),
        (1, None, "1 of 3 parts are missing"),
        (2, None, "1 of 3 parts are missing"),
        (1, no_total, "parts are missing|comes twice"),
        (None, twice, "missing"),
    ],
)
def test_a_missing_part_is_no_shorter_sweep(tmp_path, left_out, change, reason):
    paths = parts(tmp_path, "multiframe", change or (lambda part, number: None))
    if left_out is not None:
        paths.pop(left_out)
    with pytest.raises(Incomplete, match=reason):
        assemble(paths)


def test_other_concatenations_are_other_sweeps(tmp_path):
    def own(part, number):
        part.ConcatenationUID = UID(f"2.25.{number}")
        part.InConcatenationNumber = part.InConcatenationTotalNumber = 1

    study = assemble(parts(tmp_path, "multiframe", own))
    assert [len(one.sources[0].frames) for one in study.acquisitions] == [2]
    assert [item.reason for item in study.unused] == ["one frame; a volume needs at least two"] * 2


def test_results_refer_to_the_frames_of_the_parts(tmp_path):
    paths = parts(tmp_path, "multiframe")
    study = assemble(paths)
    outcome = Outcome(0, "plain", Plain().run(study.acquisitions[0].scan))
    (tmp_path / "out").mkdir()
    written = write_objects(study, [outcome], tmp_path / "out")
    (seg,) = [dcmread(item.path) for item in written if item.kind == "segmentation"]
    references = set()
    for group in seg.PerFrameFunctionalGroupsSequence:
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        references.add((source.ReferencedSOPInstanceUID, int(source.ReferencedFrameNumber)))
    uids = [dcmread(path).SOPInstanceUID for path in paths]
    assert references == {(uids[0], 1), (uids[1], 1), (uids[1], 2), (uids[2], 1)}
    assert len(references) == SHAPE[0]
