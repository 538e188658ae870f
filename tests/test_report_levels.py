"""report: the probability of each level of a decision, in the structured report and on the page."""

import json
from dataclasses import replace

from highdicom.sr import srread
from pydicom import dcmread

from dicom_node.report import write_objects
from dicom_node.report.page import write_page
from models.findings import Code, Findings
from tests.report_phantom import make_case
from tests.report_reading import groups, named

LEVELS = tuple(
    (Code(f"PAIN-LEVEL-{number}", "99LAYER", f"Level {number} of 2: {name}"), probability)
    for number, (name, probability) in enumerate(
        (("keiner", 0.13), ("mäßig", 0.5), ("stark", 0.37))
    )
)


def test_each_level_has_its_probability_after_that_of_the_decision(tmp_path):
    study, (outcome,) = make_case(tmp_path / "source")
    (decision,) = outcome.findings.classifications
    findings = replace(outcome.findings, classifications=(replace(decision, levels=LEVELS),))
    findings.save(tmp_path / "findings.npz")
    assert Findings.load(tmp_path / "findings.npz").classifications == findings.classifications
    outcomes = (replace(outcome, findings=findings),)
    written = {item.kind: item.path for item in write_objects(study, outcomes, tmp_path)}
    (path,) = (path for path in written.values() if dcmread(path).Modality == "SR")
    assert srread(path)
    group = groups(dcmread(path))[-1]
    found = []
    for item in named(group, "Probability"):
        names = [name.TextValue for name in named(item, "Tracking Identifier")]
        measured = item.MeasuredValueSequence[0]
        assert measured.MeasurementUnitsCodeSequence[0].CodeValue == "%"
        found.append((*names, float(measured.NumericValue)))
    # Who reads the first one alone reads the decision, as without levels.
    assert found == [(87.0,), *((code.meaning, 100 * level) for code, level in LEVELS)]
    page = write_page(study, outcomes, tmp_path, None).read_text(encoding="utf-8")
    assert "<li>Level 1 of 2: mäßig: 50 %</li>" in page
    numbers = json.loads((tmp_path / "findings.json").read_text(encoding="utf-8"))
    said = numbers["outcomes"][0]["findings"]["classifications"][0]["levels"]
    assert [level for _, level in said] == [level for _, level in LEVELS]
