"""The sentence, made durable: DBOS workflows named assemble, analyze, report and deliver, and their steps.

A step that is cut off runs again, so every step is idempotent: it writes under a temporary name, syncs,
renames.
"""

from dicom_node.pipeline.worker import Worker

__all__ = ["Worker"]
