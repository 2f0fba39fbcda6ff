"""What is known of the source, beside what the log says: when it was read last, whether it lags, what came by upload."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reconciler import errors
from reconciler.admission import admit

SILENT_POLLS = 2  # A source that has been silent for longer lets no change begin (trust.md 2.3).
_MARGIN_S = 30


@dataclass
class Fetches:
    """The last contact with the source; guarded by being replaced, never changed."""

    last: datetime | None = None
    failure: errors.ReconcilerError | None = field(default=None)


class Contact:
    """Written by the turn `watch` and by uploads; read by every turn."""

    def __init__(self, poll_s: float) -> None:
        self.fetches = Fetches()
        self.patience: admit.Patience | None = None  # a running daemon lets a replica lag; one pass does not
        self._poll_s = poll_s
        self._uploads = 0  # statements that came by another way than a fetch

    @property
    def lags(self) -> bool:
        """Whether the source serves an older tip than the last accepted commit."""
        return self.patience is not None and self.patience.polls > 0

    def is_silent(self, at: datetime) -> bool:
        """Whether the source has not been read for so long that nothing new may begin."""
        last = self.fetches.last
        return last is None or at - last > timedelta(seconds=SILENT_POLLS * self._poll_s + _MARGIN_S)

    def heard(self) -> object:
        """What was heard from outside the log: equal as long as nothing new came, by a fetch or by an upload."""
        return self.fetches.last, self._uploads, self.lags

    def note_upload(self) -> None:
        """A statement came by another way than a fetch: what was said about waiting changes is asked again."""
        self._uploads += 1
