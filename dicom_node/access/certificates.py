"""How long a certificate still holds."""

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from dicom_node.errors import SettingsError

SOON_DAYS = 30
"""From then on a certificate is reported: hospitals take weeks to issue one."""


def days_left(path: str, now: datetime | None = None) -> int:
    """Whole days until the first certificate of a PEM file ends, or since (< 0). Raises SettingsError."""
    try:
        certificate = x509.load_pem_x509_certificate(Path(path).read_bytes())
    except OSError as error:
        raise SettingsError(f"certificate {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"certificate {path} is no PEM file with a certificate") from error
    return (certificate.not_valid_after_utc - (now or datetime.now(UTC))).days
