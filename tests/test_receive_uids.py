"""UIDs with a leading zero in a component, as scanners in the field write them: taken in every place."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage
from pynetdicom import AE, build_context

from dicom_node.receive.store import is_uid
from dicom_node.settings.allowed import UIDS
from tests.conftest import Pacs, RunningNode, free_port, make_study, start_node, wait_for
from tests.dicom_scanner import Scanner, ask_commitment, begin_step, end_step, sop_uids
from tests.test_receive_stow import Answer, body_of, post

PORT = free_port()
DATA = os.environ.get("DICOM_NODE_TEST_DATA")
pytestmark = pytest.mark.filterwarnings(
    "ignore:Invalid value for VR UI"
)  # of pydicom, in the tests
KEYWORDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")


def test_what_a_uid_is() -> None:
    for text in (
        "1.2.3",
        "1.2.03",
        "1.2.0000",
        "01.2",
        "1.2.840.20250521.090501.7",
        "1." + "2" * 62,
    ):
        assert is_uid(text), text
        assert UIDS.test((text,)), text
    for text in (
        "",
        ".",
        "1.",
        ".1",
        "1..2",
        "1.2 ",
        "1.2\n",
        "1.²",
        "1.x",
        "1." + "2" * 63,
        "../1",
    ):
        assert not is_uid(text), text
        assert not UIDS.test((text,)), text


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


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """A study all of whose UIDs have such a component."""
    return padded(make_study(tmp_path_factory.mktemp("sent"), seed=21))


def padded(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    for path in paths:
        dataset = dcmread(path)
        for keyword in KEYWORDS:
            if uid := dataset.get(keyword):
                setattr(dataset, keyword, f"{uid[:55].rstrip('.')}.0{uid[-4:].lstrip('.')}")
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(path)
    return paths


def test_by_every_door_into_results_that_name_them(
    node: tuple[RunningNode, Pacs], study: tuple[Path, ...]
) -> None:
    running, archive = node
    uids = sop_uids(study)
    assert all(".0" in uid for uid in uids)
    study_uid = str(dcmread(study[0]).StudyInstanceUID)
    association = Scanner().associate(running)
    step = "1.2.3.004"
    assert begin_step(association, step, study_uid) == 0x0000
    stored = _store(running, study[:2])
    assert stored == [0x0000] * 2
    rest = [path.read_bytes() for path in study[2:]]
    assert post(body_of(rest), f"/studies/{study_uid}", port=PORT) == Answer(
        200, {str(dcmread(path).SOPInstanceUID): 0 for path in study[2:]}
    )
    assert end_step(association, step, uids) == 0x0000
    assert ask_commitment(association, uids) == 0x0000
    association.release()
    wait_for(lambda: len(archive.kept) >= 2, "results")
    named = {uid for kept in archive.kept.values() for uid in uids if uid.encode() in kept}
    assert named == set(uids)
    assert all(study_uid.encode() in kept for kept in archive.kept.values())


def _store(running: RunningNode, paths: tuple[Path, ...]) -> list[int]:
    contexts = [build_context(dcmread(paths[0]).SOPClassUID, ExplicitVRLittleEndian)]
    address = ("127.0.0.1", running.node.port)
    association = AE("SCANNER").associate(*address, contexts, "DICOM_NODE")
    found = [int(association.send_c_store(dcmread(path)).Status) for path in paths]
    association.release()
    return found


def test_the_field_input_is_kept(node: tuple[RunningNode, Pacs], tmp_path: Path) -> None:
    if not DATA:
        pytest.skip("DICOM_NODE_TEST_DATA is not set")
    encoded = (Path(DATA) / "field" / "21_leading_zero_sop_uid" / "dataset.bin").read_bytes()
    uid = "1.2.826.0.1.3680043.8.498.2684.20250521.090501.7"
    meta, path = FileMetaDataset(), tmp_path / "sent.dcm"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UltrasoundImageStorage, uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    with path.open("wb") as file:
        file.write(bytes(128) + b"DICM")
        write_file_meta_info(file, meta, enforce_standard=True)
        file.write(encoded)
    assert _store(node[0], (path,)) == [0x0000]
    assert node[0].rows(f"select sop_uid from instances where sop_uid = '{uid}'") == [(uid,)]
