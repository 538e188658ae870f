"""Which characters the text of a data set is written in: Specific Character Set (PS3.3 C.12.1.1.2).

A scanner may declare none, a wrong one, or a right one spelled wrongly. A text of which that is not known is
never read as Latin-1: its letters beyond ASCII become ``UNREADABLE``, and what holds one is not carried on.
"""

import codecs
import re
from collections.abc import Iterator
from typing import Any

from pydicom import Dataset
from pydicom.charset import convert_encodings, python_encoding
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.multival import MultiValue

TEXT = frozenset({"SH", "LO", "ST", "LT", "UC", "UT", "PN"})
MULTI_BYTE = ("58", "87", "149", "159")
"""Registrations of sets that exist with code extensions alone: their ISO_IR spelling means ISO 2022 IR."""

ASCII = frozenset({"", "ISO_IR 6", "ISO 2022 IR 6"})
MOST_ITEMS = 16
"""Text that results carry on never lies in longer sequences; those of frames are not looked through."""


def read_as(dataset: Dataset, character_set: str = "") -> Dataset:
    """Have the text of a data set, just read, decoded as the site declares, else as it declares itself.

    In place; returns the data set. ``character_set`` has the values of Specific Character Set with
    backslashes between them, "" = as the data set says. Misspelled terms are corrected. Without a set that
    is known, letters beyond ASCII become the replacement character. Raises what pydicom raises on damaged
    sequences.
    """
    own = dataset.get("SpecificCharacterSet")
    own = list(own) if isinstance(own, MultiValue) else [own or ""]
    terms = character_set.split("\\") if character_set else [str(term).strip() for term in own]
    corrected = [_corrected(term) for term in terms]
    if None in corrected or set(corrected) <= ASCII:
        for element in list(_texts_beyond_ascii(dataset)):
            dataset[element.tag] = element
        return dataset
    if character_set or corrected != terms:
        _declare(dataset, [str(term) for term in corrected])
    return dataset


def _corrected(term: str) -> str | None:
    """The term of the standard that is meant, or None where it is not known."""
    if term in python_encoding:
        return term
    if said := re.fullmatch(r"ISO[ _-]?(2022)?[ _-]?IR[ _-]?(\d+)", term.upper()):
        extended = said[1] or said[2] in MULTI_BYTE
        standard = f"ISO 2022 IR {said[2]}" if extended else f"ISO_IR {said[2]}"
        return standard if standard in python_encoding else None
    try:
        codecs.lookup(term)
    except (LookupError, ValueError):
        return None
    return term


def _declare(dataset: Dataset, terms: list[str]) -> None:
    """As if the data set had been read with these terms; items that name a set of their own keep it."""
    with disable_value_validation():
        dataset.SpecificCharacterSet = terms if len(terms) > 1 else terms[0]
    _decode_by(dataset, terms)


def _decode_by(dataset: Dataset, terms: list[str]) -> None:
    implicit, little = dataset.original_encoding
    dataset.set_original_encoding(implicit, little, convert_encodings(terms))
    for item in _items(dataset):
        if "SpecificCharacterSet" not in item:
            _decode_by(item, terms)


def _items(dataset: Dataset) -> Iterator[Dataset]:
    """Of short sequences that were read with the data set; others are decoded when they are asked for."""
    tags = list(dataset.keys())  # a Dataset itself would decode its elements
    for element in map(dataset.get_item, tags):
        is_read = isinstance(element, DataElement) and element.VR == "SQ"
        if is_read and len(element.value) <= MOST_ITEMS:
            yield from element.value


def _texts_beyond_ascii(dataset: Dataset) -> Iterator[DataElement]:
    """The text elements that hold other than ASCII, with the replacement character for all else."""
    tags = list(dataset.keys())
    for raw in map(dataset.get_item, tags):
        if isinstance(raw, RawDataElement) and _is_text(raw) and not (raw.value or b"").isascii():
            with disable_value_validation():
                yield DataElement(raw.tag, _vr(raw), raw.value.decode("ascii", "replace"))
    for item in _all_items(dataset):
        for element in list(_texts_beyond_ascii(item)):
            item[element.tag] = element


def _all_items(dataset: Dataset) -> Iterator[Dataset]:
    """Of the short sequences."""
    tags = list(dataset.keys())
    for tag in tags:
        if _vr(dataset.get_item(tag)) == "SQ":
            items = dataset[tag].value
            if len(items) <= MOST_ITEMS:
                yield from items


def _is_text(raw: RawDataElement) -> bool:
    return _vr(raw) in TEXT and isinstance(raw.value, bytes)


def _vr(element: Any) -> str:
    if element.VR and element.VR != "UN":
        return str(element.VR)
    try:
        return dictionary_VR(element.tag)
    except KeyError:  # a private or unknown element
        return ""
