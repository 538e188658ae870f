"""How much any sender may take of the receiver: [receive.limits]."""

from dataclasses import dataclass

from dicom_node.settings.allowed import between, key

FLOOR_SHARE, FLOOR_BYTES = 8, 1 << 20
"""Of what must stay free, the part that the stages may not use; in any case 1 MiB."""


@dataclass(frozen=True, slots=True)
class Limits:
    """[receive.limits]: associations, deadlines, sizes, and the disk space that stays free."""

    associations: int = key(
        64, "at once; idle ones count, and each costs two threads", between(1, 1000)
    )
    associations_per_address: int = key(
        32, "half of all: one machine cannot lock out the others", between(1, 1000)
    )
    request_seconds: float = key(
        5.0,
        "from the connection to its association or web request; idle sockets go soon",
        between(1, 600),
    )
    pdu_seconds: float = key(
        5.0, "for one PDU to come whole; 128 kB in 5 s still allows 26 kB/s", between(1, 600)
    )
    send_seconds: float = key(
        30.0, "a peer that does not take our answer for so long is gone", between(1, 600)
    )
    idle_seconds: float = key(
        60.0, "silence on an association; a scanner may pause between images", between(1, 86400)
    )
    dimse_seconds: float = key(30.0, "for the answer to a message of ours", between(1, 600))
    instance_mib: int = key(
        4096,
        "4 GiB: more than pixels that are not compressed can be (PS3.5 7.1)",
        between(1, 1 << 20),
    )
    request_mib: int = key(
        16384, "of one STOW-RS request; a study may come in several", between(1, 1 << 30)
    )
    free_mib: int = key(
        2048,
        "below it nothing is taken in: results and the database need room too",
        between(0, 1 << 30),
    )
    free_percent: float = key(
        0.0, "the same as a share of the disk; the larger of both counts", between(0, 90)
    )

    @property
    def instance_bytes(self) -> int:
        """What one instance may have."""
        return self.instance_mib << 20

    def needed_bytes(self, disk_bytes: int) -> float:
        """What must stay free on a disk of this size."""
        return max(self.free_mib * 2**20, disk_bytes * self.free_percent / 100)

    def floor_bytes(self, disk_bytes: int) -> float:
        """Below this the stages wait too: what is taken in may still be worked off, and the last is kept
        for the database and the logs."""
        return max(self.needed_bytes(disk_bytes) / FLOOR_SHARE, FLOOR_BYTES)
