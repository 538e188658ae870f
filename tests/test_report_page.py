"""report: the page for the eye and the numbers for programs."""

import json
import re
from dataclasses import replace

import pytest
from PIL import Image

from dicom_node.report.page import write_page
from dicom_node.report.table import columns_of
from dicom_node.study import Outcome, Unused
from tests.report_phantom import Request, make_case


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")

    def name(dataset):
        dataset.PatientName, dataset.PatientID = "Secret^Name", "SECRET-ID"

    study, outcomes = make_case(folder / "source", Request(edit=name))
    refusal = Outcome(0, "fascia", None, "The sweep is too short <b>here</b>.")
    study = replace(study, unused=(Unused("1.2.3.4", "a report of the scanner"),))
    truth = {"thickness_mm": {"superficial_fat": 1.234, "4": 5.678}, "pain": True}
    page = write_page(study, (*outcomes, refusal), folder, truth)
    return folder, page, study, outcomes[0]


def test_the_page_says_what_was_found_and_what_was_refused(case):
    _, page, study, _ = case
    text = page.read_text(encoding="utf-8")
    assert text.count("Research use only. Not a medical device. Not for diagnosis.") == 2
    assert study.study_uid in text
    for words in ("Superficial fascial membrane", "87 %", "1.23", "5.68", "measured"):
        assert words in text
    assert "The deep fat is out of focus." in text
    assert "The sweep is too short &lt;b&gt;here&lt;/b&gt;." in text
    assert "a report of the scanner" in text


def test_intervals_and_null_values_stand_beside_their_numbers(case):
    _, page, _, outcome = case
    text = page.read_text(encoding="utf-8")
    cells = re.sub(r"</?span[^>]*>", "", text)
    assert "<td>-8.00 (-9.50 to -4.50)</td>" in cells  # contribution of layer 4
    assert "null value 13.7" in text
    saliency, contribution = (
        next(c for c in columns_of(outcome.findings) if c.name == name)
        for name in ("Saliency", "Contribution to decision")
    )
    assert saliency.null == pytest.approx(13.7)
    assert contribution.null is None
    assert contribution.values[4] == -8
    assert contribution.spans[4] == (-9.5, -4.5)
    assert saliency.spans == {}


def test_what_is_read_first_comes_first_and_the_rest_is_folded(case):
    _, page, _, _ = case
    text = page.read_text(encoding="utf-8")
    shown, _, folded = text.partition("<details>")
    places = [shown.index(words) for words in ("87 %", "The deep fat is out of", "Main measurem")]
    assert places == sorted(places)
    assert "Volume (cm\N{SUPERSCRIPT THREE})" not in shown
    assert "Volume (cm\N{SUPERSCRIPT THREE})" in folded


def test_the_page_needs_nothing_from_elsewhere_and_is_small(case):
    folder, page, _, _ = case
    text = page.read_text(encoding="utf-8")
    assert "http" not in text
    assert "<script" not in text
    assert page.stat().st_size < 1_500_000
    with Image.open(folder / "overlay.png") as image:
        assert image.width > 1000


def test_no_patient_data_leave_through_the_page(case):
    folder, page, _, _ = case
    for path in (page, folder / "findings.json"):
        text = path.read_text(encoding="utf-8").lower()
        assert "secret" not in text


def test_the_numbers_are_those_of_the_findings(case):
    folder, _, study, outcome = case
    numbers = json.loads((folder / "findings.json").read_text(encoding="utf-8"))
    assert numbers["study_instance_uid"] == study.study_uid
    first, second = numbers["outcomes"]
    assert second["refusal"].startswith("The sweep is too short")
    said = [
        (item["quantity"]["value"], item["value"], item["unit"]["value"], item["segment"])
        for item in first["findings"]["measurements"]
    ]
    assert said == [
        (item.quantity.value, item.value, item.unit.value, item.segment)
        for item in outcome.findings.measurements
    ]
    assert first["geometry"]["in_plane"] == "measured"


def test_a_study_in_which_all_is_refused_has_a_page_too(case, tmp_path):
    _, _, study, _ = case
    page = write_page(study, (Outcome(0, "", None, "no configured analysis takes it"),), tmp_path)
    assert "no configured analysis takes it" in page.read_text(encoding="utf-8")
    assert not (tmp_path / "overlay.png").exists()
