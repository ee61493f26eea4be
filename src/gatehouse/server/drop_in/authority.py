"""The certificate authority of one data folder: good for a few host names, and nothing else.

Its key stays in a private file of the data folder. What clients need lies beside it: `ca.pem`, and
`roots.pem`, which holds the usual public roots too, since a program can have one file of roots.
"""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_network
from pathlib import Path
from typing import Self

import certifi
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gatehouse.storage.created_once import created_once

_AUTHORITY_LIFE = timedelta(days=3650)
_LEAF_LIFE = timedelta(days=7)
# Clocks of machines in one house differ.
_EARLIER = timedelta(hours=1)
_NO_ADDRESSES = [x509.IPAddress(ip_network("0.0.0.0/0")), x509.IPAddress(ip_network("::/0"))]


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a server shows: its certificate with the authority's behind it, and its key, as PEM."""

    chain: bytes
    key: bytes


class CertificateAuthority:
    """Made at first start; every process of the data folder finds the same one."""

    def __init__(
        self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, folder: Path
    ) -> None:
        self._key = key
        self._certificate = certificate
        self._folder = folder

    @classmethod
    def open(cls, data_dir: Path, names: tuple[str, ...]) -> Self:
        """The authority for exactly these host names. Other names have another one."""
        folder = data_dir / "drop_in"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        of_names = sha256("\n".join(sorted(names)).encode()).hexdigest()[:12]
        path = folder / f"authority-{of_names}.pem"
        made = path.read_text() if path.exists() else created_once(path, _new_authority(names))
        key = load_pem_private_key(made.encode(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        authority = cls(key, x509.load_pem_x509_certificate(made.encode()), folder)
        authority.write_public(folder)
        return authority

    @property
    def certificate_path(self) -> Path:
        """The authority's certificate alone."""
        return self._folder / "ca.pem"

    @property
    def roots_path(self) -> Path:
        """The same, behind the public roots of this machine."""
        return self._folder / "roots.pem"

    def write_public(self, folder: Path) -> None:
        """Write what clients need into a folder, unless it is there already."""
        certificate = self._certificate.public_bytes(Encoding.PEM)
        _write(folder / "ca.pem", certificate)
        _write(folder / "roots.pem", _public_roots() + certificate)

    def issue(self, names: tuple[str, ...], now: datetime | None = None) -> Leaf:
        """A certificate for a week, with a key of its own."""
        now = now or datetime.now(UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _EARLIER)
            .not_valid_after(now + _LEAF_LIFE)
            .add_extension(x509.SubjectAlternativeName(map(x509.DNSName, names)), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer.value), False
            )
            .sign(self._key, SHA256())
        )
        chain = certificate.public_bytes(Encoding.PEM) + self._certificate.public_bytes(
            Encoding.PEM
        )
        return Leaf(chain, _private_pem(key))


def _new_authority(names: tuple[str, ...]) -> str:
    """The key and the certificate, one behind the other."""
    now = datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Gatehouse drop-in authority")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + _AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        # Whoever trusts it trusts it for these names, whatever it may be made to sign.
        .add_extension(
            x509.NameConstraints([x509.DNSName(name) for name in names], _NO_ADDRESSES),
            critical=True,
        )
        .sign(key, SHA256())
    )
    return (_private_pem(key) + certificate.public_bytes(Encoding.PEM)).decode()


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _public_roots() -> bytes:
    """Mozilla's roots, and those that an administrator added to this machine's."""
    roots = certifi.contents().encode()
    system = ssl.get_default_verify_paths().cafile
    if system is not None and Path(system).is_file():
        roots += Path(system).read_bytes()
    return roots if roots.endswith(b"\n") else roots + b"\n"


def _write(path: Path, content: bytes) -> None:
    if path.is_file() and path.read_bytes() == content:
        return
    temporary = path.with_suffix(".new")
    temporary.write_bytes(content)
    temporary.replace(path)
