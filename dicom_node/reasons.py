"""Why a study was not analyzed: the codes of the answer that goes back to the archive, one entry each.

PS3.16 has a code for the outcome (CID 6047: no algorithms succeeded) and none for its cause, so the causes
are private codes. ``analyze`` finds the reasons of an analysis by their values.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """One cause: code value, code meaning (at most 64 characters), and what the sender can do."""

    value: str
    meaning: str
    advice: str


NOT_ULTRASOUND = Reason(
    "not-ultrasound",
    "No ultrasound images",
    "Send the ultrasound images of the lumbar region to this node, and only those.",
)
NOT_LUMBAR = Reason(
    "not-lumbar",
    "No layered soft tissue of the lower back",
    "Check that the sweep shows the lumbar region, from the skin to the muscle.",
)
NO_GEOMETRY = Reason(
    "no-geometry",
    "Geometry unknown or contradictory",
    "Send a sweep with calibrated regions and positions, or declare the geometry of this scanner.",
)
UNDECODABLE = Reason(
    "undecodable",
    "Images damaged, or of a kind that is not decoded",
    "Send the study again from its source, in an encoding that the conformance statement names.",
)
TOO_LARGE = Reason(
    "too-large",
    "Images larger than this node may decode",
    "Send the sweep alone, or have the node's limit (assemble.largest_mib) raised.",
)
INCOMPLETE = Reason(
    "incomplete",
    "Images missing, or too few for a volume",
    "Send all images of the sweep; the study is then analyzed anew.",
)
UNSUITABLE = Reason(
    "unsuitable",
    "Images not suitable for the analysis",
    "Record the sweep again as the sentence above asks.",
)
NO_ANALYSIS = Reason(
    "no-analysis",
    "No configured analysis takes these images",
    "Ask the node's administrator which analyses are configured (node.analyses).",
)
OTHER_PATIENT = Reason(
    "other-patient",
    "Instances of the study name different patients",
    "Correct the study at its source and send each patient's images under a Study Instance UID of their own. "
    "Where the patient was corrected, send the whole study again, then `dicom-node jobs accept STUDY`.",
)
PATIENT_ID = Reason(
    "patient-id",
    "Patient ID cannot be carried exactly",
    "Correct the Patient ID at its source (at most 64 characters, no backslash, a declared character set) "
    "and send the study again.",
)
OUT_OF_MEMORY = Reason(
    "out-of-memory",
    "Not enough memory for the analysis",
    "Send the sweep alone, or have the node's administrator give the analyses more memory.",
)
TOO_SLOW = Reason(
    "too-slow",
    "Analysis not ended within its deadline",
    "Tell the node's administrator (analyze.deadline_seconds); `jobs retry` runs it again.",
)
INTERNAL_ERROR = Reason(
    "internal-error",
    "Internal error of the program",
    "Tell the node's administrator; `dicom-node jobs show` and the log say more, `jobs retry` runs it again.",
)

REASONS = {
    reason.value: reason
    for reason in (
        *(NOT_ULTRASOUND, NOT_LUMBAR, NO_GEOMETRY, UNDECODABLE, TOO_LARGE, INCOMPLETE),
        *(UNSUITABLE, NO_ANALYSIS, OTHER_PATIENT, PATIENT_ID),
        *(OUT_OF_MEMORY, TOO_SLOW, INTERNAL_ERROR),
    )
}
"""Each reason by its code value."""
