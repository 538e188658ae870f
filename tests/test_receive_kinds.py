"""What comes beside right ultrasound: other storage classes, UIDs in the file meta alone, encoded bodies."""

import gzip
import http.client
import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_context
from typer.testing import CliRunner

from dicom_node.cli import app
from dicom_node.receive.contexts import RETIRED, STORAGE
from tests.conftest import Pacs, RunningNode, free_port, make_study, start_node, wait_for
from tests.test_receive import encode, make_instance, store_raw
from tests.test_receive_stow import RELATED, Answer, audited, body_of, kept, post, uid_of

PORT = free_port()
DATA = os.environ.get("DICOM_NODE_TEST_DATA")
PR, KO = "1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.88.59"
KINDS = (
    *(PR, KO, "1.2.840.10008.5.1.4.1.1.9.1.1", "1.2.840.10008.5.1.4.1.1.481.5"),
    *("1.2.840.10008.5.1.4.1.1.104.2", "1.2.840.10008.5.1.4.1.1.66", "1.2.840.10008.5.1.4.34.7"),
    *(
        "1.2.840.10008.5.1.4.1.1.2",
        "1.2.840.10008.5.1.4.1.1.66.8",
        RETIRED["StandaloneCurveStorage"],
    ),
)
"""Presentation state, key object, waveform, plan, document, raw data, instruction, CT, height map, curve."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningNode, Pacs]]:
    """A whole node that analyzes, and its archive."""
    archive = Pacs()
    web = f"web_port = {PORT}"
    with start_node(
        tmp_path_factory.mktemp("node"), archive.destination, quiet_seconds=1.0, receive=web
    ) as running:
        yield running, archive
    archive.stop()


def other(sop_class: str, like: Dataset) -> Dataset:
    """An object without pixels of the same study."""
    dataset = make_instance(SOPClassUID=sop_class, SOPInstanceUID=generate_uid(), Modality="OT")
    dataset.StudyInstanceUID, dataset.PatientID = like.StudyInstanceUID, like.PatientID
    for keyword in ("PatientName", "PatientBirthDate", "PatientSex"):
        setattr(dataset, keyword, like.get(keyword, ""))
    for keyword in ("Rows", "Columns", "PixelData"):
        if keyword in dataset:
            del dataset[keyword]
    return dataset


def send(running: RunningNode, datasets: list[Dataset]) -> list[int]:
    """As a scanner that proposes what it has, one class each, and stops at the first that is refused."""
    classes = dict.fromkeys(str(each.SOPClassUID) for each in datasets)
    contexts = [build_context(each, ExplicitVRLittleEndian) for each in classes]
    address = ("127.0.0.1", running.node.port)
    association = AE("SCANNER").associate(*address, contexts, "DICOM_NODE")
    assert len(association.accepted_contexts) == len(contexts), association.rejected_contexts
    found = [int(association.send_c_store(each).Status) for each in datasets]
    association.release()
    return found


def states(running: RunningNode, study_uid: str) -> int:
    query = f"select count(*) from instances where study_uid = '{study_uid}' and state = 'kept'"
    return int(running.rows(query)[0][0])


def test_a_presentation_state_first_then_all_else_then_ultrasound(
    node: tuple[RunningNode, Pacs], tmp_path: Path
) -> None:
    running, archive = node
    archive.forget()
    images = [dcmread(path) for path in make_study(tmp_path / "sent", seed=34)]
    others = [other(sop_class, images[0]) for sop_class in KINDS]
    assert send(running, [*others, *images]) == [0x0000] * (len(others) + len(images))
    study_uid = str(images[0].StudyInstanceUID)
    assert states(running, study_uid) == len(others) + len(images)
    wait_for(lambda: len(archive.kept) >= 2, "results")
    config = ["--config", str(running.gate.parent / "node.toml")]
    shown = CliRunner().invoke(app, ["jobs", "show", study_uid, *config]).output
    assert "1 unused: no image: Grayscale Softcopy Presentation State Storage" in " ".join(
        shown.split()
    )


def test_the_field_input_is_analyzed(node: tuple[RunningNode, Pacs]) -> None:
    if not DATA:
        pytest.skip("DICOM_NODE_TEST_DATA is not set")
    running, archive = node
    archive.forget()
    paths = sorted((Path(DATA) / "field" / "34b_pr_first").glob("*.dcm"))
    datasets = [dcmread(path) for path in paths]
    assert send(running, datasets) == [0x0000] * 12
    assert states(running, str(datasets[0].StudyInstanceUID)) == 12
    wait_for(lambda: archive.kept, "an answer")


def test_the_list_has_what_the_tables_have() -> None:
    assert len(STORAGE) == len({*STORAGE}) > 180
    assert {PR, KO, *RETIRED.values()} <= {*map(str, STORAGE)}
    assert not any("Commitment" in uid.name or uid.name.startswith("Verif") for uid in STORAGE)


def without(path: Path, *keywords: str) -> bytes:
    """A file whose data set lacks these; its file meta has the UIDs."""
    dataset = dcmread(path)
    for keyword in keywords:
        del dataset[keyword]
    buffer = BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def test_a_uid_in_the_file_meta_alone_is_taken(
    node: tuple[RunningNode, Pacs], tmp_path: Path
) -> None:
    """Nothing is guessed: the C-STORE command, and the file meta of STOW-RS, name the instance."""
    paths = make_study(tmp_path / "sent", seed=36)
    study_uid = str(dcmread(paths[0]).StudyInstanceUID)
    uids = [str(dcmread(path).SOPInstanceUID) for path in paths]
    first = without(paths[0], "SOPInstanceUID")
    both = without(paths[1], "SOPInstanceUID", "SOPClassUID")
    assert post(body_of([first, both]), port=PORT) == Answer(200, dict.fromkeys(uids[:2], 0))
    bare = dcmread(paths[2])
    del bare.SOPInstanceUID
    assert store_raw(node[0], encode(bare), uids[2]) == 0x0000
    assert kept(node[0], study_uid) == set(uids[:3])
    for keywords, words in (
        (("StudyInstanceUID",), "the sender wrote no StudyInstanceUID"),
        (("StudyInstanceUID", "SOPInstanceUID"), "the sender wrote no StudyInstanceUID"),
    ):
        sent = without(paths[3], *keywords)
        assert post(body_of([sent]), port=PORT) == Answer(409, {uids[3]: 0xC000})
        wait_for(lambda words=words: words in audited(node[0]), words)


def test_a_hand_held_scanner_that_names_it_in_the_file_meta(node: tuple[RunningNode, Pacs]) -> None:
    if not DATA:
        pytest.skip("DICOM_NODE_TEST_DATA is not set")
    folder = Path(DATA) / "us_dicom" / "pocus_vendors"
    content = (folder / "sonoque_anechoic-3mm-3mm.dcm").read_bytes()
    uid = "1.2.276.0.7230010.3.1.4.0.3510.1588094932.950041"
    assert post(body_of([content]), port=PORT) == Answer(200, {uid: 0})


def answer_to(body: bytes, headers: dict[str, str]) -> tuple[int, str | None, str]:
    line = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
    line.request("POST", "/studies", body, {"Content-Type": RELATED} | headers)
    answer = line.getresponse()
    found = answer.status, answer.getheader("accept-encoding"), answer.read().decode()
    line.close()
    return found


def test_a_body_that_is_encoded_is_refused_with_what_is_taken(
    node: tuple[RunningNode, Pacs], tmp_path: Path
) -> None:
    content = make_study(tmp_path / "sent", seed=35)[0].read_bytes()
    body = body_of([content])
    for coding in ("gzip", "GZIP", "deflate", "br", "zstd", "identity, gzip", "nonsense"):
        status, taken, reason = answer_to(gzip.compress(body), {"Content-Encoding": coding})
        assert (status, taken) == (415, "identity"), coding
        assert "is not taken; send the body as it is" in reason
    status, taken, reason = answer_to(body, {"Content-Type": "text/plain"})
    assert (status, taken) == (415, None)  # of another cause, RFC 9110 section 12.5.3
    for coding in ("identity", ""):
        assert answer_to(body, {"Content-Encoding": coding})[0] == 200
    assert uid_of(content) in kept(node[0], str(dcmread(BytesIO(content)).StudyInstanceUID))
    wait_for(lambda: "Content-Encoding gzip is not taken" in audited(node[0]), "the audit trail")


def test_a_part_that_is_encoded_is_refused_for_that(
    node: tuple[RunningNode, Pacs], tmp_path: Path
) -> None:
    content = make_study(tmp_path / "sent", seed=37)[0].read_bytes()
    for header, words in (
        (b"Content-Encoding: gzip", "a part is encoded as gzip"),
        (b"Content-Transfer-Encoding: base64", "a part is encoded as base64"),
    ):
        body = body_of([content]).replace(b"\r\n\r\n", b"\r\n" + header + b"\r\n\r\n", 1)
        assert set(post(body, port=PORT).reasons.values()) == {0xC000}
        wait_for(lambda words=words: words in audited(node[0]), words)
    plain = b"Content-Transfer-Encoding: binary"
    body = body_of([content]).replace(b"\r\n\r\n", b"\r\n" + plain + b"\r\n\r\n", 1)
    assert post(body, port=PORT) == Answer(200, {uid_of(content): 0})
    assert post(body_of([b"\x89PNG" + bytes(500)]), port=PORT) == Answer(409, {"": 0xC000})
    wait_for(lambda: "a part is no DICOM file" in audited(node[0]), "the reason")
