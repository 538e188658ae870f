"""Left and right of one study: carried from the scanner, compared in the report, or not and why."""

import json
from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_node.assemble import assemble_study
from dicom_node.report import write_objects
from dicom_node.report.page import write_page
from dicom_node.report.sides import compare_sides
from dicom_node.scanner import Style, write_study
from dicom_node.study import Outcome, StoredInstance
from models import codes
from models.findings import Measurement
from tests.report_phantom import make_findings, make_labelmap, make_scan
from tests.report_reading import NO_PAGES

LEFT_MM = {1: 2.0, 2: 4.0, 3: 1.0, 4: 6.0, 5: 1.5, 6: 20.0}
RIGHT_MM = {1: 2.0, 2: 5.0, 3: 0.8, 4: 6.5, 5: 1.9, 6: 21.0}


def laterality(letter):
    return lambda dataset: setattr(dataset, "ImageLaterality", letter)


def series(letter):
    return lambda dataset: setattr(dataset, "Laterality", letter)


def body_part(text):
    return lambda dataset: setattr(dataset, "BodyPartExamined", text)


def structure(code):
    """The primary anatomic structure with a modifier."""

    def edit(dataset):
        modifier(code)(dataset)
        (region,) = dataset.AnatomicRegionSequence
        del dataset.AnatomicRegionSequence
        region.PrimaryAnatomicStructureModifierSequence = region.AnatomicRegionModifierSequence
        del region.AnatomicRegionModifierSequence
        dataset.PrimaryAnatomicStructureSequence = [region]

    return edit


def modifier(code, meaning="side"):
    def edit(dataset):
        region, item = Dataset(), Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "SCT", meaning
        region.CodeValue, region.CodingSchemeDesignator = "52612000", "SCT"
        region.CodeMeaning = "Lumbar region"
        region.AnatomicRegionModifierSequence = [item]
        dataset.AnatomicRegionSequence = [region]

    return edit


def make_study(folder, *edits, form="enhanced", scans=()):
    """One study with an acquisition per edit."""
    instances, uid = [], None
    for number, edit in enumerate(edits):
        scan = scans[number] if scans else make_scan()
        for path in write_study(scan, folder / str(number), Style(form, seed=number)):
            dataset = dcmread(path)
            uid = uid or dataset.StudyInstanceUID
            dataset.StudyInstanceUID = uid
            dataset.PatientName, dataset.PatientID = "PHANTOM^0", "PHANTOM-0"
            dataset.SeriesNumber = number + 1
            edit(dataset)
            dataset.save_as(path)
            stored = StoredInstance(dataset.SOPInstanceUID, dataset.SOPClassUID, path)
            instances.append(stored)
    return assemble_study(uid, 1, instances, ())


def outcome(study, number, thickness_mm):
    findings = make_findings(make_labelmap())
    others = [m for m in findings.measurements if m.quantity != codes.THICKNESS]
    own = [
        Measurement(codes.THICKNESS, value, codes.MM, layer, derivation=codes.MEAN)
        for layer, value in thickness_mm.items()
    ]
    return Outcome(number, "layer", replace(findings, measurements=(*own, *others)))


def outcomes_of(study):
    known = {"left": LEFT_MM, "right": RIGHT_MM}
    return tuple(
        outcome(study, number, known.get(acquisition.scan.facts.get("side", ""), LEFT_MM))
        for number, acquisition in enumerate(study.acquisitions)
    )


@pytest.mark.parametrize(
    ("edit", "side"),
    [
        (laterality("L"), "left"),
        (laterality("R"), "right"),
        (series("R"), "right"),
        (laterality("B"), "both"),
        (modifier("7771000"), "left"),
        (modifier("24028007"), "right"),
        (laterality("U"), None),
        (lambda dataset: (laterality("L")(dataset), modifier("24028007")(dataset)), None),
        (lambda dataset: None, None),
        (laterality("LEFT"), "left"),
        (series("LEFT"), "left"),
        (modifier("51440002"), "both"),
        (modifier("G-A100"), "right"),
        (structure("24028007"), "right"),
        (modifier("L-99", "Left"), "left"),
        (body_part("LEFT LUMBAR"), "left"),
        (body_part("LSPINE"), None),
        (body_part("L SPINE"), None),
        (lambda dataset: (series("L")(dataset), laterality("R")(dataset)), None),
        (lambda dataset: (series("L")(dataset), laterality("L")(dataset)), "left"),
        (lambda dataset: (body_part("RIGHT BACK")(dataset), modifier("7771000")(dataset)), None),
        (modifier("7771000", "Right"), None),
    ],
)
@pytest.mark.parametrize("form", ["enhanced", "frames"])
def test_the_side_comes_from_the_scanner(tmp_path, edit, side, form):
    study = make_study(tmp_path, edit, form=form)
    assert study.acquisitions[0].scan.facts.get("side") == side


def test_left_minus_right_and_mean_stand_in_both_reports(tmp_path):
    study = make_study(tmp_path, laterality("L"), laterality("R"))
    outcomes = outcomes_of(study)
    (found,) = compare_sides(study, outcomes)
    sides = [study.acquisitions[n].scan.facts["side"] for n in (found.left, found.right)]
    assert sides == ["left", "right"]
    assert {p.segment: p.difference for p in found.pairs} == pytest.approx(
        {n: LEFT_MM[n] - RIGHT_MM[n] for n in LEFT_MM}
    )
    for written in write_objects(study, outcomes, tmp_path, NO_PAGES):
        if written.kind == "measurements":
            numbers = _numbers(dcmread(written.path))
            assert numbers["left-minus-right"] == pytest.approx([0, -1, 0.2, -0.5, -0.4, -1])
            assert numbers["mean-of-sides"] == pytest.approx([2, 4.5, 0.9, 6.25, 1.7, 20.5])


def _numbers(dataset):
    found = {}
    for item in dataset.get("ContentSequence", ()):
        if item.ValueType == "NUM":
            name = item.ConceptNameCodeSequence[0].CodeValue
            value = float(item.MeasuredValueSequence[0].NumericValue)
            found.setdefault(name, []).append(value)
        for name, values in _numbers(item).items():
            found.setdefault(name, []).extend(values)
    return found


def test_a_report_that_says_more_is_another_report_and_the_segmentation_stays(tmp_path):
    study = make_study(tmp_path, laterality("L"), laterality("R"))
    outcomes = outcomes_of(study)
    (tmp_path / "both").mkdir()
    (tmp_path / "one").mkdir()
    both = {
        (w.kind, w.acquisition): w
        for w in write_objects(study, outcomes, tmp_path / "both", NO_PAGES)
    }
    one = {
        (w.kind, w.acquisition): w
        for w in write_objects(study, outcomes[:1], tmp_path / "one", NO_PAGES)
    }
    for key, written in one.items():
        same = both[key].sop_instance_uid == written.sop_instance_uid
        assert same == (key[0] != "measurements")


def test_the_page_shows_the_sides(tmp_path):
    study = make_study(tmp_path, laterality("L"), laterality("R"))
    text = write_page(study, outcomes_of(study), tmp_path).read_text(encoding="utf-8")
    assert "Left minus right" in text
    assert "-0.40" in text
    (side,) = json.loads((tmp_path / "findings.json").read_text(encoding="utf-8"))["sides"]
    assert [pair["left"]["value"] for pair in side["pairs"]] == list(LEFT_MM.values())


def test_two_sweeps_of_a_side_are_not_compared(tmp_path):
    study = make_study(tmp_path, laterality("L"), laterality("R"), laterality("R"))
    outcomes = outcomes_of(study)
    (found,) = compare_sides(study, outcomes)
    assert (found.pairs, found.reason) == ((), "there are 1 of the left and 2 of the right side")
    assert all(found.of(item) == () for item in outcomes)


def test_only_what_succeeded_counts(tmp_path):
    study = make_study(tmp_path, laterality("L"), laterality("R"), laterality("R"))
    outcomes = list(outcomes_of(study))
    outcomes[2] = Outcome(2, "layer", None, "too few images")
    (found,) = compare_sides(study, outcomes)
    assert len(found.pairs) == 6


@pytest.mark.parametrize(("letters"), ["LL", "LB", "L"])
def test_without_both_sides_there_is_nothing_to_say(tmp_path, letters):
    study = make_study(tmp_path, *(laterality(letter) for letter in letters))
    assert compare_sides(study, outcomes_of(study)) == ()


def test_across_and_along_are_not_compared(tmp_path):
    along = make_scan()
    turned = along.affine[:, [2, 1, 0, 3]].copy()
    scans = (along, replace(along, affine=turned))
    study = make_study(tmp_path, laterality("L"), laterality("R"), scans=scans)
    (found,) = compare_sides(study, outcomes_of(study))
    assert found.reason == "left is transverse, right is longitudinal"


def test_a_probe_held_nobody_knows_how_is_not_compared(tmp_path):
    study = make_study(tmp_path, laterality("L"), laterality("R"), form="multiframe")
    (found,) = compare_sides(study, outcomes_of(study))
    assert "not known" in found.reason
    text = write_page(study, outcomes_of(study), tmp_path).read_text(encoding="utf-8")
    assert f"Not compared: {found.reason}." in text


def test_a_layer_of_one_side_or_of_another_method_is_left_out(tmp_path):
    study = make_study(tmp_path, laterality("L"), laterality("R"))
    first, second = outcomes_of(study)
    kept = [
        replace(m, method=codes.MEDIAN) if m.segment == 2 else m
        for m in second.findings.measurements
        if not (m.quantity == codes.THICKNESS and m.segment == 1)
    ]
    second = replace(second, findings=replace(second.findings, measurements=tuple(kept)))
    (found,) = compare_sides(study, (first, second))
    assert [pair.segment for pair in found.pairs] == [3, 4, 5, 6]
    assert np.isfinite([pair.mean for pair in found.pairs]).all()
