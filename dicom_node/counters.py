"""What is counted as it happens, in the process where it happens; the web role shows the sums.

Each role writes a small mapped file of its own (the multiprocess mode of prometheus_client, its folder
named by PROMETHEUS_MULTIPROC_DIR before this module is imported), so that a killed process loses no count
and no count costs a write to the database. A role that is started again goes on in its file: one per process
would stay for ever, as their sum is what is told. What is so, rather than what has happened (queues, waiting
deliveries), is asked of the database instead: ``dicom_node.web.gauges``.
"""

import multiprocessing
import os

from prometheus_client import Counter, Histogram, values

FOLDER_VARIABLE, ROLE_VARIABLE = "PROMETHEUS_MULTIPROC_DIR", "DICOM_NODE_ROLE"


def _identifier() -> str | int:
    """Which file is this process's: one at a time runs a role, and what a role starts has its own."""
    is_child = multiprocessing.parent_process() is not None
    return os.getpid() if is_child else os.environ.get(ROLE_VARIABLE) or os.getpid()


if os.environ.get(FOLDER_VARIABLE):
    values.ValueClass = values.MultiProcessValue(_identifier)  # before the first counter is made

SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
"""From one stored instance to a large sweep on a slow processor."""

ASSOCIATIONS = Counter(
    "dicom_node_associations", "Associations that scanners asked for", ["outcome", "reason"]
)
INSTANCES = Counter(
    "dicom_node_instances", "Instances that were sent to us, by answer", ["outcome", "status"]
)
RECEIVED_BYTES = Counter("dicom_node_received_bytes", "Bytes of the instances that were taken")
STAGE_SECONDS = Histogram(
    "dicom_node_stage_seconds", "What a stage took", ["stage", "outcome"], buckets=SECONDS
)
FAILURES = Counter("dicom_node_failures", "Stages that failed, by error", ["stage", "reason"])
REFUSALS = Counter("dicom_node_refusals", "Studies that were not analyzed, by reason", ["reason"])
SENT = Counter(
    "dicom_node_sent_objects", "Objects by a destination's answer", ["destination", "status"]
)
AUDIT = Counter("dicom_node_audit_messages", "Audit messages", ["outcome"])
