"""What a running receiver has counted and audited of those it turned away."""

from collections import Counter

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from tests.conftest import RunningNode


def counted(node: RunningNode, zeros: bool = False) -> Counter[str]:
    """``dicom_node_associations_total{outcome="rejected"}`` by reason, of all processes."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=node.node._counts)
    found: Counter[str] = Counter()
    for family in registry.collect():
        for sample in family.samples:
            is_ours = sample.name == "dicom_node_associations_total"
            if is_ours and sample.labels["outcome"] == "rejected" and (sample.value or zeros):
                found[sample.labels["reason"]] += int(sample.value)
    return found


def audited(node: RunningNode) -> list[str]:
    """Audit messages of peers that were not let in."""
    lines = (node.data / "audit" / "receive.xml").read_text().splitlines()
    return [line for line in lines if "Node Authentication" in line]
