"""A recorder that may not have more memory than a bound that is set from outside."""

import os
from contextlib import contextmanager
from pathlib import Path

import pytest

GROUPS = Path("/sys/fs/cgroup/memory")
BOUND_MB = 256
RUN_S = 30


@contextmanager
def group():
    """Give a control group whose processes are killed beyond the bound, page cache included."""
    place = GROUPS / f"perptape-{os.getpid()}"
    place.mkdir()
    try:
        (place / "memory.limit_in_bytes").write_text(str(BOUND_MB << 20))
        yield place
    finally:
        place.rmdir()


def number(place, name, key=None):
    text = (place / name).read_text()
    return int(dict(line.split() for line in text.splitlines())[key] if key else text)


def test_at_full_rate_under_a_bound(torture, tmp_path, figures):
    if not torture.LONG:
        pytest.skip("./run torture has it")
    torture.as_root()
    if not (GROUPS / "memory.limit_in_bytes").exists():
        pytest.skip("needs control groups of memory, version 1")
    rate = torture.market(2000, "", '"BTC-USDT", "ETH-USDT", "SOL-USDT"')
    venues = ("bybit", "htx", "gateio", "bitget")
    with torture.Simulators(tmp_path / "sims", venues, rate) as sims, group() as place:
        under = ["sh", "-c", f'echo $$ > {place / "cgroup.procs"}; exec "$@"', "sh"]
        words = ["BTC-USDT", "ETH-USDT", "SOL-USDT", *sims.urls, "--venues", ",".join(venues)]
        words += ["--channels", "quotes,books,trades", "--for", f"{RUN_S}s"]
        with torture.Recorder(tmp_path / "r", words, under=under) as recorder:
            assert recorder.wait() == 0, recorder.said
        assert number(place, "memory.oom_control", "oom_kill") == 0
        frames = torture.check(recorder.tape, sims, told=recorder.told)
        # All it ever had, its files' pages too: they are given back when the bound is met.
        most_mb = number(place, "memory.max_usage_in_bytes") / 2**20
    torture.no_traceback(recorder.said)
    assert frames > 200 * RUN_S
    figures(
        f"no more than {BOUND_MB} MB for {RUN_S} s of four venues",
        injected=1,
        survived=1,
        lost=0,
        rss=f"{recorder.rss_mb:.0f} MB",
        remark=f"{frames:,} frames; {most_mb:.0f} MB with its files' pages",
    )
