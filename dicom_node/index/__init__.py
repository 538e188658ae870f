"""The memory: what arrived, what was made, what was acknowledged. Progress is kept by DBOS, not here."""

from dicom_node.index.arrivals import (
    PAST,
    QUEUES,
    VERSION,
    Arrival,
    Carrier,
    Completeness,
    accept,
    close_if_quiet,
    close_now,
    forget_associations,
    instances_of,
    release,
    workflow_id,
)
from dicom_node.index.database import (
    APPLICATION,
    DATABASE_AWAY,
    DATABASE_ERRORS,
    migrate_progress,
    open_client,
    open_engine,
)
from dicom_node.index.results import Result, record_delivery, record_results, results_due
from dicom_node.index.tables import METADATA, deliveries, instances, results, studies

__all__ = [
    "APPLICATION",
    "DATABASE_AWAY",
    "DATABASE_ERRORS",
    "METADATA",
    "PAST",
    "QUEUES",
    "VERSION",
    "Arrival",
    "Carrier",
    "Completeness",
    "Result",
    "accept",
    "close_if_quiet",
    "close_now",
    "deliveries",
    "forget_associations",
    "instances",
    "instances_of",
    "migrate_progress",
    "open_client",
    "open_engine",
    "record_delivery",
    "record_results",
    "release",
    "results",
    "results_due",
    "studies",
    "workflow_id",
]
