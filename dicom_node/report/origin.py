"""Where the objects of one outcome come from: the source instances, who computed, and the shared words."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from pydicom import Dataset

from dicom_node.errors import ReportError
from dicom_node.report.equipment import MANUFACTURER, algorithm_equipment, derive_dimensions
from dicom_node.report.form import Form
from dicom_node.report.header import CHARACTER_SET, clean_header, name_patient
from dicom_node.report.identity import SOFTWARE, Identity, describe_settings, join
from dicom_node.report.moments import Moments, stamp
from dicom_node.study import Acquisition, Outcome, SourceFrame, Study
from models.findings import Findings, Measurement
from models.scan import Scan


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """One outcome with the headers of its acquisition.

    raw       per source, the instances' data sets as received (no pixel data).
    headers   per source, their cleaned headers: the only values that enter a result.
    compared  numbers that come of comparing this outcome with another of the study.
    form      how the next object is to be written; a part of its UIDs, not of the tracking UIDs.
    moments   when objects are made.
    """

    study_uid: str
    number: int
    outcome: Outcome
    acquisition: Acquisition
    raw: tuple[tuple[Dataset, ...], ...]
    headers: tuple[tuple[Dataset, ...], ...]
    identity: Identity
    compared: tuple[Measurement, ...] = ()
    form: Form = Form()
    moments: Moments = field(default_factory=Moments)

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """Those of the findings, then those of the comparison."""
        return (*self.findings.measurements, *self.compared)

    @property
    def findings(self) -> Findings:
        if self.outcome.findings is None:
            raise ReportError(f"study {self.study_uid}: a refused outcome has no findings")
        return self.outcome.findings

    @property
    def name(self) -> str:
        """The analysis' name, or a word for a scan that no analysis takes."""
        return self.outcome.analysis or "analysis"

    @property
    def header(self) -> Dataset:
        """The first instance of the first source, whose patient and study all results share."""
        return self.headers[0][0]

    def frame(self, position: int, source: int = 0) -> tuple[Dataset, SourceFrame]:
        """Header and frame that one slice of the Scan came from."""
        frame = self.acquisition.sources[source].frames[position]
        return self.headers[source][frame.instance], frame

    def tracking(self, number: int) -> tuple[str, str]:
        """Tracking Identifier and Tracking UID of one segment, equal in SEG and SR (PS3.3 C.8.20.4)."""
        segment = self.findings.segmentation.segments[number - 1]
        identifier = f"{self.name}-{number} {segment.label}"
        return identifier[:64], self.identity.uid("tracking", number)

    def uid(self, kind: str, *role: object) -> str:
        """UID of an object, or of its series, in the wanted form."""
        return self.identity.uid(kind, *role, *self.form.words)

    def constructor(self, kind: str, series: int) -> dict[str, Any]:
        """The arguments that every object's constructor takes alike."""
        software = [SOFTWARE]
        if self.outcome.findings:
            software.append(f"{self.name} {self.findings.run.version}"[:64])
        return {
            "series_instance_uid": self.uid(kind, "series"),
            "series_number": series,
            "sop_instance_uid": self.uid(kind, "instance"),
            "instance_number": 1,
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": self.name[:64],
            "software_versions": software,
            "device_serial_number": self.identity.device_uid[-16:],
            "specific_character_set": CHARACTER_SET,
            "contributing_equipment": [algorithm_equipment(self.name, software, self.identity)],
            "transfer_syntax_uid": self.form.transfer_syntax(kind),
        }

    def finish(self, dataset: Dataset) -> None:
        """Set what a constructor draws from clock and chance: the same work twice gives the same bytes."""
        derive_dimensions(dataset, self.identity)
        stamp(dataset, self.header, self.moments)


def open_origin(study: Study, outcome: Outcome) -> Origin:
    """Read the source headers of one outcome. Raises ReportError when they are not this study's.

    That they are one patient's was made sure of before anything was assembled; all results name the patient
    in the same words.
    """
    acquisition = study.acquisitions[outcome.acquisition]
    raw = tuple(source.headers() for source in acquisition.sources)
    headers = tuple(tuple(clean_header(item) for item in instances) for instances in raw)
    number, which, position = study.spokesman
    patient = clean_header(study.acquisitions[number].sources[which].headers()[position])
    for header in (header for instances in headers for header in instances):
        if header.get("StudyInstanceUID") != study.study_uid:
            raise ReportError(
                f"study {study.study_uid}: source instance {header.get('SOPInstanceUID')} belongs to "
                f"study {header.get('StudyInstanceUID')}"
            )
        name_patient(header, patient)
    _check_grid(study.study_uid, acquisition, headers)
    identity = _identity(outcome, acquisition, headers)
    return Origin(
        study.study_uid, outcome.acquisition, outcome, acquisition, raw, headers, identity
    )


def _check_grid(
    study_uid: str, acquisition: Acquisition, headers: Sequence[Sequence[Dataset]]
) -> None:
    """A result lies on its source's pixels, so the Scan must have the source's rows and columns."""
    _, rows, columns = acquisition.scan.shape
    for header in headers[0]:
        if (header.get("Rows"), header.get("Columns")) != (rows, columns):
            raise ReportError(
                f"study {study_uid}: the scan has {rows} rows and {columns} columns, instance "
                f"{header.get('SOPInstanceUID')} {header.get('Rows')} and {header.get('Columns')}"
            )


def _identity(
    outcome: Outcome, acquisition: Acquisition, headers: Sequence[Sequence[Dataset]]
) -> Identity:
    # Two acquisitions can be different frames of one instance.
    sources = join(
        [
            f"{items[frame.instance].SOPInstanceUID}#{frame.number or ''}"
            for source, items in zip(acquisition.sources, headers, strict=True)
            for frame in source.frames
        ]
    )
    program = f"{SOFTWARE}|{outcome.analysis}"
    if outcome.findings is None:
        device, settings = program, [outcome.refusal]
    else:
        run = outcome.findings.run
        device = f"{program}|{run.version}|{run.weights_sha256}"
        settings = describe_settings(run.settings)
    inputs = "|".join([sources, _digest(acquisition.scan), device, *settings])
    return Identity(sources, inputs, device)


def _digest(scan: Scan) -> str:
    """SHA-256 of what was analyzed: the same instances give another Scan when the site declares otherwise."""
    digest = hashlib.sha256(repr(asdict(scan.geometry)).encode())
    for array in (scan.affine, scan.valid, scan.voxels):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
