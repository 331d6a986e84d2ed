"""The page about funding: its words are what its own snippet gives on the real histories."""

import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "funding.md").read_text("utf-8")


def test_the_comparison_of_two_intervals_is_what_the_page_says(shared, monkeypatch):
    folder = shared / "data" / "funding-btc-binance-hyperliquid-2022-2025"
    if not folder.is_dir():
        pytest.skip(f"the recording {folder.name} is not on this machine")
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(folder)
    said = io.StringIO()
    with redirect_stdout(said):
        exec(compile(snippet, "docs/funding.md", "exec"), {})  # noqa: S102 - the page's own words
    text = said.getvalue()
    number = {k: float(v) for k, v in re.findall(r"'(\w+)': ([-\d.e]+)", text)}
    words = " ".join(PAGE.split())
    assert f"Over the {number['common_h']:,.0f} hours" in words
    assert f"Hyperliquid paid {number['sell_bps_per_h']:.3f} bps" in words
    assert f"and Binance {number['buy_bps_per_h']:.3f}:" in words
    assert f"earned {100 * number['carry_apr']:.1f} % a year" in words
    count, share = text.splitlines()[-1].split()
    assert (
        f"Of the {int(count):,} windows" in words and f"more in {100 * float(share):.0f} %" in words
    )
