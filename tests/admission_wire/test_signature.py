from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import examples, signing, ssh_keygen

from reconciler import errors, model
from reconciler.admission import signature

MESSAGE, NAMESPACE = b"what was signed\n", "n@example"
KEY = signing.Key("alice")
ALLOWED = {"ed25519": None, "ecdsa256": None, "ecdsa384": None, "rsa3072": None}
string = signature.ssh_string


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("keys")
    kinds = [
        ("ed25519", None),
        ("ecdsa", 256),
        ("ecdsa", 384),
        ("ecdsa", 521),
        ("rsa", 3072),
        ("rsa", 2048),
        ("dsa", 1024),
    ]
    made = [ssh_keygen.make_key(folder, kind, bits) for kind, bits in kinds]
    return {path.name: path for path in made}


def wrap(
    public: bytes, own: bytes, *, namespace: str = NAMESPACE, reserved: bytes = b"", digest: bytes = b"sha512"
) -> bytes:
    parts = (public, namespace.encode(), reserved, digest, own)
    return b"SSHSIG" + (1).to_bytes(4, "big") + b"".join(map(string, parts))


def mpint(number: int) -> bytes:
    return string(number.to_bytes(number.bit_length() // 8 + 1, "big"))


def code(found: signature.Verified | model.Reason) -> str:
    return found.code if isinstance(found, model.Reason) else "good"


def check(blob: bytes, message: bytes = MESSAGE) -> str:
    return code(signature.verify_blob(message, blob, namespace=NAMESPACE))


@pytest.mark.parametrize("digest", ["sha256", "sha512"])
@pytest.mark.parametrize("name", ALLOWED)
def test_what_ssh_keygen_signs_is_good_and_names_the_same_key(keys: dict[str, Path], name: str, digest: str) -> None:
    armored = ssh_keygen.sign(keys[name], MESSAGE, NAMESPACE, "-O", f"hashalg={digest}")
    found = signature.verify(MESSAGE, armored, namespace=NAMESPACE)
    assert isinstance(found, signature.Verified)
    public = keys[name].with_suffix(".pub")
    assert found.key_id == ssh_keygen.fingerprint(public) == signature.key_id(public.read_text())
    assert found.user_present is None
    assert found.user_verified is None
    assert code(signature.verify(MESSAGE + b"x", armored, namespace=NAMESPACE)) == "sig_invalid"
    assert code(signature.verify(MESSAGE, armored, namespace="git")) == "namespace"


@pytest.mark.parametrize("name", ["ecdsa521", "rsa2048", "dsa1024"])
def test_weak_keys_are_refused_though_their_signatures_are_good(keys: dict[str, Path], name: str) -> None:
    armored = ssh_keygen.sign(keys[name], MESSAGE, NAMESPACE)
    assert code(signature.verify(MESSAGE, armored, namespace=NAMESPACE)) == "weak_alg"
    with pytest.raises(errors.ConfigError) as raised:
        signature.key_id(keys[name].with_suffix(".pub").read_text())
    assert raised.value.code == "weak_alg"


def test_certificates_are_refused(keys: dict[str, Path]) -> None:
    public = keys["ed25519"].with_suffix(".pub")
    ssh_keygen.run("-q", "-s", str(keys["ecdsa256"]), "-I", "x", "-n", "x", str(public))
    with pytest.raises(errors.ConfigError) as raised:
        signature.key_id(public.with_name("ed25519-cert.pub").read_text())
    assert raised.value.code == "weak_alg"


def test_keys_of_the_tests_sign_byte_for_byte_like_ssh_keygen(tmp_path: Path) -> None:
    path = KEY.write(tmp_path / "key")
    assert KEY.armored(MESSAGE, NAMESPACE) == ssh_keygen.sign(path, MESSAGE, NAMESPACE)
    assert KEY.key_id == ssh_keygen.fingerprint(path.with_suffix(".pub")) == signature.key_id(KEY.public_line)


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 3072)


def rsa_blob(key: rsa.RSAPrivateKey, algorithm: bytes, digest: hashes.HashAlgorithm) -> bytes:
    numbers = key.public_key().public_numbers()
    public = string(b"ssh-rsa") + mpint(numbers.e) + mpint(numbers.n)
    raw = key.sign(signature.signed_bytes(MESSAGE, NAMESPACE), padding.PKCS1v15(), digest)
    return wrap(public, string(algorithm) + string(raw))


def test_rsa_needs_sha_2(rsa_key: rsa.RSAPrivateKey, tmp_path: Path) -> None:
    for algorithm, digest in ((b"rsa-sha2-256", hashes.SHA256()), (b"rsa-sha2-512", hashes.SHA512())):
        blob = rsa_blob(rsa_key, algorithm, digest)
        assert check(blob) == "good"
        assert ssh_keygen.is_good(tmp_path, MESSAGE, blob, NAMESPACE)
    assert check(rsa_blob(rsa_key, b"ssh-rsa", hashes.SHA1())) == "weak_alg"
    assert check(rsa_blob(rsa_key, b"rsa-sha2-512", hashes.SHA256())) == "sig_invalid"
    assert check(rsa_blob(rsa_key, b"ssh-ed25519", hashes.SHA256())) == "weak_alg"


# --- hardware keys: made here, since no hardware is ---

APPLICATION = b"ssh:"


def sk_signed(flags: int) -> tuple[bytes, bytes]:
    """What the token signs, and what stands after the raw signature."""
    tail = bytes([flags]) + (7).to_bytes(4, "big")
    hashed = hashlib.sha256(signature.signed_bytes(MESSAGE, NAMESPACE)).digest()
    return hashlib.sha256(APPLICATION).digest() + tail + hashed, tail


def sk_ed25519(flags: int) -> bytes:
    key = ed25519.Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    kind = string(b"sk-ssh-ed25519@openssh.com")
    signed, tail = sk_signed(flags)
    public = kind + string(key.public_key().public_bytes_raw()) + string(APPLICATION)
    return wrap(public, kind + string(key.sign(signed)) + tail)


def sk_ecdsa(flags: int) -> bytes:
    key = ec.derive_private_key(12345, ec.SECP256R1())
    kind = string(b"sk-ecdsa-sha2-nistp256@openssh.com")
    signed, tail = sk_signed(flags)
    r, s = utils.decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    public = kind + string(b"nistp256") + string(point) + string(APPLICATION)
    return wrap(public, kind + string(mpint(r) + mpint(s)) + tail)


@pytest.mark.parametrize("make", [sk_ed25519, sk_ecdsa])
@pytest.mark.parametrize(("flags", "user"), [(0, (False, False)), (1, (True, False)), (5, (True, True))])
def test_what_a_hardware_key_says_of_its_user_is_reported(
    make: Callable[[int], bytes], flags: int, user: tuple[bool, bool], tmp_path: Path
) -> None:
    blob = make(flags)
    found = signature.verify_blob(MESSAGE, blob, namespace=NAMESPACE)
    assert isinstance(found, signature.Verified)
    assert (found.user_present, found.user_verified) == user
    assert ssh_keygen.is_good(tmp_path, MESSAGE, blob, NAMESPACE)


@pytest.mark.parametrize("make", [sk_ed25519, sk_ecdsa])
def test_flags_and_counter_of_a_hardware_key_are_signed(make: Callable[[int], bytes]) -> None:
    blob = make(1)
    assert check(blob[:-5] + b"\x05" + blob[-4:]) == "sig_invalid"
    assert check(blob[:-1] + b"\x08") == "sig_invalid"


# --- one form ---


def test_flipping_any_bit_never_verifies() -> None:
    blob = KEY.sign(MESSAGE, NAMESPACE)
    assert check(blob) == "good"
    for bit in range(8 * len(blob)):
        flipped = bytearray(blob)
        flipped[bit // 8] ^= 1 << bit % 8
        assert check(bytes(flipped)) != "good", bit
    for bit in range(8 * len(MESSAGE)):
        other = bytearray(MESSAGE)
        other[bit // 8] ^= 1 << bit % 8
        assert check(blob, bytes(other)) == "sig_invalid"


@pytest.mark.parametrize("make", [sk_ed25519, sk_ecdsa])
def test_flipping_any_bit_of_a_hardware_signature_never_verifies(make: Callable[[int], bytes]) -> None:
    blob = make(1)
    for bit in range(8 * len(blob)):
        flipped = bytearray(blob)
        flipped[bit // 8] ^= 1 << bit % 8
        assert check(bytes(flipped)) != "good", bit


def test_what_openssh_would_read_in_two_forms_is_refused(tmp_path: Path) -> None:
    own = string(b"ssh-ed25519") + string(KEY._private.sign(signature.signed_bytes(MESSAGE, NAMESPACE)))
    assert check(wrap(KEY.blob, own)) == "good"
    reserved = wrap(KEY.blob, own, reserved=b"x")
    assert check(reserved) == "sig_invalid"
    assert ssh_keygen.is_good(tmp_path, MESSAGE, reserved, NAMESPACE)
    assert check(wrap(KEY.blob, own) + b"\0") == "sig_invalid"
    assert check(wrap(KEY.blob, own + b"\0")) == "sig_invalid"
    assert check(wrap(KEY.blob + b"\0", own)) == "sig_invalid"
    assert check(wrap(KEY.blob, own, digest=b"sha1")) == "weak_alg"


def test_numbers_have_one_form_and_points_too() -> None:
    key = ec.derive_private_key(999, ec.SECP256R1())
    r, s = utils.decode_dss_signature(key.sign(signature.signed_bytes(MESSAGE, NAMESPACE), ec.ECDSA(hashes.SHA256())))
    kind = string(b"ecdsa-sha2-nistp256")

    def blob(form: PublicFormat, numbers: bytes) -> bytes:
        point = key.public_key().public_bytes(Encoding.X962, form)
        return wrap(kind + string(b"nistp256") + string(point), kind + string(numbers))

    whole = PublicFormat.UncompressedPoint
    longer = string(b"\0\0" + r.to_bytes(32, "big"))
    assert check(blob(whole, mpint(r) + mpint(s))) == "good"
    assert check(blob(whole, longer + mpint(s))) == "sig_invalid"
    assert check(blob(whole, mpint(r) + mpint(0))) == "sig_invalid"
    assert check(blob(whole, mpint(r) + mpint(1 << 8000))) == "sig_invalid"
    assert check(blob(PublicFormat.CompressedPoint, mpint(r) + mpint(s))) == "sig_invalid"


def test_an_armor_has_one_form() -> None:
    good = KEY.armored(MESSAGE, NAMESPACE)
    assert code(signature.verify(MESSAGE, good, namespace=NAMESPACE)) == "good"
    for bad in (
        good + b"\n", good[:-1], b"\n" + good, good.replace(b"\n", b"\r\n"), good.replace(b"=\n-", b"\n-"),
        good.replace(b"U1NI", b"U1\nNI"), good.replace(b"BEGIN SSH", b"BEGIN  SSH"), b"", b"\n", b"\xff" * 10,
    ):  # fmt: skip
        assert code(signature.verify(MESSAGE, bad, namespace=NAMESPACE)) == "sig_invalid", bad
    assert code(signature.verify(MESSAGE, good + good, namespace=NAMESPACE)) == "multi_sig"
    assert code(signature.verify(MESSAGE, good * 500, namespace=NAMESPACE)) == "sig_invalid"


def test_an_openpgp_signature_is_named_and_refused() -> None:
    found = signature.verify(MESSAGE, b"-----BEGIN PGP SIGNATURE-----\n\nx\n", namespace="git")
    assert isinstance(found, model.Reason)
    assert (found.code, "OpenPGP" in found.message) == ("sig_invalid", True)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 !!!!",
        "ssh-ed25519 AAAA",
        "ssh-ed25519 ü",
        KEY.public_line.replace("ssh-", "ssh-rsa-"),
    ],
)
def test_what_is_no_key_is_a_configuration_error(line: str) -> None:
    with pytest.raises(errors.ConfigError) as raised:
        signature.key_id(line)
    assert raised.value.code == "key"
    assert raised.value.fix


# Second forms of the same signature, which OpenSSH reads and we refuse.
STRICTER = ("the reserved field is not empty", "is not in its shortest form")


def _mutate(blob: bytes, at: int, how: str, byte: int) -> bytes:
    at %= len(blob)
    match how:
        case "replace":
            return blob[:at] + bytes([byte]) + blob[at + 1 :]
        case "insert":
            return blob[:at] + bytes([byte]) + blob[at:]
        case "delete":
            return blob[:at] + blob[at + 1 :]
    return blob[:at]


@settings(
    max_examples=examples.at_least(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kind=st.sampled_from(["ed25519", "sk_ed25519", "sk_ecdsa", "ecdsa384"]),
    mutations=st.lists(
        st.tuples(
            st.integers(0, 500),
            st.sampled_from(["replace", "insert", "delete", "cut"]),
            st.sampled_from([0, 1, 5, 255]),
        ),
        max_size=2,
    ),
)
def test_our_verdict_is_that_of_ssh_keygen_save_for_second_forms(
    kind: str, mutations: list[tuple[int, str, int]], keys: dict[str, Path], tmp_path: Path
) -> None:
    match kind:
        case "ed25519":
            blob = KEY.sign(MESSAGE, NAMESPACE)
        case "sk_ed25519":
            blob = sk_ed25519(1)
        case "sk_ecdsa":
            blob = sk_ecdsa(1)
        case _:
            armored = ssh_keygen.sign(keys[kind], MESSAGE, NAMESPACE)
            blob = base64.b64decode(b"".join(armored.split(b"\n")[1:-2]))
    for at, how, byte in mutations:
        blob = _mutate(blob, at, how, byte) if blob else blob
    ours = signature.verify_blob(MESSAGE, blob, namespace=NAMESPACE)
    stock = ssh_keygen.is_good(tmp_path, MESSAGE, blob, NAMESPACE)
    stricter = isinstance(ours, model.Reason) and any(words in ours.message for words in STRICTER)
    assert stock == isinstance(ours, signature.Verified) or (stock and stricter)


@settings(max_examples=examples.at_least(150), deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"SSHSIG\0\0\0\1", b"SSHSIG\0\0\0\1" + string(KEY.blob)]))
def test_hostile_bytes_get_a_reason_and_never_raise(noise: bytes, head: bytes) -> None:
    assert check(head + noise) != "good"
    assert code(signature.verify(MESSAGE, signature.armor(head + noise), namespace=NAMESPACE)) != "good"
    assert code(signature.verify(MESSAGE, noise, namespace=NAMESPACE)) != "good"


@settings(max_examples=examples.at_least(150), deadline=None)
@given(
    st.sampled_from(
        [b"ssh-ed25519", b"ssh-rsa", b"ecdsa-sha2-nistp384", b"sk-ecdsa-sha2-nistp256@openssh.com", b"\xff"]
    ),
    st.lists(st.binary(max_size=100).map(string), max_size=4),
    st.lists(st.binary(max_size=100).map(string), max_size=3),
)
def test_hostile_keys_get_a_reason_and_never_raise(kind: bytes, fields: list[bytes], own: list[bytes]) -> None:
    assert check(wrap(string(kind) + b"".join(fields), string(kind) + b"".join(own))) in {"sig_invalid", "weak_alg"}


@settings(max_examples=examples.at_least(60), deadline=None)
@given(
    st.sampled_from([1, 2, 3, 4, 65537, 2**32 - 1, 2**33, 2**64 + 1]),
    st.integers(0, 2**3072 - 1) | st.sampled_from([0, 1, 2**3072 - 1, 2**3071, 2**15000]),
    st.sampled_from([0, 1, 384, 400, 2000]),
)
def test_hostile_rsa_keys_get_a_reason_and_never_raise(exponent: int, modulus: int, size: int) -> None:
    public = string(b"ssh-rsa") + mpint(exponent) + mpint(modulus | 2**3071)
    own = string(b"rsa-sha2-512") + string(b"\1" * size)
    assert check(wrap(public, own)) in {"sig_invalid", "weak_alg"}
