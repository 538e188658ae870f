"""report, as those read it who know no template: the plain text of a renderer (DCMTK's dsr2html)."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_node.assemble.identity import shared_header
from dicom_node.report import Written, write_answer, write_objects
from dicom_node.report.impression import impression
from dicom_node.report.origin import open_origin
from dicom_node.report.references import references
from dicom_node.scanner import Style
from dicom_node.settings import Destination
from dicom_node.study import Ground, Outcome, StoredInstance, Unanalyzed
from models import codes
from models.findings import Code, Measurement
from tests.conftest import peer
from tests.report_phantom import (
    LOWER,
    SHAPE,
    UPPER,
    Edit,
    Request,
    make_case,
    make_findings,
)
from tests.report_reading import NO_PAGES, content, groups, named
from tests.test_sides import laterality, make_study, outcomes_of

FORMS = (
    Destination("default", objects=("SEG", "SR", "PM")),
    Destination("comprehensive", objects=("SEG", "SR"), sr="comprehensive", encoding="deflated"),
    Destination("companion", objects=("SEG", "SR", "PM"), companion=True),
)
INTERVAL = Code("PROBABILITY", "99LAYER", "Probability of the first outcome")
CASES = (
    *(form.name for form in FORMS),
    "single frames",
    "without lines",
    "sides",
    "nothing measured",
    "refused",
    "answer",
)


def _reports(written: tuple[Written, ...]) -> list[Path]:
    return [item.path for item in written if item.kind in ("measurements", "refusal")]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Every form of report, by name."""
    folder = tmp_path_factory.mktemp("plain")

    def place(name: str) -> Path:
        (folder / name).mkdir()
        return folder / name

    made: dict[str, list[Path]] = {}
    study, outcomes = make_case(place("source"), Request(shear_wave=True, present=(1, 2, 4, 5, 6)))
    for item in write_objects(study, outcomes, place("forms"), FORMS):
        if item.kind == "measurements":
            made |= {name: [item.path] for name in item.due}
    empty = make_findings(np.zeros(SHAPE, np.uint8))
    nothing = replace(empty, classifications=(), measurements=())
    declined = Outcome(0, "layer", None, "The probe was lifted.", "undecodable")
    for name, outcome in (
        ("nothing measured", replace(outcomes[0], findings=nothing)),
        ("refused", declined),
    ):
        made[name] = _reports(write_objects(study, [outcome], place(name), NO_PAGES))
    for name, request in (
        ("single frames", Request(Style(form="frames"))),
        ("without lines", Request(spacing_mm=(0.5, 0.2, 0.25))),
    ):
        made[name] = _reports(
            write_objects(*make_case(place(name) / "source", request), folder / name, NO_PAGES)
        )
    sides = make_study(place("two") / "source", laterality("L"), laterality("R"))
    made["sides"] = _reports(write_objects(sides, outcomes_of(sides), place("sides"), NO_PAGES))
    stored = StoredInstance("1.2.4", "1.2.840.10008.5.1.4.1.1.6.1", folder / "none")
    unanalyzed = Unanalyzed(
        "1.2.3", (Ground("undecodable", "no pixels"),), shared_header("1.2.3", [stored])
    )
    made["answer"] = _reports(write_answer(unanalyzed, place("answer")))
    return made


def _shown(path: Path) -> str:
    """What a reader sees, without the marks of the page."""
    done = subprocess.run([peer("dsr2html"), path], capture_output=True, text=True, check=True)
    return unescape(re.sub(r"\s*\n\s*", " ", re.sub(r"<[^>]+>", "", done.stdout)))


def _numbers(report: Dataset) -> Iterator[tuple[str, str]]:
    """Every number as a reader is to see it: its name, its value and unit."""
    for item in content(report):
        if item.get("ValueType") == "NUM":
            (value,) = item.MeasuredValueSequence
            unit = value.MeasurementUnitsCodeSequence[0].CodeValue
            name = item.ConceptNameCodeSequence[0].CodeMeaning
            yield name, f"{value.NumericValue.original_string} {unit}"


@pytest.mark.peer
@pytest.mark.parametrize("name", CASES)
def test_every_number_stands_by_its_name(name: str, reports: dict[str, list[Path]]) -> None:
    assert reports[name]
    for path in reports[name]:
        report, shown = dcmread(path), _shown(path)
        for what, value in _numbers(report):
            # A number inside the tree is a line below its name; in an acquisition context, after "=".
            wanted = rf"{re.escape(what)}(:| =) {re.escape(value)}"
            assert re.search(wanted, shown), (what, value)
            shown = re.sub(wanted, "", shown, count=1)
        for item in content(report):
            if item.get("ValueType") == "CODE" and item.RelationshipType == "CONTAINS":
                meaning = item.ConceptNameCodeSequence[0].CodeMeaning
                assert f"{meaning}: {item.ConceptCodeSequence[0].CodeMeaning}" in shown


@pytest.mark.parametrize("name", CASES)
def test_the_items_of_a_container_are_separate(name: str, reports: dict[str, list[Path]]) -> None:
    for path in reports[name]:
        kinds = {item.get("ContinuityOfContent", "SEPARATE") for item in content(dcmread(path))}
        assert kinds == {"SEPARATE"}


@pytest.mark.parametrize("name", [*(form.name for form in FORMS), "without lines", "sides"])
def test_the_impression_comes_first(name: str, reports: dict[str, list[Path]]) -> None:
    """The decision, what was found and what was not, the cautions: in a line each."""
    report = dcmread(reports[name][0])
    first = next(item for item in report.ContentSequence if item.RelationshipType == "CONTAINS")
    assert first.ConceptNameCodeSequence[0].CodeMeaning == "Impressions"
    lines = [item.TextValue for item in first.ContentSequence]
    assert lines[0] == "Myofascial pain: probability 87 %."
    assert lines[1].startswith("Found: Dermis (mean ")
    if name in {form.name for form in FORMS}:
        assert "Not found: Superficial fascial membrane." in lines
    assert lines[-2:] == ["Caution: Low image quality.", "Research use only, not for diagnosis."]


def test_the_impression_has_the_range_and_what_is_assumed(tmp_path: Path) -> None:
    study, (outcome,) = make_case(tmp_path / "source", Request(Style(form="multiframe")))
    ends = [
        Measurement(INTERVAL, value, codes.PERCENT, derivation=derivation)
        for value, derivation in ((71.0, LOWER), (94.0, UPPER))
    ]
    findings = outcome.findings
    findings = replace(findings, measurements=(*findings.measurements, *ends))
    (acquisition,) = study.acquisitions
    geometry = replace(acquisition.scan.geometry, frame_step="assumed")
    acquisition = replace(acquisition, scan=replace(acquisition.scan, geometry=geometry))
    origin = open_origin(
        replace(study, acquisitions=(acquisition,)), replace(outcome, findings=findings)
    )
    lines = [item.TextValue for item in impression(origin).ContentSequence]
    assert lines[0] == "Myofascial pain: probability 87 % (71 to 94 %)."
    assert "Caution: the distance of frames is assumed, not measured." in lines


def test_where_nothing_was_measured_that_is_said_first(reports: dict[str, list[Path]]) -> None:
    report = dcmread(reports["nothing measured"][0])
    lines = [item.TextValue for item in report.ContentSequence[0].ContentSequence]
    assert lines[0] == "Nothing was classified."
    assert lines[1].startswith("Not found: Dermis, ")


def test_a_layer_is_told_as_a_line_and_as_statistics(reports: dict[str, list[Path]]) -> None:
    told = [
        item.ConceptCodeSequence[0].CodeValue
        for group in groups(dcmread(reports["default"][0]))
        for item in named(group, "What these numbers are")
    ]
    assert told == ["line", "statistics"] * 5
    quiet = [
        item.ConceptCodeSequence[0].CodeValue
        for group in groups(dcmread(reports["without lines"][0]))
        for item in named(group, "What these numbers are")
    ]
    assert quiet == ["no-line", "statistics"] * 6


def test_the_maps_are_named_in_the_tree(reports: dict[str, list[Path]]) -> None:
    report = dcmread(reports["default"][0])
    named_maps = {
        item.ConceptNameCodeSequence[0].CodeMeaning: item.ReferencedSOPSequence[0]
        for item in content(report)
        if item.get("ValueType") == "IMAGE"
        and item.ReferencedSOPSequence[0].ReferencedSOPClassUID.endswith(".30")
    }
    assert set(named_maps) == {"Saliency", "Shear Wave Speed"}
    evidence = {item.ReferencedSOPInstanceUID for item in references(report)}
    assert {item.ReferencedSOPInstanceUID for item in named_maps.values()} <= evidence


def procedure(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _done(dataset: Dataset) -> None:
    dataset.ProcedureCodeSequence = [procedure("US-LWS", "99KLINIK", "Sonographie LWS, Mäßig")]
    dataset.RequestedProcedureCodeSequence = [procedure("other", "L", "Other")]
    dataset.SpecificCharacterSet = "ISO_IR 192"


def _requested(dataset: Dataset) -> None:
    asked = Dataset()
    asked.RequestedProcedureCodeSequence = [procedure("USLS", "L", "US lumbar spine")]
    dataset.RequestAttributesSequence = [asked]
    dataset.ProcedureCodeSequence = [procedure("USLS", "", "without a scheme")]


@pytest.mark.parametrize(
    ("edit", "wanted"),
    [
        (None, ("16310003", "SCT", "Diagnostic ultrasonography")),
        (_done, ("US-LWS", "99KLINIK", "Sonographie LWS, Mäßig")),
        (_requested, ("USLS", "L", "US lumbar spine")),
    ],
)
def test_the_procedure_is_the_one_that_the_source_names(
    edit: Edit | None, wanted: tuple[str, str, str], tmp_path: Path
) -> None:
    study, outcomes = make_case(tmp_path / "source", Request(edit=edit))
    written = write_objects(study, outcomes, tmp_path, NO_PAGES)  # which passes the gate
    report = dcmread(next(item.path for item in written if item.kind == "measurements"))
    (found,) = named(report, "Procedure reported")
    code = found.ConceptCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == wanted
