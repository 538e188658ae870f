"""The side of a scan stands in every object that is made of it, and a contradiction is told in its place."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from dicom_node.report import write_objects
from dicom_node.report.page import write_page
from dicom_node.settings import Destination
from tests.conftest import peer
from tests.report_phantom import Request, make_case
from tests.report_reading import by_kind
from tests.test_report_peers import convert
from tests.test_sides import laterality, make_study, modifier, series

WANTED = (
    Destination("pacs", objects=("SEG", "SR", "PM", "PDF", "SC")),
    Destination("simple", objects=("SEG", "SR"), companion=True),
)
PARTS = ("page", "document", "companion", "segmentation")
SIDES = {"L": ("7771000", "Left"), "R": ("24028007", "Right"), "B": ("51440002", "Bilateral")}


@dataclass(frozen=True)
class Case:
    """What was written of one study, and the folder that its page is in."""

    written: tuple
    folder: Path

    def read(self, kind: str) -> Dataset:
        return dcmread(by_kind(self.written)[kind].path)

    def numbers(self) -> dict:
        text = (self.folder / "findings.json").read_text(encoding="utf-8")
        return json.loads(text)["outcomes"][0]

    @property
    def html(self) -> str:
        return (self.folder / "report.html").read_text(encoding="utf-8")


def make(folder: Path, edit, wanted=WANTED) -> Case:
    study, outcomes = make_case(folder / "source", Request(edit=edit))
    written = write_objects(study, outcomes, folder, wanted)
    write_page(study, outcomes, folder)
    return Case(written, folder)


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make(tmp_path_factory.mktemp("left"), series("L"))


CLASHING = (Destination("pacs", objects=("SEG", "SR", "PM")),)


@pytest.fixture(scope="module")
def clash(tmp_path_factory: pytest.TempPathFactory) -> Case:
    def edit(dataset: Dataset) -> None:
        laterality("L")(dataset)
        modifier("24028007")(dataset)

    return make(tmp_path_factory.mktemp("clash"), edit, CLASHING)


def codes_of(items):
    return [(item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning) for item in items]


def lateralities(dataset: Dataset) -> list[tuple[str, str]]:
    """Every Laterality of a Finding Site: its code, and the code of the site above it."""
    found = []
    for item in dataset.get("ContentSequence", ()):
        for child in item.get("ContentSequence", ()):
            if codes_of(child.ConceptNameCodeSequence)[:1] == [("272741003", "SCT", "Laterality")]:
                assert child.RelationshipType == "HAS CONCEPT MOD"
                side = child.ConceptCodeSequence[0].CodeValue
                found.append((item.ConceptNameCodeSequence[0].CodeMeaning, side))
        found += lateralities(item)
    return found


@pytest.mark.parametrize("kind", PARTS)
def test_images_and_documents_name_the_side(left: Case, kind: str) -> None:
    dataset = left.read(kind)
    assert dataset.ImageLaterality == "L"
    # Type 2C: for a paired body part without Image Laterality, and the lumbar spine is none.
    assert "Laterality" not in dataset


def test_every_segment_has_a_region_of_that_side(left: Case) -> None:
    for segment in left.read("segmentation").SegmentSequence:
        (region,) = segment.AnatomicRegionSequence
        assert codes_of(region.AnatomicRegionModifierSequence) == [("7771000", "SCT", "Left")]


def test_the_map_names_it_in_its_frame_anatomy(left: Case) -> None:
    shared = left.read("map").SharedFunctionalGroupsSequence[0]
    (anatomy,) = shared.FrameAnatomySequence
    (region,) = anatomy.AnatomicRegionSequence
    assert anatomy.FrameLaterality == "L"
    assert codes_of(region.AnatomicRegionModifierSequence) == [("7771000", "SCT", "Left")]


def test_every_finding_site_of_the_report_has_it(left: Case) -> None:
    found = lateralities(left.read("measurements"))
    assert len(found) >= 6
    assert set(found) == {("Finding Site", "7771000")}


def test_the_page_and_its_numbers_have_it(left: Case) -> None:
    assert left.numbers()["side"] == "left"
    assert "<dt>Side</dt><dd>left</dd>" in left.html


@pytest.mark.parametrize("letter", ["R", "B"])
def test_right_and_both_are_carried_alike(tmp_path: Path, letter: str) -> None:
    made = make(tmp_path, laterality(letter), CLASHING)
    value, meaning = SIDES[letter]
    mask = made.read("segmentation")
    assert mask.ImageLaterality == letter
    (region,) = mask.SegmentSequence[0].AnatomicRegionSequence
    assert codes_of(region.AnatomicRegionModifierSequence) == [(value, "SCT", meaning)]
    assert {side for _, side in lateralities(made.read("measurements"))} == {value}
    (anatomy,) = made.read("map").SharedFunctionalGroupsSequence[0].FrameAnatomySequence
    assert anatomy.FrameLaterality == letter


def test_a_contradiction_is_no_side_and_a_caution(clash: Case) -> None:
    said = "Image Laterality says left; the modifier of the anatomic region says right"
    for item in clash.written:
        assert any(said in caution for caution in item.cautions)
    assert "ImageLaterality" not in clash.read("segmentation")
    assert lateralities(clash.read("measurements")) == []
    (anatomy,) = clash.read("map").SharedFunctionalGroupsSequence[0].FrameAnatomySequence
    assert anatomy.FrameLaterality == "U"
    assert said in clash.read("measurements").to_json()
    assert said in clash.html
    assert "<dt>Side</dt><dd>not known</dd>" in clash.html
    assert clash.numbers()["side"] == ""
    assert any(said in caution for caution in clash.numbers()["cautions"])


def test_frames_of_one_series_that_differ_contradict_one_another(tmp_path: Path) -> None:
    letters = iter("LLLLRRR")
    study = make_study(tmp_path, lambda dataset: laterality(next(letters))(dataset), form="frames")
    facts = study.acquisitions[0].scan.facts
    assert "side" not in facts
    assert facts["side_contradiction"] == "Image Laterality says left; Image Laterality says right"


def test_a_frame_has_an_anatomy_of_its_own(tmp_path: Path) -> None:
    def edit(dataset: Dataset) -> None:
        anatomy = Dataset()
        anatomy.FrameLaterality = "R"
        modifier("24028007")(anatomy)
        dataset.PerFrameFunctionalGroupsSequence[-1].FrameAnatomySequence = [anatomy]

    (one,) = make_study(tmp_path / "one", edit).acquisitions
    assert one.scan.facts["side"] == "right"
    (two,) = make_study(
        tmp_path / "two", lambda dataset: (edit(dataset), laterality("L")(dataset))
    ).acquisitions
    assert "Frame Laterality" in two.scan.facts["side_contradiction"]


@pytest.mark.peer
@pytest.mark.parametrize("kind", [*PARTS, "map", "measurements"])
def test_dciodvfy_finds_no_error(left: Case, kind: str) -> None:
    for item in left.written:
        if item.kind == kind:
            command = [peer("dciodvfy"), item.path]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
            assert not errors, errors[:3]


@pytest.mark.peer
def test_dcmqi_reads_the_side_of_each_segment(left: Case, tmp_path: Path) -> None:
    path = by_kind(left.written)["segmentation"].path
    done = convert("segimage2itkimage", path, tmp_path)
    assert done.returncode == 0, done.stderr
    (meta,) = tmp_path.glob("*.json")
    segments = json.loads(meta.read_text(encoding="utf-8"))["segmentAttributes"]
    sides = [each["AnatomicRegionModifierSequence"]["CodeValue"] for (each,) in segments]
    assert sides == ["7771000"] * 6
