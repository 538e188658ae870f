"""The conformance statement tells the truth: of the code, of real associations, of written objects."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom._uid_dict import UID_dictionary
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_context
from pynetdicom.association import Association

from dicom_node.conformance import PATH, statement
from dicom_node.conformance.content import ANY, TREES, rows
from dicom_node.conformance.objects import COMMON, GROUPS, SOMETIMES, SPECIFIC
from dicom_node.deliver import deliver
from dicom_node.errors import Busy, Declined, Unreachable
from dicom_node.report import write_answer, write_objects
from dicom_node.scanner import Style
from dicom_node.settings import Destination
from dicom_node.study import Ground, Unanalyzed
from tests.conftest import ROOT, Pacs, RunningNode, make_study, start_node
from tests.report_phantom import Request, make_case
from tests.test_receive import encode, make_instance, store_raw

# our own bad UIDs come back in the answer
pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR UI")

OTHER_SYNTAXES = ["1.2.840.10008.1.2.4.102", "1.2.840.10008.1.2.4.111", "1.2.840.10008.1.2.4.53"]
"""MPEG-4, JPEG XL and a retired JPEG."""


def table(*heads: str) -> list[list[str]]:
    """The rows of the committed statement's table with these heads."""
    text = (ROOT / PATH).read_text(encoding="utf-8")
    begin = text.index(f"| {' | '.join(heads)} |\n")
    lines = text[begin:].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


STORAGE = ("SOP class", "UID", "role", "what becomes of its instances")
SERVICES = ("SOP class", "UID", "transfer syntaxes", "role")
SYNTAXES = ("transfer syntax", "UID", "decoded by")


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    folder = tmp_path_factory.mktemp("node")
    with start_node(folder, roles=("receive",), quiet_seconds=600.0) as node:
        yield node


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Dataset]:
    """One object of each kind; layer 2 was not found."""
    folder = tmp_path_factory.mktemp("objects")
    request = Request(Style(form="enhanced"), present=(1, 3, 4, 5, 6))
    study, outcomes = make_case(folder / "source", request)
    every = ("SEG", "SR", "PM", "SC", "PDF")
    wanted = (Destination("all", objects=every), Destination("simple", companion=True))
    header = Dataset()
    header.StudyInstanceUID = study.study_uid
    grounds = (Ground("no-geometry", "The distance of frames is unknown."),)
    items = write_objects(study, outcomes, folder, wanted)
    items += write_answer(Unanalyzed(study.study_uid, grounds, header), folder)
    return {item.kind: dcmread(item.path) for item in reversed(items)}


def associate(receiver: RunningNode, offers: list[tuple[str, list[str]]]) -> Association:
    contexts = [build_context(sop_class, syntaxes) for sop_class, syntaxes in offers]
    association = AE("SCANNER").associate("127.0.0.1", receiver.node.port, contexts, "DICOM_NODE")
    assert association.is_established or not association.accepted_contexts
    return association


def accepted(receiver: RunningNode, offers: list[tuple[str, list[str]]]) -> list[tuple[str, str]]:
    association = associate(receiver, offers)
    taken = association.accepted_contexts
    if association.is_established:
        association.release()
    return [(str(each.abstract_syntax), str(each.transfer_syntax[0])) for each in taken]


def test_the_committed_statement_is_what_the_code_says() -> None:
    committed = (ROOT / PATH).read_text(encoding="utf-8")
    assert committed == statement(), f"run: dicom-node conformance > {PATH}"


def chunked(classes: list[str]) -> list[list[str]]:
    """So many as fit into one association."""
    return [classes[start : start + 128] for start in range(0, len(classes), 128)]


def test_every_listed_pair_is_accepted(receiver: RunningNode) -> None:
    classes = [row[1] for row in table(*STORAGE)]
    assert len(classes) >= 180
    for position, (_, syntax, _) in enumerate(table(*SYNTAXES)):
        for some in chunked(classes) if position == 0 else [classes[position::16]]:
            wanted = [(sop_class, syntax) for sop_class in some]
            assert accepted(receiver, [(each, [syntax]) for each in some]) == wanted
    services = [row[1] for row in table(*SERVICES)]
    found = accepted(receiver, [(each, [ImplicitVRLittleEndian]) for each in services])
    assert [sop_class for sop_class, _ in found] == services


def test_nothing_else_is_accepted(receiver: RunningNode) -> None:
    classes = {row[1] for row in table(*STORAGE)}
    others = {
        number
        for number, (name, kind, *_) in UID_dictionary.items()
        if kind == "SOP Class" and number not in classes
    }
    others -= {row[1] for row in table(*SERVICES)}
    others |= {"1.2.840.10008.5.1.4.1.2.2.1", str(generate_uid())}  # study root query; private
    assert len(others) > 90
    for some in chunked(sorted(others)):
        assert accepted(receiver, [(each, [ExplicitVRLittleEndian]) for each in some]) == []
    for some in chunked(sorted(classes)):
        assert accepted(receiver, [(each, OTHER_SYNTAXES) for each in some]) == []


def test_of_several_syntaxes_the_first_of_the_table_is_taken(receiver: RunningNode) -> None:
    syntaxes = [row[1] for row in table(*SYNTAXES)]
    sop_class = table(*STORAGE)[0][1]
    for first in (0, 1, 5):
        offer = [(sop_class, list(reversed(syntaxes[first:])))]
        assert accepted(receiver, offer) == [(sop_class, syntaxes[first])]


def test_identifiers_and_limits_are_those_of_an_association(receiver: RunningNode) -> None:
    said = dict(table("identifier", "value"))
    association = associate(receiver, [("1.2.840.10008.1.1", [ImplicitVRLittleEndian])])
    acceptor = association.acceptor
    identity = said["Implementation Class UID (associations)"]
    assert acceptor.implementation_class_uid == identity
    assert (
        acceptor.implementation_version_name == said["Implementation Version Name (associations)"]
    )
    assert (
        f"{acceptor.maximum_length} bytes" == dict(table("limit", "value"))["maximum PDU offered"]
    )
    association.release()


def test_each_answer_to_a_c_store_is_in_the_table(receiver: RunningNode) -> None:
    said = {int(row[0], 16) for row in table("status", "meaning", "what the SCU should do")}
    good = make_instance()
    uid, other = good.SOPInstanceUID, make_instance(SOPInstanceUID=good.SOPInstanceUID)
    given = [
        store_raw(receiver, content, name)
        for content, name in (
            (encode(good), uid),
            (encode(good), generate_uid()),
            (encode(other), uid),
            (b"garbage", uid),
        )
    ]
    assert given == [0x0000, 0xA900, 0xC001, 0xC000]
    assert said == {*given, 0xA700, 0xC002}  # the disk is full, too large


def test_the_answers_of_peers_have_the_effects_in_the_table(pacs: Pacs, tmp_path: Path) -> None:
    path = make_study(tmp_path, seed=91)[0]
    said = {row[0]: row[2] for row in table("answer of the peer", "it means", "what the node does")}

    def effect(status: int) -> str:
        pacs.answer = lambda _uid: status
        try:
            (receipt,) = deliver([path], pacs.destination, "DICOM_NODE")
        except (Busy, Unreachable):
            return "tried again later"
        except Declined:
            return "not tried again"
        return "delivered; the status" if receipt.is_warning else "delivered"

    for row, statuses in {
        "0x0000": (0x0000,),
        "0xBxxx": (0xB000, 0xB007),
        "0xA7xx": (0xA700, 0xA702),
        "0x0001": (0x0001,),
        "0x0107": (0x0107,),
        "0x0116": (0x0116,),
        "0x0110": (0x0110,),
        "0x0124": (0x0124,),
        "0x0210": (0x0210,),
        "0x0213": (0x0213,),
        "0xFExx, 0xFFxx": (0xFE00, 0xFF00),
        "0x0111, otherwise": (0x0111,),
        "0x0122": (0x0122,),
        "0xA9xx, 0xCxxx, any other": (0xA900, 0xC000, 0x0112),
    }.items():
        for status in statuses:
            assert said[row].startswith(effect(status)), (row, hex(status))
    pacs.stop()
    assert said["no connection, no answer, aborted"].startswith(effect(0))
    pacs.start()


def test_every_attribute_of_every_object_is_told(written: Mapping[str, Dataset]) -> None:
    assert set(written) == set(SPECIFIC)
    for kind, dataset in written.items():
        told = {**COMMON, **SPECIFIC[kind]}
        has = {element.keyword for element in dataset}
        assert has - set(told) == set(), kind
        sometimes = {each for each, source in told.items() if source.startswith(SOMETIMES)}
        assert set(told) - sometimes - has == set(), kind


def test_every_functional_group_is_told(written: Mapping[str, Dataset]) -> None:
    for kind, name in (("segmentation", "SEG"), ("map", "PM")):
        for place, sequence in (("shared", "Shared"), ("frame", "PerFrame")):
            group = written[kind][f"{sequence}FunctionalGroupsSequence"][0]
            told = {each[2] for each in GROUPS if name in each[0] and each[1] == place}
            assert {element.keyword for element in group} == told, (kind, place)


def test_files_carry_the_identifiers_and_no_private_attribute(
    written: Mapping[str, Dataset],
) -> None:
    said = dict(table("identifier", "value"))
    for kind, dataset in written.items():
        by_pydicom = kind in ("document", "companion")
        files = "PDF and companions" if by_pydicom else "SEG, SR, PM, SC"
        identity = said[f"Implementation Class UID (files of {files})"]
        assert dataset.file_meta.ImplementationClassUID == identity, kind
        assert not [element for element in dataset.iterall() if element.tag.is_private], kind
        assert dataset.SpecificCharacterSet == "ISO_IR 192"
        for uid in (dataset.SOPInstanceUID, dataset.SeriesInstanceUID):
            assert uid.startswith("2.25.")


def items(item: Dataset, depth: int = 0) -> Iterator[tuple[int, str, str, str]]:
    """Depth, relationship, value type and concept name of every content item."""
    names = item.get("ConceptNameCodeSequence")
    name = names[0] if names else None
    coded = f"{name.CodeValue} {name.CodingSchemeDesignator} {name.CodeMeaning}" if name else ""
    yield depth, str(item.get("RelationshipType", "")), str(item.ValueType), coded
    for child in item.get("ContentSequence", []):
        yield from items(child, depth + 1)


def check_tree(found: set[tuple[int, str, str, str]], names: tuple[str, ...]) -> None:
    """Every item has a line, and every line that is not for some cases alone has an item."""
    lines = [tuple(row) for name in names for row in rows(name)]
    told = {(int(line[0]), *line[1:4]): line[4] for line in lines}
    free = {item[:3] for item in told if item[3] in (ANY, "what is decided")}
    unknown = {item for item in found if item not in told and item[:3] not in free}
    assert unknown == set()
    wanted = {item for item in told if item[:3] not in free and not told[item].startswith("where")}
    assert wanted - found == set()


def test_the_content_trees_are_those_of_the_reports(written: Mapping[str, Dataset]) -> None:
    names = ("report", "caliper", "layer", "decision")
    check_tree(set(items(written["measurements"])), names)
    check_tree(set(items(written["refusal"])), ("answer",))
    assert {*names, "answer"} == set(TREES)


def test_the_private_schemes_are_in_the_statement(written: Mapping[str, Dataset]) -> None:
    text = (ROOT / PATH).read_text(encoding="utf-8")
    declared = {
        str(item.CodingSchemeDesignator)
        for dataset in written.values()
        for item in dataset.get("CodingSchemeIdentificationSequence", [])
    }
    assert declared == {"99LAYER", "99DICOMNODE"}
    for scheme in declared:
        assert f"| code ({scheme}) | meaning |" in text
    own = {
        str(item.CodeValue)
        for dataset in (written["measurements"], written["refusal"])
        for item in codes_of(dataset)
        if item.CodingSchemeDesignator == "99DICOMNODE"
    }
    listed = set(re.findall(r"^\| `([^`]+)` \|", text, flags=re.MULTILINE))
    assert {re.sub(r"^segment-\d+$", "segment-n", value) for value in own} - listed == set()


def codes_of(dataset: Dataset) -> Iterator[Dataset]:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                if "CodeValue" in item:
                    yield item
                yield from codes_of(item)
