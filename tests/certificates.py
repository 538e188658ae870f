"""Authorities and certificates of a test's own, made where it runs and never kept."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

ADDRESS = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])


@dataclass(frozen=True)
class Pem:
    """A certificate with its key, as files."""

    certificate: Path
    private_key: Path

    @property
    def toml(self) -> str:
        return f'certificate = "{self.certificate}"\nprivate_key = "{self.private_key}"'

    @property
    def dcmtk(self) -> list[str]:
        return ["+tls", str(self.private_key), str(self.certificate)]

    def with_key_of(self, other: "Pem") -> "Pem":
        return replace(self, private_key=other.private_key)


class Authority:
    """Signs certificates in a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = rsa.generate_private_key(65537, 2048)
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = self._sign(self._name, self._key, timedelta(days=400), authority=True)
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, days: float = 90, password: str = "") -> Pem:
        """A certificate for 127.0.0.1 that ends in so many days, and its key."""
        key = rsa.generate_private_key(65537, 2048)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = self._sign(subject, key, timedelta(days=days))
        pem = Pem(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        pem.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        kept: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password:
            kept = serialization.BestAvailableEncryption(password.encode())
        form = serialization.PrivateFormat.PKCS8
        pem.private_key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, kept))
        pem.private_key.chmod(0o600)
        return pem

    def revoke(self, *revoked: Pem, days: float = 1) -> Path:
        """A list of revoked certificates, good for so many days, in the place of the former."""
        end = datetime.now(UTC) + timedelta(days=days)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(end - timedelta(days=9))
            .next_update(end)
        )
        for pem in revoked:
            made = x509.load_pem_x509_certificate(pem.certificate.read_bytes())
            entry = x509.RevokedCertificateBuilder().serial_number(made.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(end).build())
        made_list = builder.sign(self._key, hashes.SHA256())
        path = self._folder / "revoked.pem"
        scratch = path.with_suffix(".new")
        scratch.write_bytes(made_list.public_bytes(serialization.Encoding.PEM))
        return scratch.replace(path)

    def _sign(
        self, subject: x509.Name, key: rsa.RSAPrivateKey, life: timedelta, authority: bool = False
    ) -> x509.Certificate:
        end = datetime.now(UTC) + life
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - timedelta(days=500))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .add_extension(ADDRESS, critical=False)
        )
        return builder.sign(self._key, hashes.SHA256())
