"""How much of what goes wrong the ledger finds: a recording of simulated exchanges, scored.

``python benchmarks/ledger.py TAPE TRUTH.jsonl`` reads a tape that ``perptape record`` made of
``perptape sim --truth TRUTH.jsonl``, batch by batch as a follower of the tape would, and holds
every untrusted interval against every fault that was played.

A fault is **found** if a channel that it struck is untrusted while it lasted, or within
``--slack`` seconds after; the delay is from its beginning to the last frame of the batch that told
of it. A fault that loses nothing (a frame told twice or late) is to leave no trace; one that
strikes a frame of a stream that the venue does not number can leave none. An untrusted interval
that no fault explains is **false**.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from statistics import median

import msgspec
from machine import append_result

from perptape.events import NS
from perptape.ledger import Ledger, asked, end_of
from perptape.sims.truth import Fact, read_truth
from perptape.tape import Tape
from perptape.timeline import Interval
from perptape.venues import VENUES
from perptape.verify import EXPECTED

NOT_LISTED = "not listed"
"""Not every venue has every instrument of a run."""
ONE_STREAM = {"drop", "reorder", "duplicate", "delay"}
"""These strike frames of one stream; all others may end the connection that carries it."""
ORDER = {"drop", "reorder"}
"""Seen where the venue numbers its frames, and there alone."""
HARMLESS = {"duplicate", "delay", "clock_step", "funding_interval", "rate_limit", "sequence_reset"}
"""Nothing need be lost by these: they are found only if something was."""


class Found(msgspec.Struct, frozen=True):
    """An untrusted interval, and when it was known."""

    interval: Interval
    ts_known: int


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("tape", type=Path)
    words.add_argument("truth", type=Path)
    words.add_argument("--slack", type=float, default=15.0, help="seconds")
    words.add_argument("--all", action="store_true", help="list what was missed, and what is false")
    words.add_argument("--no-save", action="store_true", help="leave RESULTS.md alone")
    given = words.parse_args()
    frames, found = follow(Tape(given.tape))
    faults = faults_of(given.truth)
    slack_ns = round(given.slack * NS)
    lines = report(frames, found, faults, slack_ns, show=given.all)
    print("\n".join(lines))
    if not given.no_save:
        append_result("Ledger", "\n".join(lines))


def faults_of(truth: Path) -> list[Fact]:
    return [fact for fact in read_truth(truth) if fact.what == "fault"]


def follow(tape: Tape) -> tuple[int, list[Found]]:
    """Read a tape as its follower; give how many frames it has, and what is untrusted of them."""
    ledger = Ledger(asked(tape))
    known: dict[tuple[str, str, int], int] = {}
    streams = ledger._trust._live  # noqa: SLF001 - what a follower will be told is not public yet
    for batch in tape.batches():
        ledger.batch(batch)
        ts = int(batch.ts_recv[-1])
        for key, stream in streams.items():
            if not stream.trusted:
                known.setdefault((*key, stream.since), ts)
            for interval in stream.past[-3:]:
                if not interval.trusted:
                    known.setdefault((*key, interval.start), ts)
    result = ledger.finish(*end_of(tape))
    bad = [
        i
        for i in result.intervals
        if not (i.trusted or i.reason in EXPECTED or i.detail.startswith(NOT_LISTED))
    ]
    end = max((i.end for i in result.intervals), default=0)
    return result.frames, [Found(i, known.get((i.market, i.channel, i.start), end)) for i in bad]


def struck(fault: Fact, interval: Interval, slack_ns: int) -> bool:
    """Tell whether an interval may be of a fault."""
    if fault.kind in ONE_STREAM and fault.market != interval.market:
        return False
    if not interval.market.startswith(f"{fault.venue}:"):
        return False
    return interval.start <= fault.ts_end + slack_ns and interval.end >= fault.ts_start


def kind_of(fault: Fact) -> str:
    """Give the kind, and what is to be expected of it."""
    kind = fault.kind or ""
    if kind in ORDER:
        return f"{kind}, {'numbered' if is_numbered(fault) else 'not numbered: cannot be seen'}"
    return f"{kind}, loses nothing" if kind in HARMLESS else kind


def is_numbered(fault: Fact) -> bool:
    """Tell whether the venue numbers the frames of a stream one after the other."""
    venue = VENUES[fault.venue or ""]
    return venue.link is not None and (fault.stream or "").replace("@", ".") in {
        name.replace("@", ".") for name in venue.streams["books"]
    }


def report(
    frames: int, found: list[Found], faults: list[Fact], slack_ns: int, *, show: bool
) -> list[str]:
    explained: set[int] = set()
    rows: dict[str, list[tuple[Fact, float | None]]] = defaultdict(list)
    for fault in faults:
        hits = [k for k, f in enumerate(found) if struck(fault, f.interval, slack_ns)]
        explained.update(hits)
        delays = [(found[k].ts_known - fault.ts_start) / NS for k in hits]
        rows[kind_of(fault)].append((fault, min(delays) if delays else None))
    false = [f.interval for k, f in enumerate(found) if k not in explained]
    counts = f"{frames:,} frames, {len(faults)} faults, {len(found)} untrusted intervals"
    lines = [
        f"{counts}, of which {len(false)} are false.",
        "",
        "| fault | played | untrusted | not | delay s, median | worst |",
        "|---|---|---|---|---|---|",
    ]
    for kind, scored in sorted(rows.items()):
        delays = [max(0.0, delay) for _, delay in scored if delay is not None]
        times = f"{median(delays):.2f} | {max(delays):.2f}" if delays else "- | -"
        missed = len(scored) - len(delays)
        lines.append(f"| {kind} | {len(scored)} | {len(delays)} | {missed} | {times} |")
    if show:
        lines += ["", *(f"- missed: {told(f)}" for s in rows.values() for f, d in s if d is None)]
        lines += [f"- false: {i}" for i in false]
    return lines


def told(fault: Fact) -> str:
    return f"{fault.kind} {fault.venue} {fault.market} {fault.stream} {fault.ts_start}"


if __name__ == "__main__":
    main()
