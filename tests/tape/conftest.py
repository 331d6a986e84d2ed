"""A tape whose every frame can be told from its seq alone."""

import pytest

from perptape.tape import Tape, TapeWriter

T0 = 1_700_000_000_000_000_000
HALF_BYTES = 1 << 16


def payload(seq):
    return b'{"seq":%d,"noise":"%x"}' % (seq, seq * 2654435761)


@pytest.fixture(scope="session")
def write_tape():
    """Open a writer with a small tail."""

    def write(path, **kwargs):
        return TapeWriter(path, **{"half_bytes": HALF_BYTES, **kwargs})

    return write


@pytest.fixture(scope="session")
def feed():
    """Append reads of the given sizes; give the last seq."""

    def feed(writer, wire, sizes):
        seq = 0
        for n in sizes:
            first = writer._first_seq + writer.frames  # noqa: SLF001 - to know the payload before
            read = [payload(first + k) for k in range(n)]
            seq = writer.append(wire, 0, read, T0 + first, first) + n - 1
        return seq

    return feed


@pytest.fixture(scope="session")
def seqs_of():
    """Read all frames of a tape, each compared with what its seq says it must be."""

    def seqs(path):
        found = []
        for frame in Tape(path).frames():
            assert frame.payload == payload(frame.seq)
            assert (frame.ts_recv - T0, frame.wire_size) == (frame.ts_mono, len(frame.payload))
            found.append(frame.seq)
        return found

    return seqs
