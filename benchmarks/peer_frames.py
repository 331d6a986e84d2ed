"""The frames that are played: one stream of best prices of each venue.

Binance's are those of a recording, or made ones of its form. The other venues' are written by the
simulated exchanges of this project, whose encoders are held against captured frames: a market that
walks, each number another. HTX's are gzip members of books: it has no other stream of prices that
cryptofeed knows. All are played over and over; Binance's update ids count on, so that one that a
client leaves out can be named.
"""

import re
from itertools import cycle, islice
from pathlib import Path

from burst_server import read_frames
from peer_job import FIRST_ID

from perptape import sims
from perptape.events import NS
from perptape.sims.dialect import State, Topic
from perptape.sims.markets import Market
from perptape.sims.scenario import Scenario

STREAMS = {
    "binance": "bookTicker",
    "bybit": "orderbook.1",
    "htx": "depth.step0",
    "gateio": "futures.book_ticker",
    "bitget": "books1",
}
PLAYED_NS = 30 * NS
BEGUN_NS = 1_767_225_600 * NS
ENVELOPE = re.compile(rb'{"stream":"[^"]*","data":(.*)}')
UPDATE_ID = re.compile(rb'"u":\d+')


def frames(venue: str, recording: Path | None, count: int) -> list[bytes]:
    """Give so many frames, as they go into the websocket."""
    if venue != "binance":
        return list(islice(cycle(_simulated(venue)), count))
    read = read_frames(recording, count)
    return [UPDATE_ID.sub(b'"u":%d' % (FIRST_ID + n), each, count=1) for n, each in enumerate(read)]


def bare(venue: str, recording: Path | None, count: int) -> list[bytes]:
    """Give them as Binance sends them to who names no stream in the URL: without an envelope."""
    found = frames(venue, recording, count)
    return [ENVELOPE.fullmatch(each)[1] for each in found] if venue == "binance" else found


def _simulated(venue: str) -> list[bytes]:
    dialect, stream = sims.VENUES[venue], STREAMS[venue]
    contract = dialect.contracts["BTC"]
    topic = Topic(stream, contract.symbol)
    made = []
    for nth, top in enumerate(Market(Scenario(), venue, contract).feed.due(PLAYED_NS), 1):
        event, send = BEGUN_NS + top.at_ns, BEGUN_NS + top.due_ns
        state = State(contract, topic, None, top, nth, event, send, BEGUN_NS.__add__)
        made.append(dialect.wrap(dialect.streams[stream].encode(state)))
    return made
