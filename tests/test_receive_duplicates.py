"""What comes twice: the same data set, another encoding, other content; and a disk that loses a file."""

import hashlib
from collections.abc import Iterator
from io import BytesIO

import pytest
import sqlalchemy as sa
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, generate_uid
from pynetdicom import AE, build_context

from tests.conftest import RunningNode, start_node, wait_for
from tests.test_receive import (
    US,
    assert_consistent,
    associate,
    begin_store,
    encode,
    make_instance,
    p_data,
    store_raw,
)
from tests.test_receive_stow import PORT, Answer, body_of, post


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """Only the receiving role, with both doors open."""
    folder = tmp_path_factory.mktemp("node")
    web = f"web_port = {PORT}"
    with start_node(folder, roles=("receive",), quiet_seconds=600.0, receive=web) as node:
        yield node


def files(receiver: RunningNode) -> tuple[int, int]:
    """How many are in the store, how many were set aside."""
    folders = (receiver.data / name for name in ("store", "quarantine"))
    store, quarantine = (len(list(folder.iterdir())) for folder in folders)
    return store, quarantine


def send(receiver: RunningNode, dataset: Dataset) -> int:
    """C-STORE in the data set's own transfer syntax alone."""
    syntax = dataset.file_meta.TransferSyntaxUID
    context = build_context(dataset.SOPClassUID, syntax)
    address = ("127.0.0.1", receiver.node.port)
    association = AE("SCANNER").associate(*address, [context], "DICOM_NODE")
    status = int(association.send_c_store(dataset).Status)
    association.release()
    return status


def as_file(dataset: Dataset, version: str) -> bytes:
    """A file as another program would have written it."""
    dataset.file_meta.ImplementationVersionName = version
    dataset.file_meta.PrivateInformationCreatorUID = generate_uid()
    dataset.file_meta.PrivateInformation = version.encode().ljust(64)
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_the_same_data_set_in_another_file_is_identical(receiver: RunningNode) -> None:
    instance = make_instance()
    uid = str(instance.SOPInstanceUID)
    assert store_raw(receiver, encode(instance), uid) == 0x0000
    before = files(receiver)
    for version in ("ONE", "ANOTHER"):
        assert post(body_of([as_file(instance, version)])) == Answer(200, {uid: 0})
    assert store_raw(receiver, encode(instance), uid) == 0x0000
    assert files(receiver) == before
    assert_consistent(receiver)


def test_what_was_kept_under_the_hash_of_its_file_is_known_again(receiver: RunningNode) -> None:
    """As the first version of the database has it."""
    instance = make_instance()
    uid = str(instance.SOPInstanceUID)
    assert store_raw(receiver, encode(instance), uid) == 0x0000
    ((path,),) = receiver.rows(f"select path from instances where sop_uid = '{uid}'")
    old = hashlib.sha256((receiver.data / path).read_bytes()).hexdigest()
    (receiver.data / path).rename(receiver.data / f"store/{old}.dcm")
    engine = sa.create_engine(receiver.settings.node.database_url, poolclass=sa.NullPool)
    change = "update instances set sha256 = :sha, path = :path where sop_uid = :uid"
    with engine.begin() as connection:
        connection.execute(sa.text(change), {"sha": old, "path": f"store/{old}.dcm", "uid": uid})
    before = files(receiver)
    assert store_raw(receiver, encode(instance), uid) == 0x0000
    assert files(receiver) == before
    assert (receiver.data / f"store/{old}.dcm").exists()
    with engine.begin() as connection:  # so that the other tests find what they expect
        connection.execute(sa.text("delete from instances where sop_uid = :uid"), {"uid": uid})
    (receiver.data / f"store/{old}.dcm").unlink()


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, RLELossless])
def test_another_transfer_syntax_is_the_same_instance(receiver: RunningNode, syntax: str) -> None:
    instance = monochrome()
    assert send(receiver, instance) == 0x0000
    before = files(receiver)
    assert send(receiver, encoded(instance, syntax)) == 0x0000
    assert files(receiver) == before
    assert_consistent(receiver)
    ((kept,),) = receiver.rows(
        f"select transfer_syntax from instances where sop_uid = '{instance.SOPInstanceUID}'"
    )
    assert kept == ExplicitVRLittleEndian


def test_another_shape_in_another_transfer_syntax_is_set_aside(receiver: RunningNode) -> None:
    instance = monochrome()
    assert send(receiver, instance) == 0x0000
    store, quarantine = files(receiver)
    other = monochrome()
    for tag in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(other, tag, instance[tag].value)
    other.Rows, other.Columns = 2, 8
    assert send(receiver, encoded(other, ImplicitVRLittleEndian)) == 0xC001
    assert files(receiver) == (store, quarantine + 1)
    assert_consistent(receiver)


def monochrome() -> Dataset:
    return make_instance(
        SeriesInstanceUID=generate_uid(),
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelRepresentation=0,
    )


def encoded(dataset: Dataset, syntax: str) -> Dataset:
    """The same instance in another transfer syntax."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    copy = dcmread(BytesIO(buffer.getvalue()))
    if syntax == RLELossless:
        copy.compress(RLELossless, generate_instance_uid=False)
    else:
        copy.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        buffer = BytesIO()
        copy.save_as(buffer, implicit_vr=True, little_endian=True)
        copy = dcmread(BytesIO(buffer.getvalue()))
    return copy


def test_a_file_that_the_disk_loses_is_to_be_sent_again(receiver: RunningNode) -> None:
    instance = make_instance()
    content, answers = encode(instance), []
    association = associate(receiver, answers)
    line = association.dul.socket.socket
    begin_store(line, US, instance.SOPInstanceUID)
    line.sendall(p_data(content[:-10], 0x00))
    (path,) = wait_for(lambda: list((receiver.data / "incoming").iterdir()), "a file")
    path.unlink()
    line.sendall(p_data(content[-10:], 0x02))
    wait_for(lambda: answers, "an answer")
    association.abort()
    assert answers == [0xA700]
    assert store_raw(receiver, content, instance.SOPInstanceUID) == 0x0000
    assert_consistent(receiver)
