"""A tape of which all is known: edges by size and delay, episodes, takes, clocks, funding."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from msgspec import inspect

import perptape as pt
from perptape import surroundings
from perptape.events import NS
from perptape.findings import Choice, Clock, Lead, Market, Pair, Provenance, Tie
from perptape.page import to_html
from perptape.report import Asked, build, pngs
from perptape.sections.opening import verdict
from perptape.told import to_json

from .deep import EPISODES, FUNDING, SECONDS, T0, bids

FEES = {"bybit": 5.5e-4, "htx": 6e-4}


def pair_of(report, sell="bybit", buy="htx"):
    return next(p for p in report.pairs if p.sell.startswith(sell) and p.buy.startswith(buy))


def told(report):
    return json.loads(to_json(report))


def edges():
    """Of one coin or less: at the best prices."""
    return 1e4 * (bids("bybit")[0] * (1 - FEES["bybit"]) / (bids("htx")[1] * (1 + FEES["htx"])) - 1)


def test_the_edge_at_the_default_size_is_that_of_both_books(deep):
    pair = pair_of(deep)
    assert pair.depth == "books" and pair.edge_notional == 10_000
    assert pair.edge_bps.median == pytest.approx(np.median(edges()), abs=1e-3)
    assert pair.edge_bps.max == pytest.approx(edges().max(), abs=1e-9)
    assert pair.edge_bps == pair.sized(1e4).edge_bps
    assert pair.sized(5e4).edge_bps.max == pytest.approx(edges().max(), abs=1e-9)


def test_a_size_that_no_book_held_has_a_reason_and_no_number(deep):
    most = pair_of(deep).sized(2.5e5)
    assert most.edge_bps is None and most.reason == "the books never held so much"
    assert most.depth_share == 0 and most.episodes is None and most.takes == ()


def test_episodes_are_counted_and_last_as_long_as_they_were_made(deep):
    pair = pair_of(deep)
    assert pair.episodes.count == EPISODES and pair.episodes.median_s == 0.5
    hours = (SECONDS - 0.1) / 3600
    assert pair.episodes.per_hour == pytest.approx(EPISODES / hours, rel=1e-5)
    lasting = pair.sized(1e4).lasting
    assert (lasting.episodes, lasting.ended, lasting.t_s) == (EPISODES, EPISODES, (0.5,))
    assert pair_of(deep, "htx", "bybit").episodes.count == 0


@pytest.mark.parametrize(("delay_ms", "share"), [(0, 1), (20, 0.96), (250, 0.5), (1000, 0)])
def test_a_delay_leaves_what_is_left_of_the_half_second(deep, delay_ms, share):
    found = pair_of(deep).sized(1e4).delayed(delay_ms)
    assert found.held_s == pytest.approx(0.5 * EPISODES)
    assert found.share == pytest.approx(share, abs=1e-6)


def test_a_take_late_by_less_than_the_episode_earns_its_edge(deep):
    sized = pair_of(deep).sized(1e4)
    soon, late = sized.taken(20), sized.taken(1000)
    assert soon.takes == late.takes == EPISODES and soon.share_gained == 1
    size = np.floor(1e4 / bids("htx")[1] / 0.001 + 1e-9) * 0.001
    gains = size * (bids("bybit")[0] * (1 - FEES["bybit"]) - bids("htx")[1] * (1 + FEES["htx"]))
    opened = np.flatnonzero((edges() >= 0) & (np.roll(edges(), 1) < 0))
    assert soon.profit == pytest.approx(gains[opened].sum(), rel=1e-5)
    assert late.profit < 0 and late.share_gained == 0


def test_the_drawn_edge_keeps_every_extreme(deep):
    (series,) = deep.series
    line = series.edges_bps["bybit:BTC-USDT-PERP", "htx:BTC-USDT-PERP", 1e4]
    assert np.nanmax(line.high) == pytest.approx(edges().max(), abs=1e-9)
    assert np.nanmin(line.low) == pytest.approx(edges().min(), abs=1e-9)
    per_step = round(1e9 * SECONDS / 10 / SECONDS / series.step_ns) or 1
    assert np.isfinite(line.last).sum() >= 10 * SECONDS // max(per_step, 1) * 0.9
    assert (line.low[np.isfinite(line.low)] <= line.last[np.isfinite(line.low)]).all()


def test_funding_says_what_was_told_last_and_when_it_pays(deep):
    pair = pair_of(deep)
    expected = 1e4 * (FUNDING["bybit"] - FUNDING["htx"])
    assert pair.carry.expected_carry_bps_per_h == pytest.approx(expected)
    cost = 2e4 * (FEES["bybit"] + FEES["htx"])
    assert pair.carry.expected_break_even_h == pytest.approx(cost / expected)
    assert pair_of(deep, "htx", "bybit").carry.expected_break_even_h is None
    (series,) = deep.series
    line = series.funding_bps_per_h["bybit:BTC-USDT-PERP"].last
    assert np.nanmax(line) == pytest.approx(0.2) == np.nanmin(line)


def test_who_moves_first_is_asked_and_not_named_without_clocks(deep):
    assert len(deep.leads) == 3 and deep.clocks == ()
    assert all(lead.clock == "recv" and lead.leader is None for lead in deep.leads)
    assert all(len(lead.lags_ms) == len(lead.correlations) for lead in deep.leads)


def test_the_verdict_says_what_was_left_and_how_sure_that_is(deep):
    heard, worth = (" ".join(part).replace("\u202f", " ") for part in verdict(deep))
    assert "Nothing is missing" in heard
    assert "At 10k USDT and 20 ms, after both taker fees, the best was to" in worth
    assert "sell on bybit, buy on gateio: 9 takes earned" in worth
    assert "Its edge opened 9 times and stood for 4.5 s in all; 96.0 % of that" in worth
    assert "1 min 30 s of common trusted time: too little to say anything of a day" in worth


def test_nothing_left_is_said_so(deep_tape, tmp_path):
    fees = tmp_path / "fees.toml"
    fees.write_text("bybit = 0.01\n")
    _, worth = verdict(build(Asked(tapes=(deep_tape,), fees=fees)))
    said = " ".join(worth)
    assert "nothing was left after both taker fees (own): the best moment (sell" in said
    assert "Before fees the best moment at that size (sell on bybit, buy on gateio) was 20" in said


# ---- JSON and page ------------------------------------------------------------------------------


def test_the_json_has_all_of_it_and_nothing_is_null(deep):
    said = told(deep)
    assert b"null" not in to_json(deep) and b"NaN" not in to_json(deep)
    assert set(said) == {
        "ts_from", "ts_to", "markets", "pairs", "provenance", "series", "choice", "leads", "ties",
        "verdict",
    }  # fmt: skip
    pair = next(p for p in said["pairs"] if (p["sell"][:5], p["buy"][:3]) == ("bybit", "htx"))
    assert {"count", "per_hour", "median_s", "max_s", "censored"} <= set(pair["episodes"])
    assert {"sizes", "capacity", "carry", "edge_notional", "depth"} <= set(pair)
    assert [s["notional"] for s in pair["sizes"]] == said["choice"]["notionals"]
    assert {c["channel"] for c in said["markets"][0]["channels"]} == {"books", "funding"}
    assert said["markets"][0]["funding"]["interval_h"] == 8


def test_every_line_of_the_page_is_in_the_json(deep):
    said = told(deep)["series"][0]
    (series,) = deep.series
    assert said["count"] == len(series.ts) and said["step_ns"] == series.step_ns
    lines = {(e["sell"], e["buy"], e["notional"]): e for e in said["edges_bps"]}
    known = {k: v for k, v in series.edges_bps.items() if np.isfinite(v.last).any()}
    assert set(lines) == set(known)
    for key, line in known.items():
        places = [k for start, count in lines[key]["runs"] for k in range(start, start + count)]
        assert places == np.flatnonzero(np.isfinite(line.last)).tolist()
        last = lines[key]["last"]
        assert last == pytest.approx(line.last[places].tolist(), abs=1e-3)
    assert {b["market"] for b in said["bids"]} == {m.market for m in deep.markets}
    assert len(said["funding_bps_per_h"]) == 3


def test_every_number_of_the_page_is_in_the_json(deep):
    page = json.loads(re.search(r'id="series">(.*?)</script>', to_html(deep), re.DOTALL)[1])
    said = told(deep)
    without_null = json.loads(
        json.dumps([p["sizes"] for p in page["pairs"]]), object_hook=lambda d: {
            k: v for k, v in d.items() if v is not None
        }
    )  # fmt: skip
    assert without_null == [p["sizes"] for p in said["pairs"]]
    assert page["choice"] == said["choice"]
    curves = {(x["first"], x["second"]): x.get("correlations", []) for x in said["leads"]}
    for pair in page["pairs"]:
        sell, buy = (said["markets"][pair[leg]]["market"] for leg in ("sell", "buy"))
        known = curves.get(
            (sell, buy), curves.get((buy, sell))[::-1] if (buy, sell) in curves else []
        )
        assert pair["lead"]["correlations"] == known


def test_built_twice_it_is_the_same_to_the_byte(deep, deep_tape):
    again = build(Asked(tapes=(deep_tape,)))
    assert to_html(again) == to_html(deep)
    assert to_json(again) == to_json(deep)


def test_pictures_of_what_a_pair_was_worth_are_of_those_with_an_edge(deep, tmp_path):
    written = pngs(deep, tmp_path)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    pairs = {path.stem for path in written if path.stem.count("__") == 1}
    assert len(pairs) == 3
    more = sorted(path.stem for path in written if path.stem not in pairs)
    sell = "bybit_BTC-USDT-PERP"
    assert more == [
        f"{sell}__{buy}_BTC-USDT-PERP__{kind}"
        for buy in ("gateio", "htx")
        for kind in ("edge_by_delay", "edge_by_size", "survival")
    ]


def test_without_fees_an_edge_is_the_gap_and_fees_take_from_it(deep):
    pair = pair_of(deep)
    free, paid = pair.sized(1e4, "no fees"), pair.sized(1e4)
    assert free.edge_bps.max == pytest.approx(pair.gap_bps.max, abs=1e-9)
    assert free.edge_bps.max > paid.edge_bps.max
    assert free.taken(20).profit > paid.taken(20).profit
    assert deep.choice.tiers == ("base", "no fees")
    assert [t.name for t in pair.tiers] == ["no fees"]


TIERS = """
htx = -0.0001
["vip 3"]
bybit = 0.0002
[slow]
bybit = 0.0009
"""


def test_a_file_has_a_table_for_each_tier_and_its_lines_hold_in_all(deep_tape, tmp_path, deep):
    file = tmp_path / "fees.toml"
    file.write_text(TIERS)
    found = build(Asked(tapes=(deep_tape,), fees=file))
    pair = pair_of(found)
    assert found.choice.tiers == ("vip 3", "slow", "base", "no fees")
    bid, ask = bids("bybit")[0], bids("htx")[1]
    for tier, sold in ((None, 2e-4), ("slow", 9e-4)):
        edge = 1e4 * (bid * (1 - sold) / (ask * (1 - 1e-4)) - 1)
        assert pair.sized(1e4, tier).edge_bps.max == pytest.approx(edge.max(), abs=1e-9)
    assert pair.sized(1e4, "base").edge_bps == pair_of(deep).sized(1e4).edge_bps
    assert found.provenance.parameters["taker fees"] == "tier vip 3"
    assert {f.venue: f.taker for f in found.provenance.tiers["slow"]}["bybit"] == 9e-4
    assert "after both taker fees (vip 3), the best was" in " ".join(verdict(found)[1])


def test_the_basis_is_told_with_its_step_and_what_is_not_known_of_it(deep):
    tie = deep.tie("htx:BTC-USDT-PERP", "gateio:BTC-USDT-PERP")
    assert (tie.first[:6], tie.step_s, tie.samples) == ("gateio", 0.1, 900)
    assert tie.mean_bps == pytest.approx(1e4 * np.log(59_999 / 60_000), abs=1e-3)
    assert tie.half_life_high_s is None and "not ruled out" in tie.reason
    assert tie.share_low is None and tie.shares_reason == "a market hardly moved"
    page = to_html(deep)
    assert "The basis, pair by pair (3)" in page and "a market hardly moved" in page


def test_what_is_sampled_for_the_basis_is_what_all_quotes_say(deep_tape):
    tape = pt.open(deep_tape)
    quotes, ledger = tape.quotes("BTC-USDT").collect(), tape.ledger().collect()
    step_ns = 700 * NS // 1000
    few = surroundings.thinned(quotes, step_ns, T0, T0 + 60 * NS)
    assert len(few) < 0.2 * len(quotes)
    window = {"step_s": 0.7, "ts_from": T0, "ts_to": T0 + 60 * NS}
    names = ("samples", "half_life_s", "adf_statistic", "ou_mean_bps")
    whole, thin = (pt.basis(q, ledger, **window).select(names) for q in (quotes, few))
    assert whole.equals(thin)


def test_the_page_ranks_what_could_be_taken(deep):
    page = to_html(deep)
    assert "What could be taken at 10k and 20\u202fms" in page
    rows = re.search(r'id="takes">.*?<tbody>(.*?)</tbody>', page, re.DOTALL)[1]
    assert rows.count("<tr>") == 2 and rows.index("gateio") < rows.index("htx")


def test_quotes_alone_leave_the_sections_of_books_out(report):
    page = to_html(report)
    for name in ('id="takes"', 'id="timing"', 'class="size"', "edge at the size"):
        assert name not in page


@pytest.fixture
def tops(deep_tape, monkeypatch):
    """The same tape as if its books had not been trusted."""
    monkeypatch.setattr("perptape.worth.with_books", lambda _: False)
    return deep_tape


def test_without_books_the_best_prices_are_all_the_depth_and_it_is_said(tops):
    found = build(Asked(tapes=(tops,)))
    pair = pair_of(found)
    assert pair.depth == "top" and pair.edge_notional is None
    assert pair.sized(5e4).edge_bps.max == pytest.approx(edges().max(), abs=1e-9)
    assert pair.sized(2.5e5).edge_bps is None
    assert "and the best prices alone: there are no books" in " ".join(verdict(found)[1])


def test_too_many_quotes_without_books_are_said(tops, monkeypatch):
    monkeypatch.setattr("perptape.worth.MOST_TOP_ROWS", 10)
    few = build(Asked(tapes=(tops,)))
    assert not few.has_sizes
    assert any("2,700 quotes of BTC and no books" in note for note in few.provenance.notes)


# ---- the keys of the JSON -----------------------------------------------------------------------

FREE_KEYS = {"parameters", "versions", "tiers"}
"""Mappings by names that are not ours."""


def keys_of(part):
    """Every key of a JSON text."""
    if isinstance(part, list):
        return set().union(*map(keys_of, part))
    if not isinstance(part, dict):
        return set()
    below = (
        value for key, value in part.items() if key not in FREE_KEYS or isinstance(value, list)
    )
    return set(part).union(*map(keys_of, below))


def fields_of(kind, seen):
    """Every field of a struct and of all below it."""
    if isinstance(kind, inspect.StructType) and kind.cls not in seen:
        seen[kind.cls] = {field.encode_name for field in kind.fields}
        for field in kind.fields:
            fields_of(field.type, seen)
    below = (getattr(kind, name, None) for name in ("item_type", "value_type"))
    for part in (*filter(None, below), *getattr(kind, "types", ())):
        fields_of(part, seen)
    return seen


def test_every_key_of_the_json_is_explained_and_no_other(deep):
    page = Path(__file__).parents[2] / "docs" / "commands.md"
    text = page.read_text(encoding="utf-8").partition("## The keys of `report --json`")[2]
    rows = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    told = set(re.findall(r"`([a-z][a-z0-9_]*)`", " ".join(rows)))
    kinds = (Market, Pair, Clock, Lead, Tie, Choice, Provenance)
    known = set().union(*(f for k in kinds for f in fields_of(inspect.type_info(k), {}).values()))
    known |= keys_of(json.loads(to_json(deep)))
    known.add("clocks")  # of a tape that was recorded
    assert known - told == set()
    assert told - known == {"event", "send", "recv", "books", "top"}  # values
