"""Who sends: [receive], [[peers]]."""

from dataclasses import dataclass, field

from dicom_node.settings.access import Link
from dicom_node.settings.allowed import AE_TITLE, NOT_EMPTY, UIDS, between, key
from dicom_node.settings.limits import Limits


@dataclass(frozen=True, slots=True)
class Receive:
    """[receive]: the Storage SCP, and STOW-RS."""

    host: str = key("127.0.0.1", "loopback only, until the site decides who may send", NOT_EMPTY)
    insecure: bool = key(
        False, "true: other machines may connect without TLS; for a network that is itself closed"
    )
    port: int = key(11112, "the registered port of DICOM; 0 = any free one", between(0, 65535))
    processes: int = key(
        1,
        "each of 95 MB; with a second one several scanners are served about 1.6 times as fast",
        between(1, 32),
    )
    quiet_seconds: float = key(
        10.0,
        "the last resort: nothing carries a study and nothing came for so long",
        between(0, 3600),
    )
    release_seconds: float = key(
        3.0,
        "a scanner that opens one association per image opens the next sooner after a release",
        between(0, 3600),
    )
    private_sop_classes: tuple[str, ...] = key(
        (), "a manufacturer's own objects: kept, though nothing here reads them", UIDS
    )
    web_port: int = key(0, "STOW-RS (DICOMweb) on the same host; 0 = off", between(0, 65535))
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Peer(Link):
    """[[peers]]: a scanner to which answers are brought, where it does not wait for them."""

    ae_title: str = key("", "its AE title, as it calls us", AE_TITLE)
    host: str = key("", "its address", NOT_EMPTY)
    port: int = key(104, "where it listens", between(1, 65535))
