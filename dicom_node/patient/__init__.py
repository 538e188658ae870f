"""Whose study it is: identifiers carried exactly, persons compared, text read in the right characters."""

from dicom_node.patient.characters import read_as
from dicom_node.patient.comparison import Comparison, compare, compare_all
from dicom_node.patient.identifiers import fault_of, identifier
from dicom_node.patient.person import PERSON, Person, person_of

__all__ = [
    "PERSON",
    "Comparison",
    "Person",
    "compare",
    "compare_all",
    "fault_of",
    "identifier",
    "person_of",
    "read_as",
]
