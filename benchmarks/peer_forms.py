"""perptape's other decoder: forms learned from the frames, for reads of many."""

import time
from collections.abc import Sequence

import numpy as np
import uvloop
from peer_frames import frames
from peer_job import Job, Ran, Watch, Without, taker
from peer_ours import listen

from perptape.decode import decoder
from perptape.events import Quote
from perptape.learning import learn
from perptape.templates import Forms, Read
from perptape.venues import VENUES

FEW = 32
"""Of fewer frames in a read each is decoded by itself: that costs less."""


def quotes_by_form(job: Job) -> Ran:
    """The same, but a read of many frames is decoded at once by learned forms, into columns."""
    if VENUES[job.venue].inflates:
        raise Without(f"{job.venue}'s books are no short frames that have a form")
    watch = Watch(job)
    take, bulk = taker(watch), Bulk(job.venue)
    for _ in range(2):  # once to learn, once to compile, or to load what was compiled
        bulk.read(frames(job.venue, None, FEW))

    def on_read(payloads: Sequence[bytes], _mono: int) -> None:
        if len(payloads) >= FEW:
            quotes = bulk.read(payloads)
            if job.log is None:
                watch.got += quotes
            else:
                watch.stamps.extend(quotes * [time.time_ns()])
            return
        for payload in payloads:
            for event in bulk.decode(payload):
                if type(event) is Quote:
                    take(event)

    return uvloop.run(listen(job, watch, on_read))


class Bulk:
    """Forms as the ledger learns them."""

    def __init__(self, venue: str) -> None:
        self._venue, self.decode, self._forms = venue, decoder(venue), Forms()

    def read(self, payloads: Sequence[bytes]) -> int:
        """Read all, those that no form fits one by one; give how many quotes there are."""
        offsets, data = np.cumsum([0, *map(len, payloads)]), b"".join(payloads)
        read = Read.empty(len(payloads), len(data))
        whose = np.zeros(len(payloads), np.int64)
        self._forms.match(np.frombuffer(data, np.uint8), offsets, whose, [self._venue], read)
        missed = np.flatnonzero(read.form < 0).tolist()
        form = learn(self.decode, payloads[missed[0]]) if missed else None
        if form is not None and self._forms.add(self._venue, form):
            return self.read(payloads)
        events = [event for at in missed for event in self.decode(payloads[at])]
        return len(payloads) - len(missed) + sum(type(event) is Quote for event in events)


CLIENTS = {("quotes", "perptape by form"): quotes_by_form}
