"""Who made an object: Contributing Equipment as far as IHE AIR is known, and UIDs that are derived."""

from collections.abc import Sequence

import highdicom as hd
from pydicom import Dataset
from pydicom.sr.codedict import codes

from dicom_node.report.identity import Identity

MANUFACTURER = "dicom-node"


def algorithm_equipment(
    model: str, software: Sequence[str], identity: Identity
) -> hd.ContributingEquipment:
    """The item of the algorithm, whose Device UID changes with the weights (IHE AIR, PS3.3 C.12.1.1.5)."""
    item = hd.ContributingEquipment(
        MANUFACTURER,
        # CID 7005 has no code for an algorithm; this is the nearest.
        codes.DCM.ProcessingEquipment,
        manufacturer_model_name=model[:64],
        software_versions=list(software),
        contribution_description="Research use only. Not a medical device.",
    )
    item.DeviceUID = identity.device_uid
    return item


def derive_dimensions(dataset: Dataset, identity: Identity) -> None:
    """Replace the random UID of the dimensions by a derived one, so that two runs give the same bytes."""
    organization = identity.uid(dataset.SOPInstanceUID, "dimension organization")
    for keyword in ("DimensionOrganizationSequence", "DimensionIndexSequence"):
        for item in dataset.get(keyword, []):
            item.DimensionOrganizationUID = organization
