"""OpenPGP signatures of commits and merges (trust.md 7.3): what gpgv's answer means. Pure.

The exit code decides nothing: it is 0 for expired and revoked keys, and VALIDSIG is printed for both. So the packets are read
before gpgv is asked (`packets.py`), and its status lines after, each strictly. Not here: gpgv itself (`git/gpgv.py`), and
whose key it is (`policy.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from reconciler import errors, model, ports
from reconciler.admission import packets, signature

_HARMLESS = frozenset({"KEY_CONSIDERED", "SIG_ID", "PROGRESS"})
_FAILED = {"REVKEYSIG": "sig_key_revoked", "EXPSIG": "sig_invalid", "BADSIG": "sig_invalid"}
_VALIDSIG_FIELDS = 10
_STAMP = re.compile(r"[1-9][0-9]{0,11}")  # seconds since 1970
_NO_PUBKEY = "9"  # the reason in ERRSIG


class Missing:
    """`ports.OpenPgp` where nobody bound one."""

    def verify(self, payload: bytes, signature: bytes, keys: Sequence[bytes]) -> ports.Answer:  # noqa: ARG002 - the port's
        raise _no_answer("no verifier of OpenPGP signatures is bound")


@dataclass(frozen=True)
class Judge:
    """What is known when a signature is judged. `keys`: by primary fingerprint, all of the policy in force."""

    keys: Mapping[str, packets.Key]
    verifier: ports.OpenPgp
    observed: datetime  # t_obs


def verify(payload: bytes, armored: bytes, judge: Judge) -> signature.Verified | model.Reason:
    """Check the armored signature of a commit over these bytes.

    Reasons: sig_invalid, weak_alg, multi_sig, sig_key_unknown, sig_key_expired, sig_key_revoked.

    Raises: TransientError(verifier_error), which holds.
    """
    blob = packets.dearmor(armored)
    if blob is None:
        return packets.invalid("the armor is not in its one form")
    packet = packets.look_at(blob)
    if isinstance(packet, model.Reason):
        return packet
    if not packet.fits(payload):
        return packets.invalid("the signature is not of these bytes")
    if not judge.keys:
        return _unknown()
    answer = judge.verifier.verify(payload, blob, tuple(key.blob for key in judge.keys.values()))
    found = read_status(answer, judge.keys, judge.observed)
    if isinstance(found, signature.Verified):
        signing = judge.keys[found.key_id].signing
        if not all(any(fingerprint.endswith(issuer) for fingerprint in signing) for issuer in packet.issuers):
            return packets.invalid("an issuer that is not under the signature names another key")
    return found


def read_status(
    answer: ports.Answer, keys: Mapping[str, packets.Key], observed: datetime
) -> signature.Verified | model.Reason:
    """gpgv's status lines (DETAILS of GnuPG, "Format of the --status-fd output") -> whose signature it is.

    Good is exactly one NEWSIG, GOODSIG and VALIDSIG, the latter by a listed key, with nothing beside them that is not known
    to be harmless. A key that expired after the commit was observed was good then: gpgv has no option for another time.

    Raises: TransientError(verifier_error) for what is no answer: nothing printed, or words that this version does not know.
    """
    said = _lines(answer)
    words = [word for word, _ in said]
    if words.count("NEWSIG") > 1:
        return model.Reason(code="multi_sig", message="more than one signature", fix="sign once, with one key")
    for word, code in _FAILED.items():
        if word in words:
            return _refusal(code, f"gpgv says {word}")
    if "ERRSIG" in words:
        return _of_errsig(said)
    late = _is_late(said, observed)
    if "EXPKEYSIG" in words and not late:
        return _refusal("sig_key_expired", "the OpenPGP key had expired when this was first seen")
    verdict = "EXPKEYSIG" if "EXPKEYSIG" in words else "GOODSIG"
    expected = {"NEWSIG": 1, verdict: 1, "VALIDSIG": 1}
    counted = [word for word in words if word not in _HARMLESS and not word.startswith("TRUST_")]
    if verdict == "EXPKEYSIG":
        counted = [word for word in counted if word != "KEYEXPIRED"]
    if answer.code != 0 or sorted(counted) != sorted(expected):
        return packets.invalid(f"gpgv does not say plainly that it is good: {' '.join(counted)[:200]}")
    return _of_validsig(next(fields for word, fields in said if word == "VALIDSIG"), keys)


_KNOWN = (
    _HARMLESS | _FAILED.keys() | {"NEWSIG", "GOODSIG", "VALIDSIG", "EXPKEYSIG", "ERRSIG", "NO_PUBKEY", "KEYEXPIRED"}
)
_KNOWN |= {"NODATA", "UNEXPECTED", "FAILURE", "ERROR", "KEYREVOKED", "SIGEXPIRED", "BADARMOR", "NOTATION_NAME"}


def _lines(answer: ports.Answer) -> list[tuple[str, list[str]]]:
    said: list[tuple[str, list[str]]] = []
    for line in answer.status.split(b"\n"):
        if not line:
            continue
        marker, word, *fields = (*line.decode("utf-8", "backslashreplace").split(" "), "")
        if marker != "[GNUPG:]" or not (word in _KNOWN or word.startswith("TRUST_")):
            raise _no_answer(f"gpgv said something that this version does not know: {word[:40]!r}")
        said.append((word, fields))
    if not said:
        raise _no_answer(f"gpgv ended with {answer.code} and said nothing")
    return said


def _no_answer(message: str) -> errors.TransientError:
    return errors.TransientError("verifier_error", message, fix="install gpgv 2.2 or newer on this machine")


def _is_late(said: Sequence[tuple[str, list[str]]], observed: datetime) -> bool:
    """Whether every expiry that is named lies after the observation."""
    stamps = [fields[0] for word, fields in said if word == "KEYEXPIRED"]
    return bool(stamps) and all(_STAMP.fullmatch(stamp) and int(stamp) > observed.timestamp() for stamp in stamps)


def _of_errsig(said: Sequence[tuple[str, list[str]]]) -> model.Reason:
    """`ERRSIG keyid pkalgo hashalgo class time rc [fpr]`."""
    fields = next(fields for word, fields in said if word == "ERRSIG")
    if len(fields) > 5 and fields[5] == _NO_PUBKEY:  # noqa: PLR2004 - see above
        return _unknown()
    return packets.weak("gpgv refuses the algorithm of this signature")


def _of_validsig(fields: list[str], keys: Mapping[str, packets.Key]) -> signature.Verified | model.Reason:
    """`VALIDSIG fpr date time expires version reserved pkalgo hashalgo class primary`."""
    if len(fields) < _VALIDSIG_FIELDS:
        return packets.invalid("gpgv's VALIDSIG is cut short")
    by, algorithm, digest, kind, primary = fields[0], fields[6], fields[7], fields[8], fields[9]
    key = keys.get(primary)
    if key is None:
        return _unknown()
    if by not in key.signing:
        return packets.weak(f"the signing key {by} is too weak, or not in the policy")
    if kind != "00" or not algorithm.isdecimal() or not digest.isdecimal():
        return packets.invalid("not a signature over a binary document")
    if int(algorithm) not in packets.ALGORITHMS or int(digest) not in packets.HASHES:
        return packets.weak(f"public-key algorithm {algorithm} with hash {digest} is not allowed")
    name = f"openpgp-{packets.ALGORITHMS[int(algorithm)]}-{packets.HASHES[int(digest)]}"
    return signature.Verified(key_id=primary, algorithm=name)


def _refusal(code: str, message: str) -> model.Reason:
    return model.Reason(code=code, message=message, fix="sign with a key that the policy lists for this use")


def _unknown() -> model.Reason:
    return _refusal("sig_key_unknown", "the OpenPGP key is nobody's in the policy in force")
