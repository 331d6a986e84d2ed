"""What each wire of a venue is to carry."""

import pytest

from perptape.attend import shared_out
from perptape.session import Wanted
from perptape.status import Track
from perptape.venues import VENUES


def wires(name, markets):
    """(socket, topics) of the wires that all channels of so many markets need."""
    venue = VENUES[name]
    wanted = [
        (Wanted(f"{name}:C{n}-USDT-PERP", topic), Track(f"{name}:C{n}-USDT-PERP", channel))
        for n in range(markets)
        for channel, streams in venue.streams.items()
        for stream in streams[0].split("+")
        for topic in [venue.topic(channel, stream, f"C{n}-USDT-SWAP")]
    ]
    found = list(shared_out(wanted, venue.topics_per_wire))
    assert sum(len(each) for _, each in found) == len(wanted)
    return [(socket, [asked.topic for asked, _ in each]) for socket, each in found]


@pytest.mark.parametrize("name", ["okx", "bitget", "htx", "binance"])
def test_what_feeds_one_market_on_one_socket_is_on_one_wire(name):
    """Else each of two wires would know half of a mark, and one could be lost unseen."""
    found = wires(name, 130)
    most = VENUES[name].topics_per_wire
    assert all(len({topic.key for topic in topics}) <= most for _, topics in found)
    homes = {}
    for number, (socket, topics) in enumerate(found):
        assert {topic.socket for topic in topics} == {socket}
        for topic in topics:
            homes.setdefault((socket, topic.symbol), set()).add(number)
    assert all(len(of_symbol) == 1 for of_symbol in homes.values())


def test_few_markets_share_one_wire():
    assert len(wires("okx", 20)) == 1
    assert sorted(socket for socket, _ in wires("htx", 3)) == ["", "index", "notification"]
