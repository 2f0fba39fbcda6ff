from __future__ import annotations

import base64
import hashlib

import pytest
from support.logs import ORIGIN, SIGNER

from reconciler import errors
from reconciler.audit import checkpoint, signing

ROOT = hashlib.sha256(b"root").digest()
NOTE = checkpoint.sign(ORIGIN, 7, ROOT, SIGNER)


def refuse(note: str, origin: str = ORIGIN, public: bytes = SIGNER.public) -> str:
    with pytest.raises(errors.AuditError) as refused:
        checkpoint.open_note(note, origin, public)
    assert refused.value.code == "log_broken"
    return refused.value.message


def test_a_note_has_the_form_of_c2sp_tlog_checkpoint() -> None:
    text, _, signature = NOTE.partition("\n\n")
    assert text.split("\n") == [ORIGIN, "7", base64.b64encode(ROOT).decode()]
    dash, name, blob = signature.rstrip("\n").split(" ")
    assert (dash, name, len(base64.b64decode(blob))) == ("—", ORIGIN, 4 + 64)
    assert checkpoint.open_note(NOTE, ORIGIN, SIGNER.public) == checkpoint.Checkpoint(origin=ORIGIN, size=7, root=ROOT)


def test_the_note_of_the_go_documentation_is_signed_by_peter_neumann() -> None:
    """The example of golang.org/x/mod/sumdb/note, whose form C2SP took over: key id and signature are as we compute them."""
    kind_and_key = base64.b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    blob = base64.b64decode(
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    )
    text = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    assert hashlib.sha256(b"PeterNeumann\n" + kind_and_key).digest()[:4] == blob[:4]
    assert checkpoint.verify_signature(text, blob[4:], kind_and_key[1:])


def test_no_character_of_a_note_can_be_changed() -> None:
    for place, character in enumerate(NOTE):
        assert refuse(NOTE[:place] + ("1" if character != "1" else "2") + NOTE[place + 1 :])


def test_signatures_of_others_are_ignored_but_do_not_help() -> None:
    witness = f"— witness.example {base64.b64encode(b'1234' + bytes(64)).decode()}\n"
    assert checkpoint.open_note(NOTE + witness, ORIGIN, SIGNER.public).size == 7
    text = NOTE.partition("\n\n")[0]
    assert "no good signature" in refuse(f"{text}\n\n{witness}")


def test_a_note_of_another_log_or_another_key_is_refused() -> None:
    stranger = signing.FileSigner.from_seed(bytes(32))
    refuse(NOTE, origin="reconciler.example/other")
    refuse(NOTE, public=stranger.public)
    refuse(checkpoint.sign(ORIGIN, 7, ROOT, stranger))


def test_a_signed_note_of_another_form_is_refused() -> None:
    for text in (
        f"{ORIGIN}\n07\n{base64.b64encode(ROOT).decode()}\n",
        f"{ORIGIN}\n7\n{base64.b64encode(b'short').decode()}\n",
    ):
        key_id = base64.b64decode(NOTE.rpartition(" ")[2])[:4]
        blob = base64.b64encode(key_id + SIGNER.sign(text.encode())).decode()
        refuse(f"{text}\n— {ORIGIN} {blob}\n")
    refuse(NOTE.replace("\n\n", "\nextension\n\n"))
    refuse(NOTE[:-1])
    refuse("")


@pytest.mark.parametrize("name", ["", "two words", "a+b", "line\n", "tab\t"])
def test_a_log_needs_a_name_that_a_note_can_bear(name: str) -> None:
    with pytest.raises(errors.ConfigError):
        checkpoint.check_origin(name)
