"""A certificate authority of a test's own, and what it vouches for: servers on loopback."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Authority:
    """PEM files: the authority's certificate, and a server's certificate with its key."""

    certificate: Path
    server_certificate: Path
    server_key: Path


def an_authority(folder: Path) -> Authority:
    """A new authority that vouches for 127.0.0.1 and localhost."""
    folder.mkdir(parents=True, exist_ok=True)
    key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name, server_name = (_name(text) for text in ("a test's authority", "localhost"))
    root = _sign(_certificate(name, name, key.public_key(), authority=True), key)
    server = _sign(_certificate(server_name, name, server_key.public_key(), authority=False), key)
    made = Authority(folder / "authority.pem", folder / "server.pem", folder / "server.key")
    made.certificate.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    made.server_certificate.write_bytes(server.public_bytes(serialization.Encoding.PEM))
    made.server_key.touch(mode=0o600)
    made.server_key.write_bytes(
        server_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return made


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, authority: bool
) -> x509.CertificateBuilder:
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(_usage(authority=authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    """What RFC 5280 wants said of a key; from Python 3.13 on certificates are held to it."""
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _sign(certificate: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    return certificate.add_extension(issuer, critical=False).sign(key, hashes.SHA256())
