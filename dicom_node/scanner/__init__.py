"""The stand-in scanner: a Scan becomes an ultrasound study on disk, as a scanner would have stored it.

B-mode is written with the stored gray levels 0-255, in the color model asked for. A shear-wave channel
becomes a second series of the same study on the same grid: MONOCHROME2, 16-bit with Image Data Type
ELASTICITY in the enhanced forms, 8-bit in the classic ones, and in all a Real World Value Mapping to m/s,
cm/s or kPa (for the classic forms it stands in the General Image module, PS3.3 C.7.6.1). A stored 0 lies
outside the mapping and means "no value". No color and no lossy encoding is laid over measured values.

Two styles are written as scanners do write them though the standard forbids it: RGB that JPEG Baseline leaves
RGB, and uncompressed YBR_FULL_422.
"""

from pathlib import Path

from dicom_node.scanner.forms import datasets
from dicom_node.scanner.pixels import store
from dicom_node.scanner.style import Style
from dicom_node.scanner.volume import volumes
from models.scan import Scan

__all__ = ["Style", "write_study"]


def write_study(scan: Scan, folder: Path, style: Style) -> tuple[Path, ...]:
    """Write one study into a folder, which is made if it is not there, and give the files in scan order.

    Needs a ``b-mode`` channel of gray levels 0-255; ``shear-wave-speed`` (m/s) with ``shear-wave-valid`` is
    optional. UIDs follow from the style alone, dates are fixed: the same call writes the same bytes. Raises
    ValueError when the scan cannot be stored in this style.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for volume in volumes(scan, style):
        for number, (dataset, frames) in enumerate(datasets(volume, style), start=1):
            path = folder / f"{volume.name}-{number:04d}.dcm"
            store(dataset, volume, frames, path)
            paths.append(path)
    return tuple(paths)
