"""The page in a real browser without a network: it runs, it obeys, it believes no tape."""

import re
import shutil

import pytest

from perptape.page import to_html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
EVIL = '</script><script>alert(1)</script>"><img src=http://127.0.0.1:9/x onerror=alert(2)>'
BLANK = """() => [...document.querySelectorAll('canvas')].map((c) => {
    const copy = new OffscreenCanvas(c.width, c.height);
    const pen = copy.getContext('2d', { willReadFrequently: true });
    pen.drawImage(c, 0, 0);
    const p = pen.getImageData(0, 0, c.width, c.height).data;
    const seen = new Set();
    for (let k = 0; k < p.length; k += 4) seen.add(p[k] << 16 | p[k + 1] << 8 | p[k + 2]);
    return seen.size;
})"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


class Opened:
    """A page with all that went wrong on it, and all that it asked for."""

    def __init__(self, browser, path, **options):
        self.context = browser.new_context(offline=True, **options)
        self.page = self.context.new_page()
        self.wrong, self.asked = [], []
        self.page.on("console", lambda m: self.wrong.append(m.text))
        self.page.on("pageerror", lambda e: self.wrong.append(str(e)))
        self.page.on("dialog", lambda d: (self.wrong.append(d.message), d.dismiss()))
        self.page.on("request", lambda r: self.asked.append(r.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_function("document.readyState === 'complete'")

    def inks(self):
        """How many colours each canvas has."""
        self.page.wait_for_function(f"({BLANK})().every((n) => n > 3)")
        return self.page.evaluate(BLANK)


@pytest.fixture
def opened(browser, tmp_path):
    every = []

    def open_page(report, **options):
        path = tmp_path / "report.html"
        path.write_text(to_html(report), encoding="utf-8")
        every.append(Opened(browser, path, **options))
        return every[-1], path.as_uri()

    yield open_page
    for one in every:
        one.context.close()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (1440, "dark"), (390, "dark")])
def test_it_draws_fits_and_asks_for_nothing(opened, report, width, scheme):
    one, uri = opened(report, viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert len(one.inks()) == 4
    assert one.page.evaluate("document.documentElement.scrollWidth") == width
    assert one.wrong == [] and one.asked == [uri]


def test_its_controls_work(opened, report):
    one, _ = opened(report, viewport={"width": 1200, "height": 900})
    page = one.page
    page.click("a.gap[data-pair='5']")
    assert page.input_value("#choice") == "5"
    pair = report.pairs[5]
    assert page.inner_text("#pair-words").startswith(f"Sell at the bid of {pair.sell}")
    page.select_option("#choice", "0")
    assert "ask of bybit" in page.inner_text("#charts h3 >> nth=0")
    page.check("#by-edge")
    assert not page.is_visible("a.gap[data-pair='5']")
    assert page.is_visible("a.edge[data-pair='5']")
    page.click("th button[data-column='6']")
    first = page.inner_text("table.sortable tbody tr >> nth=0")
    best = max(report.pairs, key=lambda p: p.gap_bps.max)
    assert first.startswith(best.sell.partition(":")[0])
    for zoom in ("in", "left", "right", "out", "all"):
        page.click(f"[data-zoom={zoom}]")
    assert len(one.inks()) == 4
    assert one.wrong == []


@pytest.mark.parametrize(("width", "scheme"), [(1440, "dark"), (390, "light")])
def test_with_every_channel_it_draws_curves_and_still_fits(opened, deep, width, scheme):
    one, uri = opened(deep, viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert one.page.locator("#charts h3").all_inner_texts()[4:] == [
        "Edge in bps at 10k, after both taker fees",
        "Funding as told, bps per hour: longs pay shorts",
    ]
    curves = one.page.locator(".curve:not(.wordy) h3").all_inner_texts()
    assert curves[:4] == [
        "Edge by delay", "Edge still there", "Edge by size", "How long an episode lasts"
    ]  # fmt: skip
    assert len(one.inks()) == 6 + len(curves)
    assert one.page.evaluate("document.documentElement.scrollWidth") == width
    assert one.wrong == [] and one.asked == [uri]


def test_a_size_and_a_delay_can_be_chosen(opened, deep):
    one, _ = opened(deep, viewport={"width": 1200, "height": 900})
    page = one.page
    index = next(k for k, p in enumerate(deep.pairs) if (p.sell[:5], p.buy[:3]) == ("bybit", "htx"))
    pair = deep.pairs[index]
    page.select_option("#choice", str(index))
    page.check("#by-kept")
    cell = f"a.kept[data-pair='{index}']"
    for size, delay in ((1, 2), (1, 6), (0, 6)):
        page.locator("select.size").first.select_option(str(size))
        page.locator("select.delay").last.select_option(str(delay))
        sized = pair.sized(deep.choice.notionals[size])
        mean = sized.delayed(deep.choice.delays_ms[delay]).mean_bps
        assert page.inner_text(cell) == f"{mean:.2f}".replace("-", "\N{MINUS SIGN}")
        assert ("n" if mean < 0 else "p") in page.get_attribute(cell, "class").split()[1]
        assert page.locator("select.size").last.input_value() == str(size)
        assert page.locator("select.delay").first.input_value() == str(delay)
    page.check("#by-rate")
    assert page.inner_text(f"a.rate[data-pair='{index}']") == f"{pair.episodes.per_hour:.1f}"
    page.locator("select.size").first.select_option("3")
    assert page.inner_text(f"a.rate[data-pair='{index}']") == "\N{EN DASH}"
    assert "no edge, the books never held so much" in page.inner_text("#size-words")
    assert one.wrong == []


def test_other_fees_can_be_chosen(opened, deep):
    one, _ = opened(deep, viewport={"width": 1200, "height": 900})
    page = one.page
    index = next(k for k, p in enumerate(deep.pairs) if (p.sell[:5], p.buy[:3]) == ("bybit", "htx"))
    page.select_option("#choice", str(index))
    page.check("#by-edge")
    page.locator("select.tier").first.select_option("1")
    assert page.locator("select.tier").last.input_value() == "1"
    free = deep.pairs[index].sized(1e4, "no fees")
    assert page.inner_text(f"a.edge[data-pair='{index}']") == f"{free.edge_bps.median:.3f}".replace(
        "-", "\N{MINUS SIGN}"
    )
    words = page.inner_text("#size-words")
    assert words.startswith("At 10k: edge without fees") and f"{free.edge_bps.max:.2f} bps" in words
    assert "Edge in bps at 10k, without fees" in page.locator("#charts h3").all_inner_texts()
    assert page.inner_text("#tie-words").startswith("Basis, mid of bybit over mid of htx:")
    assert len(one.inks()) >= 6 and one.wrong == []


def test_a_chosen_pair_is_told_in_words(opened, deep):
    one, _ = opened(deep, viewport={"width": 1200, "height": 900})
    index = next(k for k, p in enumerate(deep.pairs) if (p.sell[:5], p.buy[:3]) == ("bybit", "htx"))
    one.page.select_option("#choice", str(index))
    words = one.page.inner_text("#size-words")
    assert words.startswith("At 10k: edge after both taker fees")
    assert "9 episodes, 360.4 per trusted hour (95 %: 164.8 to 684.2), 0.5 s long" in words
    assert "9 takes 20 ms after an opening:" in words
    assert "short the first and long the second earns 0.100 bps" in one.page.inner_text(
        "#funding-words"
    )
    box = one.page.locator(".curve .u-over").first
    box.scroll_into_view_if_needed()
    size = box.bounding_box()
    one.page.mouse.move(size["x"] + size["width"] - 12, size["y"] + 40)
    one.page.wait_for_function(
        "document.querySelector('.curve .readout').textContent.startsWith('1000 ms')"
    )
    assert one.wrong == []


def test_a_cursor_reads_all_charts_and_says_why_time_is_not_trusted(opened, report):
    one, _ = opened(report, viewport={"width": 1200, "height": 900})
    one.inks()
    index = next(k for k, p in enumerate(report.pairs) if p.buy.startswith("htx"))
    one.page.select_option("#choice", str(index))
    box = one.page.locator(".u-over").first
    box.scroll_into_view_if_needed()
    size = box.bounding_box()
    one.page.mouse.move(size["x"] + size["width"] * 0.55, size["y"] + 40)
    one.page.wait_for_function("document.getElementById('at').textContent.includes('silence')")
    readouts = one.page.locator(".readout").all_inner_texts()
    assert "UTC" in one.page.inner_text("#at") and "not known" in readouts[0]
    one.page.mouse.move(size["x"] + size["width"] * 0.25, size["y"] + 40)
    one.page.wait_for_function("!document.getElementById('at').textContent.includes('silence')")
    readouts = one.page.locator(".readout").all_inner_texts()
    assert "ratio" in readouts[2] and "ratio" in readouts[3]


def test_a_hole_in_a_strip_says_its_reason_when_tapped(opened, report):
    one, _ = opened(report, viewport={"width": 390, "height": 800}, has_touch=True)
    one.page.locator("rect.not").first.tap()
    assert "silence (nothing heard for 10 s)" in one.page.inner_text("#why")


def test_a_hostile_tape_stays_text(opened, made):
    evil = made(rename=lambda name: name + EVIL, notes=(EVIL,))
    one, uri = opened(evil, viewport={"width": 1200, "height": 900})
    one.inks()
    box = one.page.locator(".u-over").nth(2).bounding_box()
    one.page.mouse.move(box["x"] + 200, box["y"] + 40)
    one.page.select_option("#choice", "3")
    assert EVIL in one.page.inner_text("#pair-words")
    assert EVIL in one.page.inner_text("#complete")
    assert one.page.locator("img").count() == 0
    assert one.wrong == [] and one.asked == [uri]


def test_one_market_opens_without_an_error(opened, made):
    one, uri = opened(made({"bybit": "BTC-USDT-PERP"}), viewport={"width": 390, "height": 800})
    assert one.page.locator("h1").inner_text() == "BTC on bybit"
    assert one.wrong == [] and one.asked == [uri]


def test_without_javascript_every_number_is_there(opened, report):
    one, _ = opened(report, java_script_enabled=False)
    assert one.page.locator("table.sortable tbody tr").count() == 12
    assert one.page.is_visible("a.gap[data-pair='5']")


def test_what_is_printed_from_a_dark_screen_is_dark_on_white(opened, report):
    one, _ = opened(report, viewport={"width": 800, "height": 900}, color_scheme="dark")
    ink = "getComputedStyle(document.body).color"
    assert min(map(int, re.findall(r"\d+", one.page.evaluate(ink)))) > 200
    one.page.emulate_media(media="print")
    assert max(map(int, re.findall(r"\d+", one.page.evaluate(ink)))) < 60


def test_it_prints(opened, report):
    one, _ = opened(report, viewport={"width": 1200, "height": 900}, color_scheme="dark")
    one.inks()
    assert one.page.pdf(format="A4", print_background=True).startswith(b"%PDF")
    assert one.wrong == []
