"""What the first lines of the page say, from numbers known here."""

from msgspec.structs import replace

from perptape.findings import Heard, Interval, Market, Pair, Spread, ranked
from perptape.sections.opening import title, verdict

NS = 1_000_000_000


def market(name, *intervals, trusted_s=90.0, absent=()):
    untrusted_s = sum(i.length_s for i in intervals)
    return Market(name, 100, trusted_s, untrusted_s, intervals=intervals, absent=absent)


def pair(sell, buy, median, edge_max, *, same_quote=True):
    edge = None if edge_max is None else Spread(median=-9.0, max=edge_max, share_positive=0.25)
    return Pair(sell, buy, same_quote, 80.0, Spread(median=median, max=4.5), edge_bps=edge)


def said(report, markets, pairs):
    heard, worth = verdict(replace(report, markets=tuple(markets), pairs=tuple(pairs)))
    return " ".join(heard), " ".join(worth)


A, B, C = "a:BTC-USDT-PERP", "b:BTC-USDT-PERP", "c:BTC-USDT-PERP"


def test_nothing_left_after_fees_is_said_with_the_best_moment(report):
    _, worth = said(report, [market(A), market(B)], [pair(A, B, 1.2345, -3.1), pair(B, A, -2, -9)])
    assert worth == (
        "The widest gap before fees: sell on a, buy on b, 1.23 bps at the median and 4.50 bps at "
        "best, over 1 min 20 s in which both were trusted. "
        "After both taker fees nothing was left: the best moment was \N{MINUS SIGN}3.10 bps."
    )


def test_the_best_edge_may_be_of_another_pair(report):
    pairs = [pair(A, B, 1.0, -3.0), pair(C, B, 0.5, 2.0)]
    _, worth = said(report, [market(A), market(B), market(C)], pairs)
    assert (
        "Of that nothing was left after both taker fees: at best \N{MINUS SIGN}3.00 bps." in worth
    )
    assert "the best moment (sell on c, buy on b) left 2.00 bps at the top of the book" in worth


def test_unknown_fees_are_not_zero_fees(report):
    _, worth = said(report, [market(A), market(B)], [pair(A, B, 1.0, None)])
    assert worth.endswith("the taker fees of these venues are not.")


def test_the_time_before_the_first_data_is_not_missing(report):
    start = Interval(0, NS, "start")
    heard, _ = said(report, [market(A, start), market(B)], [pair(A, B, 1.0, -1.0)])
    assert heard.endswith("Nothing is missing on any of them.")


def test_the_least_complete_market_is_named_with_its_reasons(report):
    holes = (Interval(0, 10 * NS, "silence"), Interval(20 * NS, 21 * NS, "disconnect"))
    heard, _ = said(report, [market(A, *holes), market(B)], [pair(A, B, 1.0, -1.0)])
    assert "Of 2 markets one is complete; a is the least so, 89.1" in heard
    assert heard.endswith("trusted (silence, disconnect).")


def test_a_market_that_was_never_heard_is_said_so(report):
    refused = market(B, Interval(0, 90 * NS, "refused"), trusted_s=0.0)
    heard, worth = said(report, [market(A), refused], [Pair(A, B, same_quote=True, trusted_s=0.0)])
    assert heard.endswith("b was never heard (refused). Nothing is missing on the others.")
    assert worth == "No two markets were trusted at the same time, so no gap is known."


def test_a_market_recorded_in_part_is_said_so(report):
    part = market(B, trusted_s=40.0, absent=(Interval(0, 50 * NS, "not recorded"),))
    heard, _ = said(report, [market(A), part], [pair(A, B, 1.0, -1.0)])
    assert heard.endswith(
        "Recorded only in part: b for 40.0 s of it. "
        "Nothing is missing of what was recorded on any of them."
    )


def test_the_least_trusted_channel_that_a_figure_rests_on_is_named(report):
    hole = Interval(0, 1 * NS, "undecodable")
    books = Heard("books", 7.5, 7.5, ("gap", "undecodable"))
    markets = [replace(market(A, hole), channels=(books,)), market(B)]
    own = pair(A, B, 1.0, -1.0)
    heard, _ = said(report, markets, [replace(own, depth="books")])
    assert heard.endswith(
        "a is the least so, of its books 50.0\N{NARROW NO-BREAK SPACE}% trusted (gap, undecodable)."
    )
    heard, _ = said(report, markets, [replace(own, depth="top")])
    assert "a is the least so, 98.9" in heard and heard.endswith("(undecodable).")


def test_a_channel_that_only_began_late_is_not_torn(report):
    late = replace(market(A), channels=(Heard("books", 80.0, 10.0),))
    heard, _ = said(report, [late, market(B)], [replace(pair(A, B, 1.0, -1.0), depth="books")])
    assert heard.endswith("Nothing is missing on any of them.")


def test_one_market_says_what_to_do(report):
    _, worth = said(report, [market(A)], [])
    assert "record at least two venues" in worth


def test_pairs_of_two_currencies_are_never_ranked(report):
    pairs = [pair(A, "b:BTC-USD-PERP", 50.0, 40.0, same_quote=False)]
    assert ranked(pairs) == []
    _, worth = said(report, [market(A), market("b:BTC-USD-PERP")], pairs)
    assert worth.startswith("All pairs compare different quote currencies")


def test_the_title_names_coins_and_venues(report):
    assert title(report) == "BTC on bitget, bybit, gateio and htx"
