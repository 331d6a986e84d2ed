"""Frames as a socket brings them, to events: perptape's decoders for programs of one's own.

Few frames go through the venue's decoder one by one. Many at once, as a burst brings them, are read
together by the forms learned from those before (:mod:`perptape.templates`), which costs about half.
Both ways give the same events: a form is exact, or it leaves the frame to the decoder.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from perptape.decode import decoder
from perptape.errors import BadFrame, BadUsage
from perptape.events import Event, Quote
from perptape.learning import learn, shortened
from perptape.matching import END, WHOLES
from perptape.templates import Field, Form, Forms, Read
from perptape.venues import VENUES

FEW = 24
"""Fewer frames cost no more one by one."""
MOST_FORMS, MOST_HOPELESS = 1 << 10, 1 << 12
"""So many forms are learned, each of a symbol and a stream, and so many shapes remembered that have
none; after that nothing is learned."""
SAMPLES, MOST_PATIENCE = 8, 1 << 12
"""So many frames that no form fits are looked at for a new one; after those that taught nothing at
most so many pass before the next."""
ANY_NUMBER = re.compile(rb"[0-9]+")


class Reader:
    """Reads the frames of one venue, of any number of its connections.

    Make it before you connect: the first loads what is compiled, or compiles it, once a machine,
    which takes seconds. Raises BadUsage if there is no such venue.
    """

    def __init__(self, venue: str) -> None:
        if venue not in VENUES:
            raise BadUsage(f"{venue!r} is no venue; there are: {', '.join(VENUES)}.")
        self._venue, self._decode, self._forms = venue, decoder(venue), Forms()
        self.bad_frames = 0
        """Frames that the decoder could not read: they give no event."""
        self._hopeless: set[int] = set()
        """Hashes of shapes that have no form."""
        self._patience = self._pause = self._looked = 0
        self._note_forms()
        _compile()

    def read(self, payloads: Sequence[bytes]) -> Iterable[Event]:
        """Give what these frames say, in their order: of a venue that inflates, inflated ones.

        To be gone through once, before the next read: what is decoded one by one, is so as you go.
        """
        if len(payloads) < FEW:
            return self._each(payloads)
        if not self._forms.forms:
            self._learn(payloads, range(len(payloads)))
            return self._each(payloads)
        read = self._match(payloads)
        events, odd = self._quotes(read), np.flatnonzero(self._is_odd[read.form]).tolist()
        return self._mended(events, odd, payloads, read) if odd else events

    def _each(self, payloads: Sequence[bytes]) -> Iterator[Event]:
        """Decode one after the other: the books of a whole read are too much to hold at once."""
        for payload in payloads:
            try:
                yield from self._decode(payload)
            except BadFrame:
                self.bad_frames += 1

    def _match(self, payloads: Sequence[bytes]) -> Read:
        data, count = b"".join(payloads), len(payloads)
        offsets, whose = np.zeros(count + 1, np.int64), np.zeros(count, np.int64)
        np.cumsum(np.fromiter(map(len, payloads), np.int64, count), out=offsets[1:])
        read = Read.empty(count, len(data))
        self._forms.match(np.frombuffer(data, np.uint8), offsets, whose, [self._venue], read)
        return read

    def _quotes(self, read: Read) -> list[Event]:
        """Take all for quotes, for most are: what stands in the place of another means nothing."""
        of = read.form.tolist()
        ts_event, ts_send, update_id = (
            numbers if all(said) else [n if said[k] else None for n, k in zip(numbers, of)]  # noqa: B905 - one each
            for numbers, said in zip(read.wholes[:-1].tolist(), self._said, strict=True)
        )
        symbols = map(self._symbols.__getitem__, of)
        return list(map(Quote, symbols, ts_event, ts_send, *read.prices.tolist(), update_id))

    def _mended(
        self, quotes: list[Event], odd: Sequence[int], payloads: Sequence[bytes], read: Read
    ) -> Iterator[Event]:
        """Put books, and what no form fits, in their places."""
        begin = 0
        for at in odd:
            yield from quotes[begin:at]
            book = read.event(at, self._forms)
            yield from self._each(payloads[at : at + 1]) if book is None else (book,)
            begin = at + 1
        yield from quotes[begin:]
        self._learn(payloads, [at for at in odd if read.form[at] < 0])

    def _learn(self, payloads: Sequence[bytes], missed: Sequence[int]) -> None:
        """Look at some frames that no form fits, each time at others, and seldom if in vain."""
        self._pause -= len(payloads)
        is_full = len(self._forms.forms) >= MOST_FORMS or len(self._hopeless) >= MOST_HOPELESS
        if not missed or self._pause > 0 or is_full:
            return
        begin = self._looked % len(missed)
        self._looked += SAMPLES
        is_new = any(self._is_learned(payloads[at]) for at in missed[begin : begin + SAMPLES])
        self._patience = 0 if is_new else min(2 * self._patience + FEW, MOST_PATIENCE)
        self._pause = self._patience

    def _is_learned(self, payload: bytes) -> bool:
        """Tell whether there is a new form, that of this frame."""
        shape = hash(ANY_NUMBER.sub(b"0", shortened(payload)))
        if shape in self._hopeless:
            return False
        form = learn(self._decode, payload)
        if form is None or not self._forms.add(self._venue, form):
            self._hopeless.add(shape)
            return False
        self._note_forms()
        return True

    def _note_forms(self) -> None:
        """Keep what every read asks of them, by form; -1 is the form of a miss."""
        forms = self._forms.forms
        self._symbols = [form.symbol for form in forms]
        self._is_odd = np.array([*(form.is_book for form in forms), True])
        self._said = [[form.said[which] for form in forms] for which in range(len(WHOLES) - 1)]
        """[of ``WHOLES`` but what only a book says][form]."""


def _compile() -> None:
    """Read a frame by a form, so that the first burst does not wait for a compiler."""
    forms, read = Forms(), Read.empty(1, 1)
    forms.add("", Form(False, "", False, ((b".", Field(END)),), (False,) * len(WHOLES)))  # noqa: FBT003
    data, offsets = np.frombuffer(b".", np.uint8), np.array([0, 1], np.int64)
    forms.match(data, offsets, np.zeros(1, np.int64), [""], read)
