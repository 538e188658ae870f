"""Results on their way to a destination, for the audit trail: begun, and how far it came."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydicom import dcmread

from dicom_node import audit
from dicom_node.errors import DeliveryError
from dicom_node.settings import Destination


@contextmanager
def handover(
    due: Sequence[sa.Row[Any]],
    paths: Sequence[Path],
    ae_title: str,
    destination: Destination,
    acknowledged: Set[str],
) -> Iterator[None]:
    """Record the beginning, and at the end what was acknowledged meanwhile and what was not.

    PS3.15 section A.5: what succeeded and what failed are messages of their own.
    """
    study_uid = due[0].study_uid
    patient_id = str(dcmread(paths[0], specific_tags=["PatientID"]).get("PatientID") or "").strip()
    peer = audit.Peer(destination.ae_title, destination.host)
    everything = Counter(row.sop_class for row in due)
    audit.begin_transferring(audit.Transfer(study_uid, patient_id, everything), ae_title, peer)
    try:
        yield
    finally:
        error = sys.exc_info()[1]
        reason = error.reason if isinstance(error, DeliveryError) else type(error).__name__
        taken = Counter(row.sop_class for row in due if row.sop_uid in acknowledged)
        if taken:
            transfer = audit.Transfer(study_uid, patient_id, taken)
            audit.transferred(transfer, ae_title, peer, is_received=False)
        if left := everything - taken:
            transfer = audit.Transfer(study_uid, patient_id, left, reason)
            audit.transferred(transfer, ae_title, peer, is_received=False)
