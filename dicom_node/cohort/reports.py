"""One analyzed scan as one row: from a measurement report (SR, TID 1500) or from ``findings.json``."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement

from dicom_node.cohort.quantities import (
    CODES,
    LAYERS,
    PAIN,
    PROBABILITY,
    Number,
    tabulated,
)
from models.findings import Code

TEMPLATE = "1500"
ANALYSIS = "layer"
SERIES = 9002
"""Series number of the measurements of a study's first acquisition; ten more for each further one."""

UNDEFINED = 0xFFFFFFFF
"""Length of a sequence that ends with a delimiter (PS3.5 7.5.2); when that is missing pydicom drops it."""

GROUPS, GROUP = "126010", "125007"
SEGMENT, METHOD, DERIVATION, FINDING = "121191", "370129005", "121401", "121071"
ALGORITHM, PARAMETER, FLAG = "111001", "111002", "flag"


class NotTaken(ValueError):
    """A file that is no analyzed scan; the sentence says what it is and names nobody."""

    kind = "foreign"


class WithoutFindings(NotTaken):
    """One of ours, but nothing was measured in it."""

    kind = "without findings"


@dataclass(frozen=True, slots=True)
class Version:
    """Which of several analyses of one scan is the latest: compared field by field.

    generation  of the study, where the source says it.
    sources     number of source instances: a study that is sent on only grows.
    weights     version of the weights as numbers.
    """

    generation: int
    sources: int
    weights: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ScanRow:
    """One analyzed scan.

    uid          SOP Instance UID of the report, or study and acquisition of a ``findings.json``.
    patient      PatientID and issuer, which must be hashed before they are kept; empty when unknown.
    channels     as ``b-mode`` or ``b-mode, shear-wave-speed, shear-wave-valid``.
    weights      SHA-256 of the network's weights.
    numbers      by column and layer, 0 for the whole scan.
    words        meaning of each method and flag code.
    """

    uid: str
    study_uid: str
    acquisition: int
    patient: tuple[str, str] | None
    version: Version
    channels: str
    weights: str
    probability: float | None
    numbers: dict[str, dict[int, float]]
    flags: tuple[str, ...]
    words: dict[str, str]


def read_report(content: bytes) -> ScanRow:
    """The row of a measurement report. Raises NotTaken, or what pydicom raises on damaged content."""
    dataset = dcmread(BytesIO(content))
    _check_whole(dataset)
    template = [str(item.TemplateIdentifier) for item in dataset.get("ContentTemplateSequence", [])]
    if template != [TEMPLATE]:
        raise WithoutFindings("a report without measurements (refused, or nothing was found)")
    reader = _Reader()
    for group in _groups(dataset):
        reader.read(group)
    if reader.settings.get("analysis") != ANALYSIS:
        raise NotTaken("a measurement report of another program or analysis")
    patient_id = str(dataset.get("PatientID") or "").strip()
    issuer = str(dataset.get("IssuerOfPatientID") or "").strip()
    return ScanRow(
        uid=str(dataset.SOPInstanceUID),
        study_uid=str(dataset.StudyInstanceUID),
        acquisition=(int(dataset.get("SeriesNumber") or SERIES) - SERIES) // 10,
        patient=(patient_id, issuer) if patient_id else None,
        version=Version(0, _sources(dataset), _numbers_in(reader.settings.get("weights", ""))),
        channels=reader.settings.get("channels", ""),
        weights=reader.settings.get("weights_sha256", ""),
        probability=reader.probability,
        numbers=_by_column(reader.numbers),
        flags=tuple(reader.flags),
        words=_words(reader.numbers) | reader.flags,
    )


def _check_whole(dataset: Dataset) -> None:
    """Raises EOFError when the file ends too early: pydicom gives what there is, and no error.

    ``dataset`` must not have been looked into: an element that was is no longer as it was in the file.
    """
    raw = [element for element in dataset.values() if isinstance(element, RawDataElement)]
    for element in raw:
        if element.length != UNDEFINED and len(element.value or b"") < element.length:
            raise EOFError(f"element {element.tag} is cut off")
    if "ContentSequence" not in dataset:
        raise EOFError("a report without content")


class _Reader:
    """Collects what the measurement groups of one report say."""

    def __init__(self) -> None:
        self.numbers: list[Number] = []
        self.settings: dict[str, str] = {}
        self.flags: dict[str, str] = {}
        self.probability: float | None = None

    def read(self, group: Dataset) -> None:
        items = list(group.get("ContentSequence", []))
        segment = next((item for item in items if _name(item) == SEGMENT), None)
        findings = [_value(item) for item in items if _coded(item) and _name(item) == FINDING]
        decides = any((code.scheme, code.value) == PAIN for code in findings)
        for item in items:
            if item.ValueType == "TEXT":
                self._read_text(item)
            elif _coded(item) and _name(item) == FLAG:
                code = _value(item)
                self.flags[code.value] = code.meaning
            elif item.ValueType == "NUM":
                self._read_number(item, segment, decides)

    def _read_text(self, item: Dataset) -> None:
        if _name(item) == ALGORITHM:
            self.settings["analysis"] = str(item.TextValue)
        elif _name(item) == PARAMETER:
            key, _, value = str(item.TextValue).partition("=")
            self.settings[key] = value

    def _read_number(self, item: Dataset, segment: Dataset | None, decides: bool) -> None:
        quantity = _concept(item.ConceptNameCodeSequence[0])
        key = (quantity.scheme, quantity.value)
        if key not in CODES and key != PROBABILITY:
            return  # most numbers of a report: not looking into them halves the time
        value = float(item.MeasuredValueSequence[0].NumericValue)
        if decides and key == PROBABILITY:
            # The first is that of pain; further ones are of further outcomes.
            self.probability = value / 100 if self.probability is None else self.probability
        elif segment is not None or decides:
            qualifiers = {_name(i): _value(i) for i in item.get("ContentSequence", []) if _coded(i)}
            layer = _segment_number(segment) if segment is not None else None
            self.numbers.append(
                Number(quantity, qualifiers.get(METHOD), qualifiers.get(DERIVATION), layer, value)
            )


def _groups(dataset: Dataset) -> Iterator[Dataset]:
    for part in dataset.get("ContentSequence", []):
        if _name(part) == GROUPS:
            yield from (item for item in part.get("ContentSequence", []) if _name(item) == GROUP)


def _segment_number(item: Dataset) -> int:
    return int(item.ReferencedSOPSequence[0].ReferencedSegmentNumber)


def _coded(item: Dataset) -> bool:
    return bool(item.ValueType == "CODE")


def _name(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""


def _value(item: Dataset) -> Code:
    return _concept(item.ConceptCodeSequence[0])


def _concept(item: Dataset) -> Code:
    return Code(str(item.CodeValue), str(item.CodingSchemeDesignator), str(item.CodeMeaning))


def _sources(dataset: Dataset) -> int:
    """How many instances the report was made from, its own segmentation and maps included."""
    return sum(
        len(series.get("ReferencedSOPSequence", []))
        for study in dataset.get("CurrentRequestedProcedureEvidenceSequence", [])
        for series in study.get("ReferencedSeriesSequence", [])
    )


def read_findings(content: bytes) -> tuple[list[ScanRow], list[str]]:
    """The rows of a ``findings.json``, and why an outcome has none.

    Raises NotTaken, or ValueError, LookupError, TypeError on damaged content.
    """
    text = json.loads(content)
    if not isinstance(text, dict) or not {"studies", "outcomes"} & set(text):
        raise NotTaken("a JSON file that is no findings.json")
    if "outcomes" not in text:
        raise WithoutFindings(
            "a findings.json that lists several studies, without findings of its own"
        )
    rows, reasons = [], []
    for outcome in text["outcomes"]:
        if outcome["findings"] is None:
            reasons.append("a scan that the analysis refused")
        elif outcome["analysis"] != ANALYSIS:
            reasons.append("findings of another analysis")
        else:
            rows.append(_row(text, outcome["acquisition"], outcome["findings"]))
    return rows, reasons


def _row(text: dict[str, Any], acquisition: int, findings: dict[str, Any]) -> ScanRow:
    study, run = str(text["study_instance_uid"]), findings["run"]
    numbers = [
        Number(
            Code(**item["quantity"]),
            Code(**item["method"]) if item["method"] else None,
            Code(**item["derivation"]) if item["derivation"] else None,
            item["segment"],
            float(item["value"]),
        )
        for item in findings["measurements"]
        if item["line"] is None
    ]
    flags = {item["code"]["value"]: item["code"]["meaning"] for item in findings["flags"]}
    probability = [
        float(item["outcomes"][0][1])
        for item in findings["classifications"]
        if (item["concept"]["scheme"], item["concept"]["value"]) == PAIN
    ]
    return ScanRow(
        uid=f"{study}/{acquisition}",
        study_uid=study,
        acquisition=int(acquisition),
        patient=None,
        version=Version(
            int(text["generation"]), 0, _numbers_in(run["settings"].get("weights", ""))
        ),
        channels=str(run["settings"].get("channels", "")),
        weights=str(run["weights_sha256"]),
        probability=probability[0] if probability else None,
        numbers=_by_column(numbers),
        flags=tuple(flags),
        words=_words(numbers) | flags,
    )


def _numbers_in(version: str) -> tuple[int, ...]:
    """``1.10`` comes after ``1.9``; what is no number counts nothing."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _by_column(numbers: Iterable[Number]) -> dict[str, dict[int, float]]:
    columns: dict[str, dict[int, float]] = {}
    for number in numbers:
        column = tabulated(number)
        if column and (number.layer is None or 1 <= number.layer <= LAYERS):
            columns.setdefault(column, {})[number.layer or 0] = number.value
    return columns


def _words(numbers: Iterable[Number]) -> dict[str, str]:
    return {
        number.method.value: number.method.meaning
        for number in numbers
        if number.method and tabulated(number)
    }
