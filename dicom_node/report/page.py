"""The page for the eye: overlay.png, report.html and findings.json of one study.

No patient data enter it but what is burned into the pixels that it shows; where that may be, it says so.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from dicom_node.report.burned_in import burned_in_of
from dicom_node.report.cautions import cautions_for, side_caution
from dicom_node.report.identity import SOFTWARE
from dicom_node.report.laterality import side_of
from dicom_node.report.picture import draw
from dicom_node.report.sides import compare_sides
from dicom_node.report.table import (
    DIMENSIONLESS,
    Column,
    columns_of,
    show,
    true_thickness_mm,
    withheld,
)
from dicom_node.study import Outcome, Study
from models.findings import Classification, Code, Findings, Measurement, Segment
from models.scan import Scan

TIMES, DASH = " \N{MULTIPLICATION SIGN} ", "\N{EN DASH}"
PROBABILITY = "PROBABILITY"  # code of a number of the whole scan: an end of the decision's interval
UNITS = {"cm3": "cm\N{SUPERSCRIPT THREE}"}
"""Units that are written in another way than their code."""

RESEARCH_ONLY = "Research use only. Not a medical device. Not for diagnosis."


def write_page(
    study: Study,
    outcomes: Sequence[Outcome],
    folder: Path,
    truth: Mapping[str, Any] | None = None,
) -> Path:
    """Write the picture, the page and the numbers into an existing folder; returns the page.

    ``truth`` is what a phantom knows of itself: ``thickness_mm`` by segment, ``pain``. A refusal has no
    picture; those of outcomes after the first are ``overlay-2.png`` and so on.
    """
    views: list[dict[str, Any]] = []
    for outcome in outcomes:
        picture = b""
        scan = study.acquisitions[outcome.acquisition].scan
        if outcome.findings:
            drawn = sum(bool(view["picture"]) for view in views)
            name = "overlay.png" if not drawn else f"overlay-{drawn + 1}.png"
            picture = draw(scan, outcome.findings)
            (folder / name).write_bytes(picture)
        views.append(_view(scan, outcome, picture, truth))
    environment = Environment(
        loader=PackageLoader("dicom_node.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    path = folder / "report.html"
    text = environment.get_template("report.html").render(
        study=study,
        views=views,
        sides=_sides(study, outcomes),
        research_only=RESEARCH_ONLY,
        software=SOFTWARE,
    )
    path.write_text(text, encoding="utf-8")
    numbers = json.dumps(_plain(_numbers(study, outcomes)), indent=2)
    (folder / "findings.json").write_text(numbers + "\n", encoding="utf-8")
    return path


def _view(
    scan: Scan, outcome: Outcome, picture: bytes, truth: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What the template shows of one outcome, as text."""
    view: dict[str, Any] = {
        "analysis": outcome.analysis or "no analysis",
        "acquisition": outcome.acquisition + 1,
        "refusal": outcome.refusal,
        "picture": base64.b64encode(picture).decode("ascii"),
        "geometry": asdict(scan.geometry),
        "spacing": TIMES.join(f"{mm:.3g}" for mm in scan.spacing_mm),
        "shape": TIMES.join(str(length) for length in scan.shape),
        "findings": outcome.findings,
        "side": side_of(scan) or "not known",
        "contradiction": side_caution(scan),
        "may_name": burned_in_of(scan) != "no",
    }
    if outcome.findings:
        view |= _table(outcome.findings, truth)
        view["decisions"] = [
            _decision(item, outcome.findings) for item in outcome.findings.classifications
        ]
        view["withheld"] = withheld(outcome.findings)
        pain = (truth or {}).get("pain")
        view["known"] = None if pain is None else ("pain" if pain else "no pain")
    return view


def _table(findings: Findings, truth: Mapping[str, Any] | None) -> dict[str, Any]:
    """A column per segment and a row per quantity: analyses differ in the number of quantities.

    ``rows`` are what is read first, ``rest`` the other quantities.
    """
    found = set(np.unique(findings.segmentation.labelmap))
    segments = findings.segmentation.segments
    heads = [
        {
            "label": item.label if item.number in found else f"{item.label}: not found",
            "color": "#{:02x}{:02x}{:02x}".format(*item.color),
        }
        for item in segments
    ]
    rows: list[dict[str, Any]] = []
    rest: list[dict[str, Any]] = []
    known = [true_thickness_mm(truth, segment) for segment in segments]
    if any(mm is not None for mm in known):
        cells = [DASH if mm is None else show(mm) for mm in known]
        name = "True thickness"
        rows.append(
            {"name": name, "unit": "mm", "method": "", "null": "", "cells": cells, "truth": True}
        )
    columns = columns_of(findings)
    divided = any(column.chief for column in columns)
    for column in columns:
        (rows if column.chief or not divided else rest).append(_row(column, segments))
    whole = [_sentence(item) for item in findings.measurements if item.segment is None]
    return {"heads": heads, "rows": rows, "rest": rest, "whole": whole}


def _row(column: Column, segments: Sequence[Segment]) -> dict[str, Any]:
    return {
        "name": column.name,
        "unit": UNITS.get(column.unit, column.unit),
        "method": column.method,
        "null": "" if column.null is None else show(column.null),
        "cells": [column.cells.get(segment.number, DASH) for segment in segments],
        "truth": False,
    }


def _sides(study: Study, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Left beside right, as text."""
    return [
        {
            "analysis": item.analysis,
            "reason": item.reason,
            "heads": [pair.label for pair in item.pairs],
            "rows": {
                "Left": [show(pair.left.value) for pair in item.pairs],
                "Right": [show(pair.right.value) for pair in item.pairs],
                "Left minus right": [f"{pair.difference:+.2f}" for pair in item.pairs],
                "Mean of both": [show(pair.mean) for pair in item.pairs],
            },
        }
        for item in compare_sides(study, outcomes)
    ]


def _sentence(item: Measurement) -> str:
    unit = "" if item.unit.value in DIMENSIONLESS else f" {item.unit.value}"
    words = [code.meaning for code in (item.derivation, item.method) if code]
    how = f" ({', '.join(words)})" if words else ""
    return f"{item.quantity.meaning}: {show(item.value)}{unit}{how}"


def _decision(classification: Classification, findings: Findings) -> dict[str, Any]:
    outcome, probability = classification.outcomes[0]
    ends = [
        f"{item.value:.0f}"
        for item in findings.measurements
        if item.segment is None and item.quantity.value == PROBABILITY
    ]
    return {
        "concept": classification.concept.meaning,
        "outcome": outcome.meaning,
        "percent": f"{100 * probability:.0f}",
        "interval": f"{ends[0]} to {ends[1]} %" if len(ends) == 2 else "",
        "logit": f"{classification.logit:+.2f}",
        "levels": [
            {"name": code.meaning, "percent": f"{100 * level:.0f}"}
            for code, level in classification.levels
        ],
    }


def _numbers(study: Study, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Everything but the arrays, for programs."""
    entries = []
    for outcome in outcomes:
        scan = study.acquisitions[outcome.acquisition].scan
        entries.append(
            {
                "acquisition": outcome.acquisition,
                "analysis": outcome.analysis,
                "refusal": outcome.refusal,
                "geometry": asdict(scan.geometry),
                "spacing_mm": scan.spacing_mm,
                "shape": scan.shape,
                "side": side_of(scan),
                "burned_in_annotation": burned_in_of(scan),
                "cautions": list(cautions_for("page", scan)),
                "findings": outcome.findings.describe() if outcome.findings else None,
            }
        )
    return {
        "study_instance_uid": study.study_uid,
        "generation": study.generation,
        "intended_use": RESEARCH_ONLY,
        "software": SOFTWARE,
        "outcomes": entries,
        "sides": [asdict(item) for item in compare_sides(study, outcomes)],
        "unused": [asdict(item) for item in study.unused],
    }


def _plain(value: Any) -> Any:
    """Codes by name instead of by position."""
    if isinstance(value, Code):
        return value._asdict()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
