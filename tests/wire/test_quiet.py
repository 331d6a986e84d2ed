"""A topic that falls quiet is asked for again, and a symbol that ends its wire is put aside."""

import subprocess
import sys
from itertools import pairwise

import pytest

from perptape import ledger
from perptape.events import NS
from perptape.session import Session, State
from perptape.status import LONGEST_QUIET_NS, PROBES, QUIET_NS, Tally, Track
from perptape.tape import Tape


@pytest.fixture
def quiet(wires):
    """A tally of topics A and B that were both heard at 0."""
    wanted = wires.wanted("A", "B")
    session = Session(wires.ACME, wanted, now=0)
    for line in session.lines:
        line.state = State.HEARD
    tally = Tally([Track(each.market, "quotes") for each in wanted], wanted)
    tally.count([b'{"s":"A"}', b'{"s":"B"}'], 1)

    def ask(now, slow=()):
        return [topic.symbol for topic in tally.quiet(session.lines, slow, now)]

    return session, tally, ask


def test_only_what_says_nothing_is_asked_for_again(quiet):
    _, tally, ask = quiet
    tally.count([b'{"s":"A"}'], QUIET_NS)
    assert ask(QUIET_NS) == [] and ask(QUIET_NS + 1) == ["B"]


def test_in_vain_it_is_asked_less_and_less_often(quiet):
    _, tally, ask = quiet
    times = [now for now in range(0, 4 * LONGEST_QUIET_NS, 10 * NS) if "B" in ask(now)]
    waits = [(b - a) // NS for a, b in pairwise(times)]
    assert waits[:4] == [120, 240, 480, 960] and max(waits) == LONGEST_QUIET_NS // NS
    tally.count([b'{"s":"B"}'], 5 * LONGEST_QUIET_NS)
    assert "B" not in ask(5 * LONGEST_QUIET_NS + QUIET_NS - 1)
    assert "B" in ask(5 * LONGEST_QUIET_NS + QUIET_NS), "as patient as at first"


def test_what_speaks_in_a_flood_of_others_is_not_quiet(quiet):
    """Of a flood only some frames are looked at, and those of a calm topic may be none of them."""
    _, tally, ask = quiet
    flood = [b'{"s":"A"}'] * (2 * PROBES)
    asked = []
    for second in range(0, 600, 5):
        tally.count(flood, second * NS)
        tally.count([b'{"s":"B"}'], second * NS)
        asked += ask(second * NS)
    assert asked == []


def test_what_may_be_quiet_is_left_alone(quiet):
    session, _, ask = quiet
    assert ask(10 * QUIET_NS, slow={session.lines[0].wanted.topic.stream}) == []


def test_what_was_refused_is_not_asked_for_here(quiet):
    session, _, ask = quiet
    session.lines[1].state = State.REFUSED
    assert ask(10 * QUIET_NS) == ["A"]


def test_a_session_asks_anew_once(quiet):
    session, _, _ = quiet
    session.to_send(0, 0)
    session.ask_anew([session.lines[0].wanted.topic])
    assert session.urgent and session.wake_at <= NS
    frames = session.to_send(5 * NS, 0)
    assert sum(b"A" in frame for frame in frames) == 1
    assert session.to_send(6 * NS, 0) == []


SCENARIO = """
start = "first-subscribe"
instruments = ["BTC-USDT", "ETH-USDT"]
[[faults]]
at = "3s"
venue = "hyperliquid"
kind = "refuse"
symbol = "ETH-USDT"
"""


def test_a_symbol_that_ends_its_wire_does_not_keep_the_others_from_being_heard(tmp_path):
    (tmp_path / "scenario.toml").write_text(SCENARIO)
    perptape = [sys.executable, "-m", "perptape"]
    words = ["sim", "--venues", "hyperliquid", "--port", "0"]
    words += ["--scenario", str(tmp_path / "scenario.toml")]
    with subprocess.Popen([*perptape, *words], stdout=subprocess.PIPE, text=True) as sim:
        urls = sim.stdout.readline().split()
        words = ["record", "BTC-USD", "ETH-USD", "--for", "20s", "--venues", "hyperliquid"]
        done = subprocess.run(
            [*perptape, *words, "--tape", str(tmp_path / "tape"), *urls],
            capture_output=True,
            text=True,
            check=False,
        )
        sim.terminate()
    assert done.returncode == 0, done.stderr
    result = ledger.read(Tape(tmp_path / "tape"))
    lost = {
        name: sum(
            (i.end - i.start) / NS
            for i in result.intervals
            if not i.trusted and i.reason != "start" and name in i.market
        )
        for name in ("BTC", "ETH")
    }
    assert lost["ETH"] > 10
    assert lost["BTC"] < 8, "two attempts in vain, with the pauses between them"
