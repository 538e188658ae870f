"""The association requests of real scanners, replayed: all they need is taken, each refusal is told."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import (
    JPEG2000,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
    generate_uid,
)
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.sop_class import ModalityWorklistInformationFind, Verification

from dicom_node.conformance.network import CLASSES
from dicom_node.receive.contexts import RETIRED, STORAGE
from tests.conftest import wait_for
from tests.test_receive import make_instance

UNCOMPRESSED = [ExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian]
RETIRED_US = RETIRED["UltrasoundImageStorageRetired"]
RETIRED_MULTIFRAME = RETIRED["UltrasoundMultiFrameImageStorageRetired"]
US, MULTIFRAME, SC = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1", str(STORAGE[5])
PRIVATE = "1.3.46.670589.2.5.1.1"
HANGING_PROTOCOL, MPEG4 = "1.2.840.10008.5.1.4.38.1", "1.2.840.10008.1.2.4.102"

Offer = list[tuple[str, list[str]]]

IN_WORDS: dict[str, Offer] = {
    "GE LOGIQ E10": [
        (RETIRED_US, UNCOMPRESSED),
        *(
            (RETIRED_US, [syntax])
            for syntax in (
                RLELossless,
                JPEGBaseline8Bit,
                JPEGLosslessSV1,
                JPEG2000,
                JPEG2000Lossless,
            )
        ),
        (RETIRED_MULTIFRAME, UNCOMPRESSED),
    ],
    "GE LOGIQ S8": [(each, UNCOMPRESSED) for each in (SC, US, MULTIFRAME)],
}
"""Lists that the collection tells in words alone, one context after the other."""

NAMES = {
    "Ultrasound Image Storage": RETIRED_US,
    "Ultrasound Multi-frame Image Storage": MULTIFRAME,
    "Modality Worklist Information Model": str(ModalityWorklistInformationFind),
}
"""What the logs print instead of a UID; one name for current and retired classes."""


@dataclass(frozen=True)
class Listening:
    """A node's receiver, and the events of its log so far."""

    port: int
    log: Path

    def events(self, name: str, calling_ae: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        mine = (line for line in lines if line.get("calling_ae") == calling_ae)
        return [line for line in mine if line["event"] == name]

    def associate(self, title: str, offer: Offer) -> Association:
        contexts = [build_context(sop_class, syntaxes) for sop_class, syntaxes in offer]
        return AE(title).associate("127.0.0.1", self.port, contexts, "DICOM_NODE")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    """The receiving role of `serve`, whose log is a file."""
    folder = tmp_path_factory.mktemp("node")
    config = folder / "node.toml"
    config.write_text(
        f'[node]\ndata_dir = "{folder / "data"}"\n'
        f'[receive]\nport = 0\nprivate_sop_classes = ["{PRIVATE}"]\n'
    )
    command = [sys.executable, "-P", "-m", "dicom_node", "serve", "--role", "receive"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [*command, "--config", str(config)], stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        assert process.stdout is not None
        yield Listening(json.loads(process.stdout.readline())["port"], folder / "log")
        process.terminate()


def scanners() -> dict[str, Offer]:
    """Of each scanner what it offers, as far as it is known."""
    folder = os.environ.get("DICOM_NODE_TEST_DATA")
    if not folder:
        return {}
    known = json.loads(Path(folder, "scanner_associations.json").read_text())["scanners"]
    return {each["scanner"]: offer_of(each) for each in known}


def offer_of(scanner: dict[str, Any]) -> Offer:
    if isinstance(scanner["contexts"], str):
        return IN_WORDS[scanner["scanner"]]
    offer: Offer = []
    for context in scanner["contexts"]:
        uid = context["sop"].split()[0]
        names = [found for name, found in NAMES.items() if context["sop"].startswith(name)]
        if not uid[0].isdigit() and not names:
            continue  # "Ultra... cut off"
        syntaxes = context["ts"] if isinstance(context["ts"], list) else UNCOMPRESSED
        offer.append((uid if uid[0].isdigit() else names[0], syntaxes))
    return offer


def test_every_scanner_is_taken_as_it_comes(node: Listening) -> None:
    offers = scanners()
    if not offers:
        pytest.skip("DICOM_NODE_TEST_DATA is not set")
    assert len(offers) == 5
    for number, (name, offer) in enumerate(offers.items()):
        association = node.associate(f"SCANNER{number}", offer)
        accepted = [context.abstract_syntax for context in association.accepted_contexts]
        association.release()
        assert accepted == [sop_class for sop_class, _ in offer], name
        assert node.events("contexts rejected", f"SCANNER{number}") == []


def test_a_worklist_that_is_asked_for_first_is_empty(node: Listening) -> None:
    association = node.associate(
        "MEDISON", [(ModalityWorklistInformationFind, [ImplicitVRLittleEndian])]
    )
    query = make_instance()
    answers = list(association.send_c_find(query, ModalityWorklistInformationFind))
    association.release()
    assert [(status.Status, found) for status, found in answers] == [(0x0000, None)]


def test_a_private_object_is_kept_where_the_site_says_so(node: Listening) -> None:
    instance = make_instance(SOPClassUID=PRIVATE)
    association = node.associate("EPIQ", [(PRIVATE, [ExplicitVRLittleEndian])])
    assert association.send_c_store(instance).Status == 0x0000
    association.release()
    wait_for(lambda: node.events("received", "EPIQ"), "it in the log")


def test_whatever_this_program_writes_is_kept_when_it_comes_back(node: Listening) -> None:
    classes = {str(uid) for uids in CLASSES.values() for uid in uids}
    association = node.associate(
        "RETURN", [(uid, [ExplicitVRLittleEndian]) for uid in sorted(classes)]
    )
    for uid in classes:
        assert association.send_c_store(make_instance(SOPClassUID=uid)).Status == 0x0000, uid
    association.release()
    assert node.events("contexts rejected", "RETURN") == []


def test_a_full_list_is_taken_and_every_refusal_told_once(node: Listening) -> None:
    """128 contexts: as many as a request can carry, since their numbers are odd and below 256."""
    taken = [str(uid) for uid in STORAGE[:120]]
    private = str(generate_uid())
    offer: Offer = [(uid, [ExplicitVRLittleEndian]) for uid in taken]
    offer += [(MULTIFRAME, [MPEG4]), (private, [ImplicitVRLittleEndian])]
    offer += [(HANGING_PROTOCOL, [ExplicitVRLittleEndian])]
    offer += [(str(generate_uid()), [ImplicitVRLittleEndian]) for _ in range(127 - len(offer))]
    offer.append((Verification, [ImplicitVRLittleEndian]))
    assert len(offer) == 128
    association = node.associate("LONG", offer)
    accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
    assert association.send_c_echo().Status == 0x0000
    association.release()
    assert accepted == {*taken, Verification}
    (told,) = node.events("contexts rejected", "LONG")
    told = told["sop_classes"]
    assert told["no supported transfer syntax"] == [f"{MULTIFRAME} in {MPEG4}"]
    refused = told["abstract syntax not supported"]
    assert refused[0] == f"{private} in {ImplicitVRLittleEndian}"
    assert f"{HANGING_PROTOCOL} in {ExplicitVRLittleEndian}" in refused
    assert len(refused) == 128 - len(accepted) - 1
