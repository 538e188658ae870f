"""The content tree of a report, as those read it who know no template: renderers, archives, people."""

from pydicom import Dataset


def separate(item: Dataset) -> None:
    """Set Continuity of Content of every container to SEPARATE, in place (PS3.3 C.18.8).

    highdicom writes CONTINUOUS, and renderers then print the values as one text, without their names.
    """
    if item.get("ValueType") == "CONTAINER":
        item.ContinuityOfContent = "SEPARATE"
    for child in item.get("ContentSequence", []):
        separate(child)
