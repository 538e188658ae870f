"""Write every object of a study in the forms its destinations want, check each, then say what is written."""

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.uid import UID

from dicom_node.errors import NotConformant
from dicom_node.report import concepts
from dicom_node.report.cautions import cautions_for, cautions_of
from dicom_node.report.check import Known, Outgoing, judge
from dicom_node.report.companion import (
    build_companion,
    gray_of,
    refer_to_companions,
    square_origin,
)
from dicom_node.report.encapsulated_pdf import build_document
from dicom_node.report.form import PAGES, REPORT_CLASSES, Form, Wish, wishes_of
from dicom_node.report.header import carry_identity
from dicom_node.report.measurements import build_measurements
from dicom_node.report.moments import Moments
from dicom_node.report.origin import Origin, open_origin
from dicom_node.report.parametric_map import build_map, is_placed, quantities
from dicom_node.report.proxy import has_spacing
from dicom_node.report.secondary_capture import build_page
from dicom_node.report.segmentation import build_segmentation
from dicom_node.report.sides import compare_sides
from dicom_node.report.text_report import build_text_report
from dicom_node.settings import Destination
from dicom_node.study import Outcome, Study


@dataclass(frozen=True, slots=True)
class Written:
    """One DICOM file: ``kind`` is a key of ``form.RELEVANT``.

    due      names of the destinations that are to get it.
    verdict  why it may not leave the node; "" where it may.
    cautions  which viewers will not show it rightly, and what to know of the images it was made of.
    """

    kind: str
    analysis: str
    acquisition: int
    sop_class_uid: str
    sop_instance_uid: str
    path: Path
    sha256: str
    due: tuple[str, ...] = ()
    verdict: str = ""
    cautions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """One object to write: its kind, which of its kind, its form."""

    kind: str
    number: int
    form: Form


def write_objects(
    study: Study,
    outcomes: Sequence[Outcome],
    folder: Path,
    destinations: Sequence[Destination] = (),
    moments: Moments | None = None,
) -> tuple[Written, ...]:
    """Write what the destinations want of every outcome, or the reason why there is nothing.

    An object that several want alike is written once; without destinations, what one gets by default.
    The same study, outcomes, wishes and moments give the same bytes; without moments, all is made now.
    Raises ReportError naming the study when something cannot be written rightly, NotConformant when an
    object did not pass its check.
    """
    wishes = wishes_of(destinations or [Destination()])
    comparisons = compare_sides(study, outcomes)
    moments = moments or Moments()
    written: list[Written] = []
    for outcome in outcomes:
        added = tuple(item for comparison in comparisons for item in comparison.of(outcome))
        origin = replace(open_origin(study, outcome), compared=added, moments=moments)
        written += _Desk(origin, folder).write(wishes)
    hold_back(study.study_uid, written)
    return tuple(written)


def hold_back(study_uid: str, written: Sequence[Written]) -> None:
    """Raise NotConformant when one of the objects of a study may not leave: then none does."""
    if wrong := [f"{item.path.name}: {item.verdict}" for item in written if item.verdict]:
        raise NotConformant(
            f"study {study_uid}: {' | '.join(wrong)}; nothing was delivered, keep the study and "
            "report the fault",
            tuple(written),
        )


def _pieces(origin: Origin, wish: Wish) -> list[Piece]:
    """What a wish asks of an outcome, in the order of writing: a report comes after what it refers to."""
    if origin.outcome.findings is None:
        counts = {"refusal": 1}
    else:
        maps = len(quantities(origin)) if is_placed(origin) else 0
        counts = {
            "companion": origin.acquisition.scan.shape[0],
            "segmentation": 1,
            "map": maps,
            "measurements": 1,
            "page": PAGES,
            "document": 1,
        }
    # Where there are no maps, a report that would name them is the same as one that would not.
    form = wish.form if counts.get("map") else replace(wish.form, maps=True)
    return [
        Piece(kind, number, form.only(kind))
        for kind, count in counts.items()
        if kind in wish.kinds
        for number in range(count)
    ]


class _Desk:
    """Writes the objects of one outcome; remembers the headers of those that others refer to."""

    def __init__(self, origin: Origin, folder: Path) -> None:
        self._origin = origin
        self._folder = folder
        self._made: dict[Piece, Dataset] = {}
        self._drawn: tuple[Any, ...] = ()
        self._squared: Origin | None = None
        self._beside: dict[Form, Origin] = {}

    def write(self, wishes: Mapping[Wish, Sequence[str]]) -> list[Written]:
        due: dict[Piece, list[str]] = {}
        for wish, names in wishes.items():
            for piece in _pieces(self._origin, wish):
                due.setdefault(piece, []).extend(name for name in names if name)
        order = list(BUILDERS)
        pieces = sorted(due, key=lambda piece: (order.index(piece.kind), piece.number))
        return [self._write(piece, tuple(due[piece])) for piece in pieces]

    def _write(self, piece: Piece, due: tuple[str, ...]) -> Written:
        origin = replace(self._source_of(piece), form=piece.form)
        with warnings.catch_warnings():
            # It quotes the name of a patient without a comma or caret, for the log.
            warnings.filterwarnings("ignore", message=".* intended person name", module="highdicom")
            dataset, meant = BUILDERS[piece.kind](self, origin, piece)
        with disable_value_validation():
            carry_identity(origin.header, dataset)
        path = self._folder / _file_name(origin, piece)
        dataset.file_meta.TransferSyntaxUID = UID(piece.form.file_syntax(piece.kind))
        dataset.save_as(path, enforce_file_format=True)
        verdict = judge(Outgoing(path, piece.kind, piece.number, origin, self._known(), meant))
        for keyword in ("PixelData", "FloatPixelData", "EncapsulatedDocument"):
            dataset.pop(keyword, None)
        self._made[piece] = dataset
        return Written(
            piece.kind,
            origin.name,
            origin.number,
            str(dataset.SOPClassUID),
            str(dataset.SOPInstanceUID),
            path,
            hashlib.sha256(path.read_bytes()).hexdigest(),
            due,
            verdict,
            (
                *cautions_for(piece.kind, origin.acquisition.scan),
                *cautions_of(dataset, has_spacing(origin)),
            ),
        )

    def _known(self) -> Known:
        """The instances of the sources, and what was written before."""
        instances = [item for items in self._origin.raw for item in items]
        return {
            str(item.SOPInstanceUID): (str(item.SOPClassUID), int(item.get("NumberOfFrames") or 1))
            for item in (*instances, *self._made.values())
        }

    def _source_of(self, piece: Piece) -> Origin:
        """What an object is about: the source, or the companion images beside it."""
        if not piece.form.companion or piece.kind == "companion":
            return self._origin
        form = piece.form.only("companion")
        if form not in self._beside:
            images = {made: item for made, item in self._made.items() if made.form == form}
            images = {made: item for made, item in images.items() if made.kind == "companion"}
            paths = [self._folder / _file_name(self._origin, made) for made in images]
            squared = self._on_square_pixels()
            self._beside[form] = refer_to_companions(squared, list(images.values()), paths)
        return self._beside[form]

    def _on_square_pixels(self) -> Origin:
        self._squared = self._squared or square_origin(self._origin)
        return self._squared

    def companion(self, origin: Origin, piece: Piece) -> tuple[Dataset, Any]:
        pixels = gray_of(self._on_square_pixels(), piece.number)
        return build_companion(origin, pixels, piece.number), pixels

    def segmentation(self, origin: Origin, _piece: Piece) -> tuple[Dataset, Any]:
        return build_segmentation(origin), None

    def map(self, origin: Origin, piece: Piece) -> tuple[Dataset, Any]:
        return build_map(origin, piece.number), None

    def measurements(self, origin: Origin, piece: Piece) -> tuple[Dataset, Any]:
        """The report on the segmentation and the maps that the same destinations get."""
        form = piece.form
        mask = self._made[Piece("segmentation", 0, form.only("segmentation"))]
        wanted = form.only("map")
        maps = [
            dataset
            for made, dataset in self._made.items()
            if form.maps and made.kind == "map" and made.form == wanted
        ]
        return in_class(build_measurements(origin, mask, maps), form), None

    def refusal(self, origin: Origin, piece: Piece) -> tuple[Dataset, Any]:
        report = build_text_report(origin, concepts.REFUSAL_REPORT, [origin.outcome.refusal])
        return in_class(report, piece.form), None

    def page(self, origin: Origin, piece: Piece) -> tuple[Dataset, Any]:
        pixels = _drawing().as_pixels(self._sheets()[piece.number])
        return build_page(origin, pixels, piece.number), pixels

    def document(self, origin: Origin, _piece: Piece) -> tuple[Dataset, Any]:
        document = _drawing().as_pdf(self._sheets())
        return build_document(origin, document), document

    def _sheets(self) -> tuple[Any, ...]:
        """Drawn once, and only where somebody wants them."""
        if not self._drawn:
            scan, findings = self._origin.acquisition.scan, self._origin.findings
            self._drawn = _drawing().draw_sheets(scan, findings, self._origin.name)
        return self._drawn


def _drawing() -> Any:
    # Not at the top: matplotlib is needed where pages are wanted alone.
    from dicom_node.report import sheet

    return sheet


BUILDERS: Mapping[str, Callable[[_Desk, Origin, Piece], tuple[Dataset, Any]]] = {
    "companion": _Desk.companion,
    "segmentation": _Desk.segmentation,
    "map": _Desk.map,
    "measurements": _Desk.measurements,
    "refusal": _Desk.refusal,
    "page": _Desk.page,
    "document": _Desk.document,
}
"""By kind, in the order of writing: the object, and the pixels or bytes that it was meant to carry."""


SEVERAL = ("map", "page", "companion")
"""Kinds of which one outcome can have more than one."""


def in_class(report: Dataset, form: Form) -> Dataset:
    """The report in the wanted class: without 3D coordinates both classes have the same content."""
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = REPORT_CLASSES[form.sr]
    return report


def _file_name(origin: Origin, piece: Piece) -> str:
    stem = f"{piece.kind}-{piece.number}" if piece.kind in SEVERAL else piece.kind
    words = "".join(f"-{word}" for word in piece.form.words)
    return f"{stem}-{origin.number}-{origin.name}{words}.dcm"
