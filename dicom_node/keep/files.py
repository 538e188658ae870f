"""The files that have rows, and how one is set aside without ever being deleted."""

from dicom_node.files import Files

LOST = "lost+found"
"""Where files go that nobody knows; a person decides about them."""

FOLDERS = ("store", "results", "answers")
"""Where every file has a row."""


def set_aside(files: Files, path: str) -> str:
    """Move a file to lost+found, durably; returns where it is now. Raises OSError, NodeError."""
    target, number = f"{LOST}/{path}", 0
    while files.is_here(target):
        number += 1
        target = f"{LOST}/{path}.{number}"
    files.move(path, target)
    return target
