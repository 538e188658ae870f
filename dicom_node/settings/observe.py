"""How the node is watched: [web] for people and Prometheus, [audit] for the audit record repository."""

from dataclasses import dataclass

from dicom_node.settings.allowed import NOT_EMPTY, between, key, one_of


@dataclass(frozen=True, slots=True)
class Web:
    """[web]: status page, metrics and readiness, read-only."""

    host: str = key("127.0.0.1", "loopback only, until the site decides who may look", NOT_EMPTY)
    port: int = key(0, "status page, /metrics, /healthz, /readyz; 0 = off", between(0, 65535))
    insecure: bool = key(
        False, "true lets other machines look without TLS, on a network closed to others"
    )
    client_certificates: bool = key(
        True, "as [tls] says; false lets browsers in that have none, by their login alone"
    )
    lost_seconds: float = key(
        30.0, "a process without a sign of life for so long counts as lost", between(1, 3600)
    )
    pending_minutes: float = key(
        60.0,
        "not ready when work waits longer; the longest study takes minutes",
        between(0.1, 10080),
    )
    stalled_minutes: float = key(
        30.0, "a stage that runs longer counts as stalled", between(0.1, 10080)
    )


@dataclass(frozen=True, slots=True)
class Audit:
    """[audit]: who gets the audit messages besides the files in data_dir (DICOM PS3.15 section A.5)."""

    host: str = key("", "the site's audit record repository (syslog); empty = files only")
    port: int = key(6514, "the registered port of syslog over TLS; UDP: 514", between(1, 65535))
    transport: str = key("tls", "messages name people's doings", one_of("tls", "tcp", "udp"))
    ca_file: str = key("", "who signed the server's certificate; empty = the system's list")
    certificate: str = key("", "our own certificate, where the server asks for one")
    private_key: str = key("", "its key: a file only the node can read")
