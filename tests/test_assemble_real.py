"""Every real ultrasound file ends as a Scan, or refused for the reason that is written here."""

import os
import resource
import time
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node import errors
from dicom_node.assemble import assemble_study
from dicom_node.study import StoredInstance

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),  # the test's own reading of odd headers
    pytest.mark.skipif(
        "DICOM_NODE_TEST_DATA" not in os.environ,
        reason="DICOM_NODE_TEST_DATA names no folder of real files",
    ),
]
FOLDER = Path(os.environ.get("DICOM_NODE_TEST_DATA", "")) / "us_dicom"
# Start of the file's name -> error and words of its reason, or the shape of the Scan and its color.
REFUSED = {
    "dicom-server__JPEG": ("NotUltrasound", "no ultrasound"),
    "dicom-server__RLE": ("NotUltrasound", "no ultrasound"),
    "dicom-server__Microsoft": ("NotUltrasound", "Secondary Capture"),
    "dicom-server__Microsoft.Health.Dicom.Tests.Common_TranscodingSamples_Deflated": (
        "UnsupportedPixels",
        "Deflated",
    ),
    "dtf__US1_RLE": ("Incomplete", "one frame"),
    "pydicom-data__HTJ2K": ("StudyError", "another study"),
    "pydicom-data__JPGLossless": ("Incomplete", "one frame"),
    "pydicom-data__OBXXXX1A": ("Incomplete", "one frame"),
    "pydicom-data__US1": ("Incomplete", "one frame"),
    "pydicom-data__color": ("Incomplete", "one frame"),
}
SCANS = {
    "SlicerUltrasound__0561119268": ((10, 256, 256), "gray"),
    "dicomParser__IM00001": ((8, 240, 320), "overlay"),
    "pydicom-data__OBXXXX1A_2frame": ((2, 600, 800), "overlay"),
    "pydicom-data__OBXXXX1A_expb_2frame": ((2, 600, 800), "overlay"),
    "pydicom-data__OBXXXX1A_rle_2frame": ((2, 600, 800), "overlay"),
}


def files():
    return sorted(FOLDER.glob("*.dcm"))


def assembled(path):
    header = dcmread(path, stop_before_pixels=True)
    stored = StoredInstance(header.SOPInstanceUID, header.SOPClassUID, path)
    study = assemble_study(str(header.get("StudyInstanceUID")), 1, [stored], ())
    return study.acquisitions[0].scan


def known(path):
    """What is written of the file with the longest beginning of its name."""
    table = REFUSED | SCANS
    return table[max((key for key in table if path.name.startswith(key)), key=len)]


def test_there_are_files():
    assert len(files()) >= 38


@pytest.mark.parametrize("path", files(), ids=lambda path: path.stem)
def test_a_real_file_ends_as_it_is_written_here(path):
    what, detail = known(path)
    start = time.process_time()
    if isinstance(what, str):
        with pytest.raises(errors.StudyError, match=detail) as caught:
            assembled(path)
        assert type(caught.value).__name__ == what
    else:
        scan = assembled(path)
        assert scan.shape == what
        assert scan.facts["color"] == detail
        assert scan.valid.any()
        assert scan.geometry.in_plane == "measured"
        assert scan.geometry.frame_step == "assumed"  # none says a distance of frames
        assert scan.channel("b-mode").min() >= 0
        assert scan.channel("b-mode").max() <= 255
    assert time.process_time() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2 * 1024**2  # KiB


def test_real_color_doppler_is_no_tissue():
    """Two of the files are color Doppler of a heart: its fan is no B-mode, the rest of the sector is."""
    path = FOLDER / "dicomParser__IM00001.implicit_little_endian.dcm"
    scan = assembled(path)
    shown = dcmread(path).pixel_array.astype(int)
    assert not scan.valid[np.ptp(shown, axis=-1) > 24].any()
    assert scan.valid[:, 100:200, 20:80].mean() > 0.95
