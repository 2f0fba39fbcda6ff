"""The tables of the audit log and the triggers that hold them append-only (trust.md 9.3). DDL as data; nothing is executed here.

Triggers stop accidents and SQL misuse. Whoever owns the file can drop them: that is detected, by the checkpoints, the
anchor and `digest`, and not prevented.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from reconciler import model

REVISION = "0001"  # of the newest migration; a database that is made anew starts there

metadata = sa.MetaData()

log = sa.Table(
    "log",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("prev", sa.LargeBinary, nullable=False),
    sa.Column("leaf", sa.LargeBinary, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)
lease = sa.Table(
    "lease",
    metadata,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("until", sa.Text, nullable=False),
)
checkpoint = sa.Table(
    "checkpoint",
    metadata,
    sa.Column("size", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("note", sa.Text, nullable=False),
)
evidence = sa.Table(
    "evidence",
    metadata,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
)
# Below are caches: made again from `log` at any time, and never believed without a check.
node = sa.Table(
    "node",
    metadata,
    sa.Column("level", sa.Integer, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)
subject = sa.Table(
    "subject",
    metadata,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True),
)
fold = sa.Table(
    "fold",
    metadata,
    sa.Column("size", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("prev", sa.LargeBinary, nullable=False),
    sa.Column("root", sa.LargeBinary, nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("signature", sa.LargeBinary, nullable=False),
)

SQLITE = (
    """CREATE TABLE lease (scope TEXT PRIMARY KEY, epoch INTEGER NOT NULL, holder TEXT NOT NULL, until TEXT NOT NULL) STRICT""",
    """CREATE TABLE log (seq INTEGER PRIMARY KEY, scope TEXT NOT NULL, epoch INTEGER NOT NULL, prev BLOB NOT NULL,
  leaf BLOB NOT NULL CHECK (length(leaf) = 32), body TEXT NOT NULL CHECK (length(CAST(body AS BLOB)) < 65536),
  CHECK (json_extract(body,'$.seq') = seq AND json_extract(body,'$.scope') = scope
    AND json_extract(body,'$.epoch') = epoch AND json_extract(body,'$.prev') = lower(hex(prev)))) STRICT""",
    """CREATE INDEX log_at ON log (json_extract(body,'$.at'))""",
    """CREATE TRIGGER log_insert BEFORE INSERT ON log WHEN NEW.seq IS NOT (SELECT coalesce(max(seq) + 1, 0) FROM log)
  OR NEW.prev IS NOT coalesce((SELECT leaf FROM log ORDER BY seq DESC LIMIT 1), zeroblob(32))
  OR NEW.epoch IS NOT (SELECT epoch FROM lease WHERE scope = NEW.scope)
  BEGIN SELECT RAISE(ABORT, 'log: gap, wrong prev or lease lost'); END""",
    """CREATE TRIGGER log_update BEFORE UPDATE ON log BEGIN SELECT RAISE(ABORT, 'log: append-only'); END""",
    """CREATE TRIGGER log_delete BEFORE DELETE ON log BEGIN SELECT RAISE(ABORT, 'log: append-only'); END""",
    """CREATE TRIGGER lease_insert BEFORE INSERT ON lease WHEN EXISTS (SELECT 1 FROM lease WHERE scope = NEW.scope
  AND (NEW.epoch < epoch OR (NEW.holder IS NOT holder AND NEW.epoch <= epoch)))
  BEGIN SELECT RAISE(ABORT, 'lease: epochs only grow'); END""",
    """CREATE TRIGGER lease_update BEFORE UPDATE ON lease WHEN NEW.scope IS NOT OLD.scope OR NEW.epoch < OLD.epoch
  OR (NEW.holder IS NOT OLD.holder AND NEW.epoch <= OLD.epoch)
  BEGIN SELECT RAISE(ABORT, 'lease: epochs only grow'); END""",
    """CREATE TRIGGER lease_delete BEFORE DELETE ON lease BEGIN SELECT RAISE(ABORT, 'lease: epochs only grow'); END""",
    """CREATE TABLE checkpoint (size INTEGER PRIMARY KEY CHECK (size > 0), note TEXT NOT NULL) STRICT""",
    # A checkpoint is of the whole log, and newer than every other: an older or a larger one is a lie.
    """CREATE TRIGGER checkpoint_insert BEFORE INSERT ON checkpoint
  WHEN NEW.size IS NOT (SELECT max(seq) + 1 FROM log) OR NEW.size <= (SELECT coalesce(max(size), 0) FROM checkpoint)
  BEGIN SELECT RAISE(ABORT, 'checkpoint: not of this log'); END""",
    """CREATE TRIGGER checkpoint_update BEFORE UPDATE ON checkpoint BEGIN SELECT RAISE(ABORT, 'checkpoint: append-only'); END""",
    """CREATE TRIGGER checkpoint_delete BEFORE DELETE ON checkpoint BEGIN SELECT RAISE(ABORT, 'checkpoint: append-only'); END""",
    """CREATE TABLE evidence (digest TEXT PRIMARY KEY CHECK (length(digest) = 64), content BLOB NOT NULL) STRICT""",
    # INSERT OR REPLACE deletes without a delete trigger; the same content under the same digest is no news.
    """CREATE TRIGGER evidence_insert BEFORE INSERT ON evidence
  WHEN EXISTS (SELECT 1 FROM evidence WHERE digest = NEW.digest AND content IS NOT NEW.content)
  BEGIN SELECT RAISE(ABORT, 'evidence: append-only'); END""",
    """CREATE TRIGGER evidence_update BEFORE UPDATE ON evidence BEGIN SELECT RAISE(ABORT, 'evidence: append-only'); END""",
    """CREATE TRIGGER evidence_delete BEFORE DELETE ON evidence BEGIN SELECT RAISE(ABORT, 'evidence: append-only'); END""",
    """CREATE TABLE node (level INTEGER NOT NULL, position INTEGER NOT NULL, hash BLOB NOT NULL CHECK (length(hash) = 32),
  PRIMARY KEY (level, position)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE subject (kind TEXT NOT NULL, value TEXT NOT NULL, seq INTEGER NOT NULL,
  PRIMARY KEY (kind, value, seq)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE fold (size INTEGER PRIMARY KEY, prev BLOB NOT NULL, root BLOB NOT NULL, code TEXT NOT NULL,
  state TEXT NOT NULL, signature BLOB NOT NULL) STRICT""",
)


def digest(statements: Iterable[str]) -> model.Digest:
    """Of the DDL as SQLite stores it, in any order: what a database must have, and what `sqlite_schema` says it has."""
    return model.sha256("\0".join(sorted(statements)).encode())
