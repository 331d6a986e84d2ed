"""What may go wrong on schedule: the kinds of faults, which keys each takes, and the plan."""

import re
import zlib
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from perptape.errors import BadUsage

Damage = Literal["truncate", "flip"]
Told = Literal["book", "trades", "ticker"]
ALL = "*"
STEP = re.compile(r"\d+(\.\d+)?")


class Fault(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    rename={"at_ns": "at", "lasts_ns": "for", "instrument": "symbol"},
):
    """One thing that goes wrong at a known time; the keys of the file are its encoded names."""

    at_ns: int
    venue: str
    """``*``: every venue that can suffer it."""
    kind: str
    lasts_ns: int | None = None
    """``None``: what happens once does so, all else never ends."""
    instrument: str | None = None
    """Only this market; ``None`` is the whole venue, or whichever frame comes next."""
    damage: Damage = "truncate"
    channel: Told | None = None
    """Only frames of streams that tell this; likewise ``stream``, by its name."""
    stream: str | None = None
    frames: int = 1
    """So many in a row."""
    step_ms: float | None = None
    status: Literal[429, 418] | None = None
    tick: str | None = None
    lot: str | None = None
    size: str | None = None
    interval_h: int | None = None


class RandomFaults(msgspec.Struct, frozen=True):
    """Faults at seeded times; ``model`` says what else a scenario gave."""

    model: Fault
    kinds: tuple[str, ...]
    count: int
    """Of each venue."""
    venues: tuple[str, ...]
    from_ns: int
    to_ns: int


class Form(NamedTuple):
    """How one kind is written."""

    takes: tuple[str, ...] = ()
    """Keys, besides ``at``, ``venue`` and ``kind``."""
    needs: tuple[str, ...] = ()
    """One of these must be there."""
    is_once: bool = False
    """Without ``for`` it is over at once; else it then never ends."""
    is_of_frames: bool = False


def _frames(*keys: str) -> Form:
    return Form(("symbol", "channel", "stream", "frames", *keys), is_once=True, is_of_frames=True)


KINDS = {
    "disconnect": Form(("for", "symbol"), is_once=True),
    "disconnect_24h": Form(("for", "symbol"), is_once=True),
    "reset": Form(("for", "symbol"), is_once=True),
    "half_open": Form(("for", "symbol")),
    "silence": Form(("for", "symbol")),
    "refuse": Form(("for", "symbol")),
    "rate_limit": Form(("for", "status")),
    "clock_step": Form(("for", "step_ms"), ("step_ms",)),
    "drop": _frames(),
    "duplicate": _frames(),
    "reorder": _frames(),
    "delay": _frames("for"),
    "corrupt": _frames("damage"),
    "gzip_bomb": _frames(),
    "oversized": _frames(),
    "wrong_checksum": _frames(),
    "sequence_reset": Form(("symbol",), is_once=True),
    "spec_change": Form(("symbol", "tick", "lot", "size"), ("tick", "lot", "size"), is_once=True),
    "funding_interval": Form(("symbol", "interval_h"), ("interval_h",), is_once=True),
    "delist": Form(("for", "symbol"), ("symbol",)),
}
EVERYWHERE = ("at", "venue", "kind")


def given(fault: Fault) -> set[str]:
    """The keys that a scenario gave."""
    return {
        field.encode_name
        for field in msgspec.structs.fields(fault)
        if field.encode_name not in EVERYWHERE and getattr(fault, field.name) != field.default
    }


def check(fault: Fault) -> None:
    """Raise BadUsage with one sentence when a fault cannot be meant."""
    form = _form(fault.kind)
    for key in sorted(given(fault) - set(form.takes)):
        takes = ", ".join(form.takes)
        raise BadUsage(f"The fault {fault.kind!r} takes no {key!r}; it takes {takes}.")
    _check_needs(fault)
    _check_values(fault)


def check_random(random: RandomFaults) -> None:
    """Raise BadUsage with one sentence when random faults cannot be meant."""
    if not random.kinds or random.count < 1:
        raise BadUsage("random_faults needs at least one of kinds, and a count of 1 or more.")
    if random.from_ns >= random.to_ns:
        raise BadUsage("random_faults needs a 'to' (or the scenario a duration) after its 'from'.")
    taken = {key for kind in random.kinds for key in _form(kind).takes}
    for key in sorted(given(random.model) - taken):
        raise BadUsage(f"None of the kinds of random_faults takes {key!r}; leave it out.")
    for kind in random.kinds:
        _check_needs(msgspec.structs.replace(random.model, kind=kind))
    _check_values(random.model)


def _form(kind: str) -> Form:
    if kind not in KINDS:
        raise BadUsage(f"{kind!r} is not a kind of fault; allowed are {', '.join(KINDS)}.")
    return KINDS[kind]


def _check_needs(fault: Fault) -> None:
    needs = _form(fault.kind).needs
    if needs and not given(fault) & set(needs):
        raise BadUsage(f"The fault {fault.kind!r} needs {' or '.join(needs)}; add it.")


def _check_values(fault: Fault) -> None:
    if fault.frames < 1:
        raise BadUsage(f"A fault strikes {fault.frames} frames; write 1 or more.")
    for key in ("tick", "lot", "size"):
        text = getattr(fault, key)
        if text is not None and (not STEP.fullmatch(text) or not float(text)):
            raise BadUsage(f'{key} = {text!r} is not a step; write one such as "0.1".')


class Ability(NamedTuple):
    """What decides which faults a venue can suffer."""

    streams: Mapping[str, str]
    """What each tells, by name."""
    compresses: bool
    has_checksum: bool
    has_resets: bool

    def lacks(self, fault: Fault) -> str | None:
        """Why this venue cannot suffer a fault; ``None``: it can."""
        reasons = {
            "gzip_bomb": None if self.compresses else "it compresses nothing",
            "wrong_checksum": None if self.has_checksum else "its books have no checksum",
            "sequence_reset": None if self.has_resets else "its ids never start over",
        }
        if fault.stream is not None and fault.stream not in self.streams:
            return f"its streams are {', '.join(self.streams)}"
        if fault.channel is not None and fault.channel not in self.streams.values():
            return f"none of its streams tells {fault.channel}"
        return reasons.get(fault.kind)

    def kinds(self) -> list[str]:
        """All that it can suffer."""
        return [kind for kind in KINDS if self.lacks(Fault(0, ALL, kind)) is None]


def plan(
    faults: Iterable[Fault],
    randoms: Iterable[RandomFaults],
    seed: int,
    abilities: Mapping[str, Ability],
    instruments: tuple[str, ...],
) -> list[Fault]:
    """The faults of the venues that are served, in order; raises BadUsage with one sentence."""
    found: list[Fault] = []
    for fault in faults:
        found += _everywhere(fault, abilities) if fault.venue == ALL else _there(fault, abilities)
    for n, random in enumerate(randoms):
        for venue in random.venues:
            if venue in abilities:
                rng = np.random.default_rng((seed, n, zlib.crc32(venue.encode())))
                found += _drawn(random, venue, abilities[venue], instruments, rng)
    return sorted(found, key=lambda fault: fault.at_ns)


def _there(fault: Fault, abilities: Mapping[str, Ability]) -> list[Fault]:
    if fault.venue not in abilities:
        return []
    ability = abilities[fault.venue]
    if reason := ability.lacks(fault):
        allowed = ", ".join(ability.kinds())
        whom = f"{fault.venue} cannot suffer the fault {fault.kind!r}"
        raise BadUsage(f"{whom}: {reason}; its kinds are {allowed}.")
    return [fault]


def _everywhere(fault: Fault, abilities: Mapping[str, Ability]) -> list[Fault]:
    found = [
        msgspec.structs.replace(fault, venue=venue)
        for venue, ability in abilities.items()
        if ability.lacks(fault) is None
    ]
    if not found:
        raise BadUsage(f"None of the venues can suffer the fault {fault.kind!r}; leave it out.")
    return found


def _drawn(
    random: RandomFaults,
    venue: str,
    ability: Ability,
    instruments: tuple[str, ...],
    rng: np.random.Generator,
) -> list[Fault]:
    """One in each of ``count`` equal stretches, each kind as often as the others."""
    models = [model for model in _models(random, venue) if ability.lacks(model) is None]
    if not models:
        return []
    stretch_ns = (random.to_ns - random.from_ns) // random.count
    found: list[Fault] = []
    while len(found) < random.count:
        for k in rng.permutation(len(models))[: random.count - len(found)].tolist():
            model = models[k]
            room_ns = max(1, stretch_ns - (model.lasts_ns or 0))
            at_ns = random.from_ns + len(found) * stretch_ns + int(rng.integers(room_ns))
            instrument = model.instrument
            if instrument == ALL:
                instrument = instruments[int(rng.integers(len(instruments)))]
            found.append(msgspec.structs.replace(model, at_ns=at_ns, instrument=instrument))
    return found


def _models(random: RandomFaults, venue: str) -> list[Fault]:
    """One fault of each kind, with those of the given keys that it takes."""
    found = []
    for kind in random.kinds:
        takes = (*EVERYWHERE, *KINDS[kind].takes)
        left_out = {
            field.name: field.default
            for field in msgspec.structs.fields(Fault)
            if field.encode_name not in takes
        }
        found.append(msgspec.structs.replace(random.model, venue=venue, kind=kind, **left_out))
    return found
