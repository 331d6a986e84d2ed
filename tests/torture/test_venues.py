"""All seven live venues at once, while the simulators do what venues do on bad days."""

import pytest

from perptape import verify
from perptape.events import NS
from perptape.sims import VENUES as SIMULATED
from perptape.tape import Tape

SLACK_S = 6.0
"""The backoff after an ended connection, a handshake, and a busy machine."""
NAMES = ["BTC-USDT", "BTC-USD"]
"""One of the seven quotes in USD."""


def fault(at, kind, lasts="", venue="*", **more):
    keys = {"at": at, "venue": venue, "kind": kind, **({"for": lasts} if lasts else {}), **more}
    return "[[faults]]\n" + "".join(f'{key} = "{value}"\n' for key, value in keys.items())


SHORT = [
    fault("2s", "reset"),
    fault("5s", "oversized"),
    fault("6s", "gzip_bomb", venue="htx"),
    fault("9s", "disconnect_24h", "1s"),
]
ON_SCHEDULE = [
    *(fault(f"{5 + 2 * n}s", "disconnect") for n in range(5)),  # as if every 10 s, five times
    fault("25s", "rate_limit", "12s"),
    fault("26s", "disconnect"),
    fault("45s", "oversized"),
    fault("50s", "gzip_bomb", venue="htx"),
    fault("55s", "corrupt"),
    fault("58s", "drop"),
    fault("60s", "duplicate"),
    fault("62s", "reorder"),
    fault("64s", "reset"),
    fault("75s", "disconnect_24h", "3s"),
    fault("90s", "silence", "50s"),
    fault("160s", "half_open", "40s"),
]
"""An accelerated bad day; heartbeats are not accelerated."""


def injected_s(sims, venue):
    """Give the length of time in which a venue could not be heard, overlaps counted once."""
    spans = sorted(
        (f.ts_start, f.ts_end)
        for f in sims.faults()
        if f.venue == venue and f.kind in {"silence", "half_open", "rate_limit"}
    )
    return sum(end - start for start, end in spans) / NS


def test_faults_of_all_venues_at_once(torture, tmp_path, figures):
    faults, seconds = (ON_SCHEDULE, 215) if torture.LONG else (SHORT, 13)
    scenario = torture.market(20, "\n".join(faults))
    venues = tuple(SIMULATED)
    with torture.Simulators(tmp_path / "s", venues, scenario) as sims:
        words = [*NAMES, "--venues", ",".join(venues), "--for", f"{seconds}s", *sims.urls]
        with torture.Recorder(tmp_path / "r", words) as recorder:
            assert recorder.wait() == 0, recorder.said
    torture.no_traceback(recorder.said)
    frames = torture.check(recorder.tape, sims, told=recorder.told)
    verdict = verify.verify(recorder.tape)
    assert verdict.damage == [] and verdict.verdict == "untrusted"
    markets = {m.market: m for m in verdict.markets if m.frames}
    assert {market.partition(":")[0] for market in markets} == set(venues)
    found = {name: torture.untrusted_s(recorder.tape, name) for name in markets}
    for name, market in markets.items():
        reasons = set(found[name])
        assert reasons <= {"disconnect", "silence", "unreachable", "damage", "hole"}, reasons
        longest = max((i.end - i.start) / NS for i in market.intervals)
        assert market.trusted_s > seconds / 3, (name, longest)
    struck = sims.faults()
    assert {f.venue for f in struck} == set(venues)
    worst = max(sum(each.values()) for each in found.values())
    best = min(sum(each.values()) for each in found.values())
    figures(
        f"{len(faults)} faults on schedule, 7 venues",
        injected=len(struck),
        survived=len(struck),
        lost=0,
        untrusted=f"{best:.0f} to {worst:.0f} s a venue of "
        f"{min(injected_s(sims, v) for v in venues):.0f} s shut or silent, and the ways back",
        rss=f"{recorder.rss_mb:.0f} MB",
        remark=f"{frames:,} frames in {seconds} s",
    )
    assert recorder.rss_mb < 500
    assert {s.state for s in Tape(recorder.tape).segments} == {"sealed"}


def memory_kb(pid):
    with open(f"/proc/{pid}/status") as file:  # noqa: PTH123 - not a file of ours
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def descriptors(pid):
    import os  # noqa: PLC0415

    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - only their number


def test_memory_and_descriptors_stay_while_wires_come_and_go(torture, tmp_path, figures):
    """Ended every 3 s on all venues: what a wire held is given back."""
    if not torture.LONG:
        pytest.skip("the long form: TORTURE=1")
    faults = "\n".join(fault(f"{5 + 3 * n}s", "disconnect") for n in range(60))
    venues = tuple(SIMULATED)
    with torture.Simulators(tmp_path / "s", venues, torture.market(50, faults)) as sims:
        words = [*NAMES, "--venues", ",".join(venues), *sims.urls]
        with torture.Recorder(tmp_path / "r", words) as recorder:
            seen = []
            for told in range(10_000, 70_000, 10_000):
                torture.until(lambda n=told: recorder.told > n, f"{told} frames", 120)
                seen.append((memory_kb(recorder.pid) / 1024, descriptors(recorder.pid)))
            recorder.stop()
    torture.no_traceback(recorder.said)
    torture.check(recorder.tape, sims, told=recorder.told)
    rss = [mb for mb, _ in seen[1:]]
    files = [count for _, count in seen]
    assert max(rss) - min(rss) < 60 and max(files) - min(files) <= 3 * len(venues), seen
    figures(
        "every wire ended every 3 s",
        injected=60 * len(venues),
        survived=60 * len(venues),
        lost=0,
        rss=f"{rss[0]:.0f} to {rss[-1]:.0f} MB",
        remark=f"{min(files)} to {max(files)} descriptors",
    )
