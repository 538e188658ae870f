"""Whatever stands in the headers and pixels of a study, it ends in a Study or in a StudyError, and soon."""

import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, config, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from dicom_node.assemble import assemble_study
from dicom_node.assemble.identity import own_results, shared_header
from dicom_node.errors import StudyError
from dicom_node.headers import MALFORMED
from dicom_node.report import write_answer
from dicom_node.scanner import Style, write_study
from dicom_node.study import Ground, StoredInstance, Unanalyzed
from tests.assemble_studies import make_scan, store

LONGEST_SECONDS = 2.0
STYLES = [
    Style("enhanced", "implicit"),
    Style("multiframe", "explicit", "YBR_FULL_422"),
    Style("multiframe", "jpeg-ls", "RGB"),
    Style("frames", "rle", "PALETTE COLOR"),
]
READ = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "BitsStored"),
    *("HighBit", "PixelRepresentation", "PlanarConfiguration", "PhotometricInterpretation"),
    *("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber"),
    *("SeriesNumber", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality", "Manufacturer"),
    *("SequenceOfUltrasoundRegions", "SharedFunctionalGroupsSequence", "PatientID", "StudyDate"),
    *("PerFrameFunctionalGroupsSequence", "RedPaletteColorLookupTableDescriptor", "PatientName"),
    *("RedPaletteColorLookupTableData", "RealWorldValueMappingSequence", "SpecificCharacterSet"),
    *("AnatomicRegionSequence", "ContributingEquipmentSequence", "LossyImageCompression"),
)
"""What assemble or the answer looks at."""

PLACES = ("top", "SequenceOfUltrasoundRegions", "SharedFunctionalGroupsSequence")
TEXTS = [b"", b" ", b"0", b"-1", b"1", b"3", b"65536", b"1e400", b"nan", b"1\\2", b"\\", b"\0\xff"]
WORDS = [b"99999999999999999999", b"1.5\\0", b"US", b"CT", b"ISO_IR 999", b"RGB ", b"MONOCHROME1 "]
NUMBERS = [struct.pack("<H", number) for number in (0, 1, 2, 7, 8, 16, 64, 65535)]
FLOATS = [struct.pack("<d", number) for number in (0.0, -1.0, 1e-300, float("inf"), float("nan"))]

values = st.one_of(st.sampled_from([*TEXTS, *WORDS, *NUMBERS, *FLOATS]), st.binary(max_size=24))
changes = st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(READ), values), max_size=4)
damage = st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=3)), max_size=3)


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[list[StoredInstance], str]]:
    """One small study of each style, whole."""
    made = []
    for number, style in enumerate(STYLES):
        folder = tmp_path_factory.mktemp(f"style-{number}")
        scan = make_scan(shear_wave=style.form == "enhanced", shape=(2, 12, 10))
        made.append(store(write_study(scan, folder, style)))
    return made


def put(dataset: Dataset, place: str, keyword: str, value: bytes) -> None:
    """Write bytes under a keyword as they are, at the top or into the first item of a sequence."""
    where = dataset if place == "top" else (dataset.get(place) or [dataset])[0]
    value += b"\0" * (len(value) % 2)
    tag, vr = Tag(keyword), dictionary_VR(keyword).split(" ")[0]
    implicit = not hasattr(where, "original_encoding") or bool(where.original_encoding[0])
    where[tag] = RawDataElement(tag, vr, len(value), value, 0, implicit, True)


def spoil(content: bytes, spots: list[tuple[float, bytes]]) -> bytes:
    """Overwrite a few bytes behind the file meta."""
    spoiled = bytearray(content)
    for share, piece in spots:
        at = 400 + int(share * (len(spoiled) - 400 - len(piece)))
        spoiled[at : at + len(piece)] = piece
    return bytes(spoiled)


@pytest.mark.filterwarnings("ignore::UserWarning")  # the test's own writing of bad values
@pytest.mark.parametrize("number", range(len(STYLES)), ids=lambda number: STYLES[number].form)
@settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(changed=changes, spots=damage)
def test_any_header_and_any_pixels_end_in_a_study_or_a_study_error(
    studies: list[tuple[list[StoredInstance], str]],
    tmp_path: Path,
    number: int,
    changed: list[tuple[str, str, bytes]],
    spots: list[tuple[float, bytes]],
) -> None:
    instances, study_uid = studies[number]
    first = instances[0]
    dataset = dcmread(first.path)
    path = tmp_path / "changed.dcm"
    with config.disable_value_validation():
        try:
            for place, keyword, value in changed:
                put(dataset, place, keyword, value)
            dataset.save_as(path)
        except MALFORMED:
            return  # a value that even this test cannot write
    path.write_bytes(spoil(path.read_bytes(), spots))
    damaged = StoredInstance(first.sop_instance_uid, first.sop_class_uid, path)
    ends_in_time(lambda: one_end(study_uid, [damaged, *instances[1:]], tmp_path))


def ends_in_time(run: Callable[[], None]) -> None:
    started = time.process_time()
    run()
    assert time.process_time() - started < LONGEST_SECONDS


def one_end(study_uid: str, instances: list[StoredInstance], folder: Path) -> None:
    """A Study, or a StudyError and the answer that it makes."""
    assert own_results(instances) == set()
    try:
        made = assemble_study(study_uid, 0, instances, ())
    except StudyError as error:
        ground = Ground(error.code.value, error.reason)
        header = shared_header(study_uid, instances)
        (written,) = write_answer(Unanalyzed(study_uid, (ground,), header), folder)
    else:
        assert made.acquisitions
        return
    assert dcmread(written.path).StudyInstanceUID == study_uid
