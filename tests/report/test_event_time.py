"""A report on the venues' own time: what it says where no clock is known, and of what it cannot."""

import json
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from perptape.errors import BadUsage
from perptape.event_time import with_errors
from perptape.findings import Timed
from perptape.report import Asked, build, to_html, to_json
from perptape.sections.timing import resolution_words, timing


@pytest.fixture(scope="module")
def moved(deep_tape):
    """Of a tape with stamps, whose venues were never asked about the time."""
    return build(Asked(tapes=(deep_tape,), clock="event"))


def test_without_clocks_all_stays_as_it_came_and_says_why(moved, deep):
    for market in moved.markets:
        venue = market.market.partition(":")[0]
        assert market.clock.on == "recv" and market.clock.error_ms is None
        assert f"no answer of {venue} about the time" in market.clock.reason
        assert f"{market.market} stays on receive time: {market.clock.reason}." in (
            moved.provenance.notes
        )
    assert [replace(m, clock=None) for m in moved.markets] == list(deep.markets)
    assert moved.pairs == deep.pairs and moved.clocks == ()
    assert all(lead.leader is None and lead.clock == "recv" for lead in moved.leads)


def test_what_fell_outside_is_counted_and_said(deep):
    rows = {"unstamped": 3, "early": 2, "late": 1_200}
    market = deep.markets[0].market
    known = Timed("event", 4.5, **rows)
    of = SimpleNamespace(timed=lambda name: known if name == market else Timed("recv", reason="so"),
                         error_ms=lambda *_: None)  # fmt: skip
    notes = with_errors(deep, of).provenance.notes
    assert (
        f"Of the rows of {market} on trusted time 3 had no stamp, 2 had one from after they came "
        "and 1\N{NARROW NO-BREAK SPACE}200 came too late to be put in order."
    ) in notes
    assert sum("stays on receive time: so." in note for note in notes) == len(deep.markets) - 1


def test_the_default_says_nothing_of_it(deep):
    told = json.loads(to_json(deep))
    assert all("clock" not in market for market in told["markets"])
    assert not any({"clock_error_ms", "unresolved_delays_ms"} & set(p) for p in told["pairs"])
    assert told["provenance"]["parameters"]["clock"] == "recv"
    assert "stays on the time of receipt" not in to_html(deep)


def test_what_is_not_known_is_absent_from_the_json(moved):
    told = json.loads(to_json(moved))
    assert told["provenance"]["parameters"]["clock"] == "event"
    for market in told["markets"]:
        assert set(market["clock"]) == {"on", "reason"}
    assert not any("clock_error_ms" in pair for pair in told["pairs"])


def test_the_page_says_what_each_market_rests_on(moved):
    page = timing(moved)
    assert page.count("our receipt</td>") == len(moved.markets)
    known = replace(moved.markets[0], clock=Timed("event", 4.5, late=7))
    page = timing(replace(moved, markets=(known, *moved.markets[1:])))
    assert "its matching time" in page and "\N{PLUS-MINUS SIGN}4.5 ms" in page and ">7<" in page


def test_delays_below_the_bound_are_said_to_be_unresolved(moved):
    pair = replace(moved.pairs[0], clock_error_ms=12.0, unresolved_delays_ms=(0.0, 5.0))
    said = resolution_words(pair)
    assert "\N{PLUS-MINUS SIGN}12.0 ms" in said and "after 0 and 5 ms, is not resolved" in said
    assert said in to_html(replace(moved, pairs=(pair, *moved.pairs[1:])))
    assert resolution_words(moved.pairs[0]) == ""


def test_built_twice_it_is_the_same_to_the_byte(moved, deep_tape):
    again = build(Asked(tapes=(deep_tape,), clock="event"))
    assert to_json(again) == to_json(moved) and to_html(again) == to_html(moved)


def test_a_clock_that_is_none_is_refused(deep_tape):
    with pytest.raises(BadUsage, match="it is recv or event"):
        build(Asked(tapes=(deep_tape,), clock="sent"))
