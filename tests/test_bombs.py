"""What claims to be larger than the node may decode is refused before anything is decoded or inflated."""

import re
import zlib
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom_node.assemble import assemble_study
from dicom_node.errors import StudyError, TooLarge
from dicom_node.process import find_studies
from dicom_node.scanner import Style, write_study
from dicom_node.settings import LARGEST_MIB
from dicom_node.study import LARGEST_INFLATED_BYTES
from tests.assemble_studies import edit, make_scan, store
from tests.conftest import make_study, start_node
from tests.hostile_files import Hostile, send
from tests.test_receive import encode, make_instance

TOO_MUCH = LARGEST_INFLATED_BYTES + (32 << 20)


def bomb(size: int) -> tuple[Dataset, bytes]:
    """An instance whose pixels are zeros, and its deflated bytes: a hundredth of what they fill."""
    dataset = make_instance(Rows=1, Columns=1, PixelData=b"")
    head = encode(dataset)[:-12]  # without Pixel Data: tag, VR, reserved bytes, length
    deflate = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    length = size.to_bytes(4, "little")
    pieces = [deflate.compress(head + b"\xe0\x7f\x10\x00OB\x00\x00" + length)]
    pieces += [deflate.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return dataset, b"".join([*pieces, deflate.flush()])


def test_what_inflates_without_end_is_refused_by_the_receiver_and_the_command(
    tmp_path: Path,
) -> None:
    dataset, content = bomb(TOO_MUCH)
    small, small_content = bomb(1 << 20)
    syntax = str(DeflatedExplicitVRLittleEndian)
    with start_node(tmp_path, roles=("receive",)) as node:
        what = (str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), syntax)
        assert send(Hostile("bomb", content, *what), node.destination) == 0xC000
        status = Path(f"/proc/{node.node.pid('receive')}/status").read_text()
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert peak
        assert int(peak[1]) * 1024 < LARGEST_INFLATED_BYTES
        # Small enough, it is taken like any other.
        what = (str(small.SOPClassUID), str(small.SOPInstanceUID), syntax)
        assert send(Hostile("small", small_content, *what), node.destination) == 0x0000
        (path,) = [node.data / row[0] for row in node.rows("select path from instances")]
    studies, _ = find_studies([path])
    assert set(studies) == {small.StudyInstanceUID}
    file = tmp_path / "bomb.dcm"
    whole = path.read_bytes()
    end_of_meta = 132 + 12 + int(dcmread(path).file_meta.FileMetaInformationGroupLength)
    file.write_bytes(whole[:end_of_meta] + content)
    studies, refused = find_studies([file])
    assert studies == {}
    assert "ValueError" in refused[0][1]


def test_a_few_bytes_are_no_large_image(tmp_path: Path) -> None:
    """20,000 rows and columns out of a file of some kilobytes."""
    (path,) = write_study(make_scan(), tmp_path, Style("multiframe", "j2k-lossless"))

    def grow(dataset: Dataset) -> None:
        dataset.Rows = dataset.Columns = 20_000
        dataset.NumberOfFrames = 2

    edit(path, grow)
    instances, study_uid = store([path])
    with pytest.raises(TooLarge, match="bytes is no image"):
        assemble_study(study_uid, 1, instances, ())


@pytest.mark.parametrize("form", ["multiframe", "frames"])
def test_the_limit_of_the_settings_holds_for_the_study(form: str, tmp_path: Path) -> None:
    scan = make_scan()
    paths = write_study(scan, tmp_path, Style(form))
    instances, study_uid = store(paths)
    needed = scan.voxels.nbytes
    assert assemble_study(study_uid, 1, instances, (), needed).acquisitions
    with pytest.raises(TooLarge):
        assemble_study(study_uid, 1, instances, (), needed - 1)


def test_what_does_not_fit_beside_the_first_sweep_is_unused(tmp_path: Path) -> None:
    scan = make_scan()
    first = write_study(scan, tmp_path / "first", Style("frames"))
    second = write_study(scan, tmp_path / "second", Style("frames", seed=1))
    header = dcmread(first[0])
    study_uid = header.StudyInstanceUID
    keywords = ("StudyInstanceUID", "PatientID", "PatientName")
    of_one_patient = {header[key].tag: header[key] for key in keywords}
    for path in second:
        edit(path, lambda dataset: dataset.update(of_one_patient))
    instances, _ = store([*first, *second])
    study = assemble_study(study_uid, 1, instances, (), int(1.5 * scan.voxels.nbytes))
    assert len(study.acquisitions) == 1
    assert len(study.unused) == len(second)
    assert "too large" in study.unused[0].reason


def test_a_study_of_absurd_claims_is_no_other_error(tmp_path: Path) -> None:
    (path,) = make_study(tmp_path, slices=1)
    for rows, columns, frames in ((65535, 65535, 1), (1, 65535, 65535), (65535, 1, 2**31 - 1)):

        def claim(
            dataset: Dataset, claimed: tuple[int, int, int] = (rows, columns, frames)
        ) -> None:
            dataset.Rows, dataset.Columns, dataset.NumberOfFrames = claimed

        edit(path, claim)
        instances, study_uid = store([path])
        with pytest.raises(StudyError):
            assemble_study(study_uid, 1, instances, ())


def test_the_default_fits_into_a_small_machine() -> None:
    assert LARGEST_MIB << 20 == 32 * 128 * 512 * 512 * 4
