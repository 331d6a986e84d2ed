"""Scenario files: what they may say, and the sentence for what they may not."""

import pytest

from perptape.errors import BadUsage
from perptape.events import MS, NS
from perptape.sims import load, scenario

WHOLE = """
seed = 3
duration = "90s"
start = "first-subscribe"
instruments = ["BTC-USDT", "sol-usdt-perp"]
updates_per_s = 40

[venues.htx]
latency_ms = 70
clock_offset_ms = -5.5

[[episodes]]
at = "1m"
for = "1500ms"
instrument = "SOL-USDT"
sell = "htx"
buy = "bybit"
edge_bps = 4

[[faults]]
at = "0s"
venue = "bybit"
kind = "silence"
for = "8s"
symbol = "BTC-USDT"

[[faults]]
at = "12s"
venue = "htx"
kind = "corrupt"
damage = "flip"
"""


def test_a_whole_file():
    read = scenario.parse(WHOLE)
    assert (read.seed, read.duration_ns, read.start) == (3, 90 * NS, "first-subscribe")
    assert read.instruments == ("BTC-USDT-PERP", "SOL-USDT-PERP")
    assert read.venues["htx"].latency_ms == 70
    assert read.venues["htx"].clock_offset_ms == -5.5
    assert {character.updates_per_s for character in read.venues.values()} == {40}
    assert read.episodes == (
        scenario.Episode(60 * NS, 1500 * MS, "SOL-USDT-PERP", "htx", "bybit", 4),
    )
    assert read.faults == (
        scenario.Fault(0, "bybit", "silence", 8 * NS, "BTC-USDT-PERP"),
        scenario.Fault(12 * NS, "htx", "corrupt", damage="flip"),
    )


def test_every_key_of_a_fault_is_read():
    (read,) = scenario.parse(
        FAULT.format("delay")
        + 'for = "2s"\nsymbol = "ETH-USDT"\nchannel = "book"\nstream = "bbo"\nframes = 2'
    ).faults
    assert read == scenario.Fault(
        NS, "htx", "delay", 2 * NS, "ETH-USDT-PERP", channel="book", stream="bbo", frames=2
    )


def test_random_faults_go_on_to_the_end_unless_told():
    text = 'duration = "1h"\n' + RANDOM.format('"drop", "silence"') + 'for = "2s"\nsymbol = "*"'
    (read,) = scenario.parse(text).random_faults
    assert (read.kinds, read.count, read.venues) == (("drop", "silence"), 3, scenario.VENUES)
    assert (read.from_ns, read.to_ns) == (0, 3600 * NS)
    assert (read.model.lasts_ns, read.model.instrument) == (2 * NS, "*")


def test_funding_intervals_are_of_the_venue_or_of_a_market():
    read = scenario.parse('[venues.htx]\ninterval_h = 4\n[funding_interval_h]\n"okx:ETH-USDT" = 2')
    asked = [("htx", "ETH"), ("okx", "ETH"), ("okx", "BTC"), ("hyperliquid", "BTC")]
    assert [read.interval_h(*market) for market in asked] == [4, 2, 8, 1]


def test_the_demo_is_clean_and_its_episodes_end_in_time():
    played = scenario.demo(seed=11)
    assert played.seed == 11
    assert played.faults == ()
    assert max(episode.end_ns for episode in played.episodes) < played.duration_ns == 40 * NS


FAULT = '[[faults]]\nat = "1s"\nvenue = "htx"\nkind = "{}"\n'
RANDOM = "[[random_faults]]\ncount = 3\nkinds = [{}]\n"
EPISODE = """
[[episodes]]
at = "{at}"
for = "2s"
instrument = "BTC-USDT"
sell = "{sell}"
buy = "{buy}"
edge_bps = 1
"""


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("seed = ", "Invalid"),
        ("sed = 1", "sed"),
        ('duration = "soon"', "soon"),
        ('instruments = ["BTC-USD"]', "BTC-USD"),
        ('instruments = ["NOPE-USDT"]', "NOPE-USDT"),
        ("[venues.kraken]\nlatency_ms = 1", "kraken"),
        ("[venues.htx]\nlatency = 1", "latency_ms"),
        ("[venues.htx]\nlatency_ms = -1", "latency_ms"),
        ("[venues.htx]\nupdates_per_s = 0", "updates_per_s"),
        ('[[faults]]\nat = "1s"\nvenue = "htx"\nkind = "flood"', "flood"),
        ('[[faults]]\nat = "1s"\nvenue = "mtgox"\nkind = "reset"', "mtgox"),
        ('[[faults]]\nat="1s"\nvenue="htx"\nkind="reset"\nsymbol="SOL-USDT"', "SOL-USDT-PERP"),
        ("[venues.htx]\ninterval_h = 3", "1, 2, 4, 8, 12, 24"),
        ('[funding_interval_h]\n"htx:BTC-USDT" = 5', "1, 2, 4, 8, 12, 24"),
        ('[funding_interval_h]\n"mtgox:BTC-USDT" = 4', "mtgox"),
        (FAULT.format("reset") + 'damage = "flip"', "it takes for, symbol"),
        (FAULT.format("flood"), "half_open"),
        (FAULT.format("drop") + "frames = 0", "1 or more"),
        (FAULT.format("drop") + 'channel = "books"', "books"),
        (FAULT.format("drop") + 'stray = "x"', "stray"),
        (FAULT.format("drop") + 'symbol = "*"', "*"),
        (FAULT.format("clock_step"), "needs step_ms"),
        (FAULT.format("spec_change"), "needs tick or lot or size"),
        (FAULT.format("spec_change") + 'tick = "0.0"', "not a step"),
        (FAULT.format("spec_change") + 'tick = "-1"', "not a step"),
        (FAULT.format("funding_interval") + "interval_h = 7", "1, 2, 4, 8, 12, 24"),
        (FAULT.format("rate_limit") + "status = 500", "500"),
        (RANDOM.format('"drop"') + 'venues = ["mtgox"]\nto = "1m"', "mtgox"),
        (RANDOM.format('"drop"'), "'to'"),
        (RANDOM.format("") + 'to = "1m"', "kinds"),
        (RANDOM.format('"flood"') + 'to = "1m"', "flood"),
        (RANDOM.format('"drop"') + 'to = "1m"\nstatus = 418', "'status'"),
        (RANDOM.format('"drop", "delist"') + 'to = "1m"', "needs symbol"),
        (EPISODE.format(at="1s", sell="htx", buy="htx"), "two venues"),
        (
            EPISODE.format(at="1s", sell="htx", buy="bybit")
            + EPISODE.format(at="2s", sell="bybit", buy="gateio"),
            "overlap",
        ),
    ],
)
def test_what_cannot_be_meant_is_said_in_a_sentence(text, named):
    with pytest.raises(BadUsage) as caught:
        scenario.parse(text)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_is_read_and_a_seed_given_apart_goes_before_it(tmp_path):
    file = tmp_path / "s.toml"
    file.write_text(WHOLE)
    assert load(file).seed == 3
    assert load(file, seed=9).seed == 9
    with pytest.raises(BadUsage, match=r"missing\.toml"):
        load(tmp_path / "missing.toml")
