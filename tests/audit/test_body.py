from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from support import logs

from reconciler import errors, model
from reconciler.audit import body, identity, log, record, schema, storage, verification


def frame(event: record.Event) -> record.Record:
    at = datetime(2026, 11, 24, 10, 44, 14, 123999, tzinfo=UTC)
    return record.Record(
        seq=7,
        scope=record.scope(event),
        epoch=1,
        prev=model.Digest("0" * 64),
        id=identity.uuid7(at, bytes),
        at=at,
        node="host:1:2",
        event=event,
    )


def refuse(event: record.Event) -> errors.AuditError:
    with pytest.raises(errors.AuditError) as refused:
        body.body_of(frame(event))
    return refused.value


def test_a_body_is_canonical_json() -> None:
    assert body.body_of(frame(record.Halt(codes=("é\u2028", 'a"b')))).decode() == (
        '{"actor":"daemon","at":"2026-11-24T10:44:14.123Z","daemon":{},"epoch":1,'
        '"event":{"codes":["é\u2028","a\\"b"],"ended":[],"reasons":[],"type":"halt","why":""},"id":"01a20d27-fcab-7000-8000-000000000000",'
        '"node":"host:1:2","prev":"' + "0" * 64 + '","schema":"reconciler/record/v1","scope":"watch","seq":7}'
    )


def test_what_two_parsers_could_read_differently_is_refused() -> None:
    assert refuse(record.Halt(codes=("\ud800",))).code == "record_form"
    huge = refuse(logs.intent().model_copy(update={"decisions": (2**53,)}))
    assert (huge.code, huge.where) == ("record_form", "intent of target:t")


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_a_float_is_refused_with_its_place() -> None:
    inexact = refuse(logs.intent().model_copy(update={"decisions": (1, 0.5)}))
    assert inexact.code == "record_form"
    assert "$.event.decisions[1] is a float" in inexact.message


def test_an_event_that_is_too_long_is_named_with_its_longest_field() -> None:
    actions = {model.Key(f"item/n/{i}"): "create" for i in range(3_000)}
    long = refuse(logs.intent().model_copy(update={"actions": actions}))
    assert (long.code, long.where) == ("record_size", "intent of target:t")
    assert "`actions` alone" in long.message


def test_an_id_is_a_uuid_of_version_7_that_sorts_by_time() -> None:
    early, late = (
        identity.uuid7(datetime(2026, 1, 1, second=s, tzinfo=UTC), lambda size: b"\xff" * size) for s in (1, 2)
    )
    assert early < late
    assert early == "019b76da-abe8-7fff-bfff-ffffffffffff"


def test_keys_are_sorted_as_rfc_8785_sorts_them(process: log.Log, engine: sa.Engine) -> None:
    """The example of RFC 8785 3.2.3, in UTF-16 code units: the emoji comes before the Hebrew letter."""
    keys = [model.Key(k) for k in ("\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6")]
    event = logs.intent().model_copy(update={"actions": dict.fromkeys(keys, "create")})
    process.append(event, evidence=(logs.PLAN, logs.SNAPSHOT))
    with storage.Store(engine).reading() as connection:
        text = str(connection.scalar(sa.select(schema.log.c.body)))
    ordered = list(json.loads(text)["event"]["actions"])
    assert ordered == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert verification.verify(engine, logs.SIGNER.public, logs.ORIGIN).good
