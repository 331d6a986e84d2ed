"""The page as text: whole, self-contained, the same twice, and deaf to what a tape says."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from msgspec.structs import replace

from perptape.findings import Interval
from perptape.page import script_json, to_html
from perptape.sections.completeness import STRIP_PARTS, coalesced

VOID = {"meta", "input"}
EVIL = "</script><script>alert(1)</script>"
QUOTED = '"><img src=x onerror=alert(2)>'


class Reader(HTMLParser):
    """Keeps elements, text and attributes; refuses what does not nest."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.scripts, self.text = [], [], [], [], []

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in {"script", "style"}:
            self.scripts.append((self.open[-1], data))
        else:
            self.text.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def series_of(page):
    return json.loads(re.search(r'id="series">(.*?)</script>', page, re.DOTALL)[1])


def test_it_nests_and_has_every_section(report):
    reader = read(to_html(report))
    ids = {value for name, value in reader.attributes if name == "id"}
    assert {"complete", "matrix", "pairs", "pair", "provenance", "series"} <= ids
    assert reader.tags.count("tr") > 20


def test_it_names_nothing_outside_itself(report):
    reader = read(to_html(report))
    assert not {"link", "iframe", "img", "object", "base", "form"} & set(reader.tags)
    addresses = [v for k, v in reader.attributes if k in {"src", "href", "action", "xlink:href"}]
    assert set(addresses) == {"#pair"}
    assert not [k for k, _ in reader.attributes if k == "style" or k.startswith("on")]


def test_the_policy_allows_its_own_script_and_style_and_nothing_else(report):
    page = to_html(report)
    reader = read(page)
    policy = dict(
        p.split(" ", 1) for p in re.search(r'Policy" content="([^"]+)', page)[1].split("; ")
    )
    hashes = {
        tag: f"'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'"
        for tag, body in reader.scripts
        if not body.startswith("{")
    }
    assert policy == {
        "default-src": "'none'",
        "script-src": hashes["script"],
        "style-src": hashes["style"],
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_built_twice_it_is_the_same_to_the_byte(made):
    assert to_html(made()) == to_html(made())


def test_four_venues_take_a_few_hundred_kilobytes(report):
    assert len(to_html(report).encode()) < 400_000


def test_the_licence_of_the_chart_library_is_in_the_page(report):
    assert "Copyright (c) 2022 Leon Sorokin" in to_html(report)


@pytest.mark.parametrize("word", [EVIL, QUOTED, "<!--<script>", "\u2028'`${1}"])
def test_what_a_tape_says_stays_text(made, word):
    hostile = made(rename=lambda name: name + word)
    hole = Interval(hostile.ts_from, hostile.ts_to, word, word)
    markets = [replace(m, intervals=(*m.intervals, hole)) for m in hostile.markets]
    evil = replace(hostile, markets=tuple(markets))
    sources = [replace(evil.provenance.tapes[0], tape=word)]
    provenance = replace(evil.provenance, tapes=tuple(sources), notes=(word,))
    reader = read(to_html(replace(evil, provenance=provenance)))
    plain = read(to_html(made()))
    assert set(reader.tags) == set(plain.tags)
    assert [tag for tag, _ in reader.scripts] == ["style", "script", "script"]
    assert word.strip() in "".join(reader.text)
    assert {k for k, _ in reader.attributes} == {k for k, _ in plain.attributes}


def test_embedded_json_reads_back_and_cannot_end_its_element():
    value = {"a": EVIL + "&\u2028\u2029"}
    text = script_json(value)
    assert json.loads(text) == value
    assert not set("<>&\u2028\u2029") & set(text)


def test_prices_survive_being_packed(report):
    page = series_of(to_html(report))
    market = page["markets"][0]
    packed = np.frombuffer(base64.b64decode(market["bid"]), "<f4").astype(float)
    low, high, last = np.split(packed + market["base_price"], 3)
    drawn = report.series[0].bids[report.markets[0].market]
    for found, true in ((low, drawn.low), (high, drawn.high), (last, drawn.last)):
        np.testing.assert_allclose(found, true, rtol=1e-9)


def test_one_extreme_in_a_long_series_is_in_the_page(made):
    report = made()
    key = next(iter(report.series[0].gaps_bps))
    report.series[0].gaps_bps[key].high[123] = 77.0
    pair = next(p for p in series_of(to_html(report))["pairs"] if p["words"].startswith(
        f"Sell at the bid of {key[0]}, buy at the ask of {key[1]}"))  # fmt: skip
    packed = np.frombuffer(base64.b64decode(pair["gap"]), "<f4")
    assert np.nanmax(packed) == 77.0


def test_one_market_still_makes_a_page(made):
    alone = made({"bybit": "BTC-USDT-PERP"})
    page = to_html(alone)
    read(page)
    assert "record at least two venues" in page
    assert 'id="matrix"' not in page and 'id="choice"' not in page


def test_pairs_of_two_currencies_stand_apart(made):
    mixed = made({"bitget": "BTC-USDT-PERP", "bybit": "BTC-USDT-PERP", "htx": "BTC-USD-PERP"})
    page = to_html(mixed)
    ranked, other = page.split("Different quote currencies, not ranked")
    assert "BTC-USD-PERP" not in ranked[ranked.index('id="pairs"') :]
    assert other.split("</table>")[0].count("<tr><th scope") - 1 == 4


def test_many_holes_stay_few_when_drawn_and_lose_none():
    holes = [Interval(k * 100, k * 100 + 1, "silence") for k in range(100_000)]
    holes[50_000] = Interval(5_000_000, 5_000_001, "crossed")
    drawn = coalesced(holes, 0, 10_000_000)
    assert len(drawn) <= STRIP_PARTS
    assert drawn[0].start == 0 and drawn[-1].end == 9_999_901
    assert any("crossed" in i.reason for i in drawn)


def test_neighbours_that_can_be_seen_keep_their_reasons():
    drawn = coalesced([Interval(0, 50, "silence"), Interval(50, 99, "disconnect")], 0, 100)
    assert [(i.start, i.end, i.reason) for i in drawn] == [
        (0, 50, "silence"),
        (50, 99, "disconnect"),
    ]


def test_holes_are_cut_to_the_report():
    drawn = coalesced([Interval(-50, 10, "start"), Interval(200, 300, "silence")], 0, 100)
    assert [(i.start, i.end) for i in drawn] == [(0, 10)]
