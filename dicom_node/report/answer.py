"""The answer to a study that was not analyzed: a report with the outcome, the reasons in code and in words.

It is about the study as a whole and refers to no instance, so that it can be written whatever came in, and
says the same when more of the same comes in. Its root is not Imaging Measurement Report: viewers go blank on
that without coordinates.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from highdicom import sr
from highdicom.sr import RelationshipTypeValues
from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as Concept
from pydicom.uid import UID, Comprehensive3DSRStorage

from dicom_node.reasons import REASONS
from dicom_node.report import concepts
from dicom_node.report.check import judge_form
from dicom_node.report.equipment import MANUFACTURER, algorithm_equipment
from dicom_node.report.form import Form, wishes_of
from dicom_node.report.header import CHARACTER_SET, carry_identity, clean_header
from dicom_node.report.identity import SOFTWARE, Identity
from dicom_node.report.moments import Moments, stamp
from dicom_node.report.objects import Written, in_class
from dicom_node.report.text_report import code_item
from dicom_node.report.tree import separate
from dicom_node.settings import Destination
from dicom_node.study import Ground, Unanalyzed

ADVICE = Concept("what-to-do", concepts.SCHEME, "What to do")
SERIES_NUMBER = 8999
"""Before those of the results, which begin at 9000."""


def write_answer(
    unanalyzed: Unanalyzed,
    folder: Path,
    destinations: Sequence[Destination] = (),
    moments: Moments | None = None,
) -> tuple[Written, ...]:
    """Write the answer into a folder, once in each form that destinations of reports want.

    The same study, grounds and moments give the same bytes; without moments, it is made now.
    """
    due: dict[Form, list[str]] = {}
    for wish, names in wishes_of(destinations or [Destination()]).items():
        if "refusal" in wish.kinds:
            due.setdefault(wish.form.only("refusal"), []).extend(name for name in names if name)
    moments = moments or Moments()
    reports = {form: in_class(build_answer(unanalyzed, form, moments), form) for form in due}
    return tuple(_save(report, folder, form, due[form]) for form, report in reports.items())


def _save(report: Dataset, folder: Path, form: Form, due: Sequence[str]) -> Written:
    report.file_meta.TransferSyntaxUID = UID(form.file_syntax("refusal"))
    path = folder / "".join(["answer", *(f"-{word}" for word in form.words), ".dcm"])
    report.save_as(path, enforce_file_format=True)
    sop_class_uid, sop_instance_uid = str(report.SOPClassUID), str(report.SOPInstanceUID)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    what = ("refusal", "", 0, sop_class_uid, sop_instance_uid, path, sha256, tuple(due))
    return Written(*what, verdict=judge_form(path))


def build_answer(unanalyzed: Unanalyzed, form: Form, moments: Moments) -> sr.Comprehensive3DSR:
    """Title, the outcome in the standard's words (CID 6047), and for each ground its code, sentence, advice.

    Patient and study attributes are those of the header; what it does not say is empty (type 2).
    """
    header = clean_header(unanalyzed.header)
    identity = _identity(unanalyzed, header)
    root = sr.ContainerContentItem(name=concepts.REFUSAL_REPORT)
    root.ContentSequence = sr.ContentSequence(list(_items(unanalyzed.grounds)))
    # highdicom takes patient and study from an instance; nothing here refers to one.
    header.SOPClassUID = Comprehensive3DSRStorage
    header.SOPInstanceUID = header.SeriesInstanceUID = unanalyzed.study_uid
    with disable_value_validation():
        report = sr.Comprehensive3DSR(
            evidence=[header],
            content=root,
            is_complete=True,
            record_evidence=False,
            series_description=concepts.REFUSAL_REPORT.meaning,
            series_instance_uid=identity.uid("answer", "series", *form.words),
            series_number=SERIES_NUMBER,
            sop_instance_uid=identity.uid("answer", "instance", *form.words),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MANUFACTURER,
            software_versions=[SOFTWARE],
            device_serial_number=identity.device_uid[-16:],
            specific_character_set=CHARACTER_SET,
            contributing_equipment=[algorithm_equipment(MANUFACTURER, [SOFTWARE], identity)],
            transfer_syntax_uid="1.2.840.10008.1.2.1",  # Explicit VR Little Endian
        )
        del report.CurrentRequestedProcedureEvidenceSequence
        carry_identity(header, report)
        separate(report)
        stamp(report, header, moments)
        concepts.declare_schemes(report)
    return report


def _items(grounds: Sequence[Ground]) -> Iterator[sr.ContentItem]:
    contains = RelationshipTypeValues.CONTAINS
    outcome = codes.DCM.NoAlgorithmsSucceededWithoutFindings
    yield sr.CodeContentItem(concepts.INTENDED_USE, concepts.RESEARCH_ONLY, contains)
    yield sr.CodeContentItem(codes.DCM.CADProcessingAndFindingsSummary, outcome, contains)
    for ground in grounds:
        yield code_item(ground.code)
        yield sr.TextContentItem(concepts.REASON, _printable(ground.sentence), contains)
    for code in dict.fromkeys(ground.code for ground in grounds):
        yield sr.TextContentItem(ADVICE, REASONS[code].advice, contains)


def _printable(sentence: str) -> str:
    """A sentence may quote what a damaged header says of its own kind."""
    return "".join(letter if letter.isprintable() else " " for letter in sentence)


def _identity(unanalyzed: Unanalyzed, header: Dataset) -> Identity:
    """The same answer to the same study is the same document, whichever generation it is of."""
    said = {element.keyword: str(element.value) for element in header}
    grounds = [[ground.code, ground.sentence] for ground in unanalyzed.grounds]
    inputs = json.dumps([said, grounds, SOFTWARE], sort_keys=True)
    return Identity(unanalyzed.study_uid, inputs, f"{SOFTWARE}|answer")
