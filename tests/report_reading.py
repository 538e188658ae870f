"""What the tests of report write once and read often: cases on disk, content items by name."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydicom import Dataset

from dicom_node.report import Written, write_objects
from dicom_node.settings import Destination
from dicom_node.study import Outcome, Study
from tests.report_phantom import Request, make_case

NO_PAGES = (Destination("archive", objects=("SEG", "SR", "PM")),)
"""Pages take a second to draw, and have tests of their own."""

TOOL = "Cornerstone3DTools@^0.1.0:"


def write(tmp_path: Path, request: Request) -> tuple[Study, Outcome, dict[str, Written]]:
    study, outcomes = make_case(tmp_path / "source", request)
    written = write_objects(study, outcomes, tmp_path, NO_PAGES)
    return study, outcomes[0], by_kind(written)


def by_kind(written: Sequence[Written]) -> dict[str, Written]:
    """The first object of each kind."""
    return {item.kind: item for item in reversed(written)}


def content(item: Dataset) -> Iterator[Dataset]:
    yield item
    for child in item.get("ContentSequence", []):
        yield from content(child)


def named(item: Dataset, meaning: str) -> list[Dataset]:
    children = item.get("ContentSequence", [])
    return [c for c in children if c.ConceptNameCodeSequence[0].CodeMeaning == meaning]


def groups(report: Dataset) -> list[Dataset]:
    return named(named(report, "Imaging Measurements")[0], "Measurement Group")


def tracking(group: Dataset) -> tuple[str, str]:
    (identifier,) = named(group, "Tracking Identifier")
    (uid,) = named(group, "Tracking Unique Identifier")
    return identifier.TextValue, uid.UID


def has_lines(report: Dataset) -> bool:
    return any(tracking(group)[0].startswith(f"{TOOL}Length") for group in groups(report))
