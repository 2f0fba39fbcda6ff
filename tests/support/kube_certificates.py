"""The authority of one control plane of tests: who the API server proves to be, and who its callers are."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = timedelta(days=2)


class Authority:
    """A certificate authority in a folder: `ca.crt` and `ca.key`, made by the first who asks."""

    def __init__(self, folder: Path) -> None:
        self.certificate_path, self._key_path = folder / "ca.crt", folder / "ca.key"
        if not self.certificate_path.exists():
            key = write_key(self._key_path)
            name = _name("reconciler tests")
            made = _builder(name, name, key).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            made = made.add_extension(_usage(signs=True), critical=True)
            made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            self.certificate_path.write_bytes(_pem(made.sign(key, hashes.SHA256())))
        self.pem = self.certificate_path.read_bytes()
        self._certificate = x509.load_pem_x509_certificate(self.pem)
        loaded = serialization.load_pem_private_key(self._key_path.read_bytes(), password=None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        self._key = loaded

    def serve(self, certificate: Path, key_path: Path) -> None:
        """A serving certificate for loopback."""
        names = [x509.DNSName("localhost"), x509.DNSName("kubernetes.default.svc")]
        addresses = [x509.IPAddress(ipaddress.ip_address(a)) for a in ("127.0.0.1", "10.0.0.1")]
        alternative = x509.SubjectAlternativeName([*names, *addresses])
        key = write_key(key_path)
        issued = self._issue(_name("kube-apiserver"), key, ExtendedKeyUsageOID.SERVER_AUTH, alternative)
        certificate.write_bytes(issued)

    def identify(self, user: str, groups: Sequence[str] = ()) -> tuple[bytes, bytes]:
        """Certificate and key, as PEM, of a caller whom the API server knows by these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._issue(_name(user, *groups), key, ExtendedKeyUsageOID.CLIENT_AUTH), private_pem(key)

    def _issue(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        use: x509.ObjectIdentifier,
        alternative: x509.SubjectAlternativeName | None = None,
    ) -> bytes:
        made = _builder(subject, self._certificate.subject, key)
        made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        made = made.add_extension(_usage(signs=False), critical=True)
        made = made.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        made = made.add_extension(authority, critical=False)
        if alternative:
            made = made.add_extension(alternative, critical=False)
        return _pem(made.sign(self._key, hashes.SHA256()))


def write_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    path.touch(mode=0o600)
    path.write_bytes(private_pem(key))
    return key


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """In the older form: Kubernetes reads the public half of no other one."""
    encoding, layout = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(encoding, layout, serialization.NoEncryption())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _name(common: str, *organisations: str) -> x509.Name:
    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in organisations]
    return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number())
    return made.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + LIFETIME)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
