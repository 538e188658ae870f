"""The tables of words: configuration keys, coded concepts of the standard and our own ones."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any, get_args, get_origin, get_type_hints

from pydicom.sr.coding import Code as Concept

from dicom_node.conformance.markdown import table
from dicom_node.reasons import REASONS
from dicom_node.report import concepts
from dicom_node.settings import Settings
from models.findings import Code

LEVEL = "PAIN-LEVEL-n"
LAYER = "99LAYER"


def tables() -> dict[str, object]:
    layer = [
        (f"`{value}`", meaning) for value, _, meaning in _of_module("models.layer.concepts", LAYER)
    ]
    layer.append((f"`{LEVEL}`", "One of the ordered levels that a site trained: number and name"))
    return {
        "settings": table(("key", "default", "allowed", "meaning"), _keys(Settings, "")),
        "standard_codes": table(("code", "scheme", "meaning"), _of_module("models.codes")),
        "layer_codes": table(("code (99LAYER)", "meaning"), layer),
        "report_codes": table(("code (99DICOMNODE)", "meaning"), _report_codes()),
        "segments": table(
            ("segment", "label", "category", "type", "anatomic region", "color (RGB)"),
            _segments(),
        ),
    }


def _words(names: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Every code (value, scheme, meaning) under these names and in their tables, in order."""
    for name, value in names.items():
        if isinstance(value, Concept | Code):
            yield value[0], value[1], value[2]
        elif isinstance(value, dict) and not name.startswith("__"):
            yield from _words(value)


def _of_module(path: str, scheme: str = "") -> list[tuple[str, str, str]]:
    """The codes that a module has, once each; of one scheme, or of all."""
    found = dict.fromkeys(_words(vars(import_module(path))))
    return [word for word in found if scheme in ("", word[1])]


def _keys(kind: Any, section: str) -> Iterator[tuple[str, str, str, str]]:
    """Every key of the configuration file, sections and lists included."""
    hints = get_type_hints(kind)
    for item in fields(kind):
        hint = hints[item.name]
        many = get_origin(hint) is tuple and is_dataclass(get_args(hint)[0])
        key = f"{section}{item.name}{'[]' * many}"
        inner = get_args(hint)[0] if many else hint
        if is_dataclass(inner):
            yield from _keys(inner, f"{key}.")
            continue
        allowed = item.metadata.get("allowed")
        yield f"`{key}`", _default(item.default), allowed.sentence if allowed else "", _why(item)


def _default(value: Any) -> str:
    if isinstance(value, tuple):
        return f"`{[*map(str, value)]}`".replace("'", '"')
    return f"`{value}`" if str(value) not in ("", ".") else ""


def _why(item: Any) -> str:
    return str(item.metadata["why"])


def _report_codes() -> Iterator[tuple[str, str]]:
    for module in ("concepts", "answer", "sides"):
        for value, _, meaning in _of_module(f"dicom_node.report.{module}", concepts.SCHEME):
            yield f"`{value}`", meaning
    yield "`segment-n`", "The described segment n, by its label: which structure was not found"
    yield from ((f"`{each.value}`", f"Reason: {each.meaning}") for each in REASONS.values())


def _segments() -> Iterator[tuple[object, ...]]:
    for each in import_module("models.layer.labels").SEGMENTS:
        coded = (
            f"{code.value} {code.scheme} {code.meaning}" for code in (each.category, each.type)
        )
        site = f"{each.site.value} {each.site.scheme} {each.site.meaning}"
        yield each.number, each.label, *coded, site, ", ".join(map(str, each.color))
