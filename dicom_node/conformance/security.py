"""The tables of the security chapter: TLS, who is let in, and what those hear who are not."""

from collections.abc import Iterator

from dicom_node.access import certificates, logins, rules, tls, users, web
from dicom_node.conformance.markdown import table
from dicom_node.receive import door

RESULTS = {rules.PERMANENT: "rejected-permanent", rules.TRANSIENT: "rejected-transient"}
SOURCES = {
    rules.SERVICE_USER: "UL service-user",
    rules.SERVICE_PROVIDER: "UL service-provider (ACSE)",
}


def tables() -> dict[str, object]:
    return {
        "tls": table(("TLS", "value"), _tls()),
        "rejections": table(("who asks for an association", "result", "source", "reason"), _rejections()),
        "web_access": table(("HTTP status", "meaning"), _web()),
        "logins": table(("limit", "value"), _logins()),
    }  # fmt: skip


def _tls() -> Iterator[tuple[str, object]]:
    yield "profiles", "PS3.15 B.12, and B.13 but for the suites it lists that are missing here"
    yield "versions", "1.2, 1.3; never negotiated below"
    yield "suites of TLS 1.2, the preferred first", ", ".join(tls.SUITES)
    yield (
        "keys and signatures",
        f"OpenSSL security level {tls.SECURITY_LEVEL}: RSA of 2048 bits or more, no SHA-1",
    )
    yield "compression, renegotiation", "none"
    yield "handshake on the DICOM port within", f"{door.HANDSHAKE_SECONDS:g} s"
    yield (
        "certificate of the peer, as acceptor",
        "required and verified, unless `client_certificates` is false",
    )
    yield "certificate of the peer, as initiator", "required and verified, with its name"
    yield (
        "revocation of the peer's certificate",
        "by the lists (CRL) of `crl`, not looked at without; a list out of date refuses all; no OCSP",
    )
    yield "resumption of sessions, as acceptor", "none: each handshake verifies anew"
    yield "new certificates, keys and lists are taken", "at the next handshake"
    yield "certificates are reported before they end by", f"{certificates.SOON_DAYS} days"  # fmt: skip


def _rejections() -> Iterator[tuple[str, str, str, str]]:
    caller, user = rules.unknown_caller(""), rules.unproven_user("")
    words = {
        "of an AE title, address or certificate that `access.callers` does not let in": caller,
        "without user name and passcode, or with wrong ones, where `access.user_identity` is true": user,
    }
    for who, refusal in words.items():
        reason = "calling-AE-title-not-recognized" if refusal is caller else "no-reason-given"
        yield (
            who,
            f"{refusal.result} {RESULTS[refusal.result]}",
            f"{refusal.source} {SOURCES[refusal.source]}",
            f"{refusal.diagnostic} {reason}",
        )


def _web() -> Iterator[tuple[int, str]]:
    yield web.UNAUTHORIZED, "No user and passcode (HTTP Basic), or wrong ones."
    yield web.FORBIDDEN, "The address is in none of `access.networks`."
    yield web.TOO_MANY_REQUESTS, "Too many wrong passcodes from this address; try again later."


def _logins() -> Iterator[tuple[str, object]]:
    within = f"{logins.FAILURES} within {logins.WINDOW_SECONDS:g} s"
    yield "wrong passcodes from one address, before none of it is looked at", within
    yield "passcode", f"{users.SHORTEST_PASSCODE} to {users.LONGEST_PASSCODE} bytes of UTF-8"
    yield "kept as", f"scrypt, N = {users.COST}, r = {users.BLOCK}, p = {users.PARALLEL}, own salt"
