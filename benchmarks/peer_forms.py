"""perptape's reader of many frames at once: the same wire, the same callback for each quote."""

from collections.abc import Sequence

import uvloop
from peer_job import Job, Ran, Watch, taker
from peer_ours import listen

from perptape.events import Quote
from perptape.reader import Reader


def quotes_by_form(job: Job) -> Ran:
    """What a socket read brings goes to the reader, which learns forms as it goes."""
    reader, watch = Reader(job.venue), Watch(job)
    take = taker(watch)

    def on_read(payloads: Sequence[bytes], _mono: int) -> None:
        for event in reader.read(payloads):
            if type(event) is Quote:
                take(event)

    return uvloop.run(listen(job, watch, on_read))


CLIENTS = {("quotes", "perptape by form"): quotes_by_form}
