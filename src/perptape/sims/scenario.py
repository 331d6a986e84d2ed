"""What the simulated exchanges play: a scenario file (TOML) as frozen structs.

Times are given as ``"12s"``, ``"250ms"`` or ``"2m"`` after the scenario's start.
"""

import math
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec

from perptape import config
from perptape.errors import BadUsage
from perptape.fees import fee_of
from perptape.sims import faults
from perptape.sims.faults import Fault, RandomFaults

VENUES = ("bitget", "htx", "gateio", "bybit", "binance", "okx", "hyperliquid")

INTERVALS_H = (1, 2, 4, 8, 12, 24)
NOT_NEGATIVE = (
    "spread_bps", "noise_bps", "latency_ms", "jitter_ms", "updates_per_s", "trades_per_s",
)  # fmt: skip

Start = Literal["serve", "first-subscribe"]


class Coin(msgspec.Struct, frozen=True):
    """Where a coin's price starts, and how it moves."""

    price: float
    volatility_bps: float
    """Standard deviation of the log price over one second, in bps."""


COINS = {
    "BTC": Coin(64_000.0, 1.0),
    "ETH": Coin(3_100.0, 1.3),
    "SOL": Coin(152.0, 1.8),
    "XRP": Coin(0.61, 1.6),
    "DOGE": Coin(0.124, 2.0),
}
INVENTED = re.compile(r"COIN[1-9]\d{0,3}")
"""Further coins, as many as a load wants; each has a path of its own ..."""
MODEL = "SOL"
"""... and otherwise the contracts of this one."""


def model_of(base: str) -> str:
    """The coin whose price and contracts one has."""
    return MODEL if INVENTED.fullmatch(base) else base


class Character(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one venue differs from the others."""

    spread_bps: float = 0.4
    premium_bps: float = 0.0
    """Its mid over the efficient price."""
    noise_bps: float = 0.1
    """Standard deviation of one quote's mid around that."""
    latency_ms: float = 5.0
    """Least time from an event to its sending."""
    jitter_ms: float = 2.0
    """Mean of what comes on top."""
    clock_offset_ms: float = 0.0
    """The venue's clock minus true time."""
    updates_per_s: float = 30.0
    """Mean number of new states a second, of each market."""
    trades_per_s: float = 3.0
    """Mean number of taker orders a second, of each market."""
    interval_h: int = 8
    """Of funding, where ``[funding_interval_h]`` says nothing else."""
    taker_fee: float = 0.0006
    """As a fraction of the notional; planted edges are above both venues' fees."""


CHARACTERS = {
    "bitget": Character(
        latency_ms=18, jitter_ms=6, clock_offset_ms=11, taker_fee=fee_of("bitget").taker
    ),
    "htx": Character(
        spread_bps=0.9, premium_bps=0.8, latency_ms=25, jitter_ms=10, clock_offset_ms=-32,
        updates_per_s=20, taker_fee=fee_of("htx").taker,
    ),
    "gateio": Character(
        spread_bps=0.3, premium_bps=-0.6, latency_ms=8, jitter_ms=3, clock_offset_ms=4,
        taker_fee=fee_of("gateio").taker,
    ),
    "bybit": Character(
        spread_bps=0.2, premium_bps=0.3, clock_offset_ms=-1, updates_per_s=50,
        taker_fee=fee_of("bybit").taker,
    ),
    "binance": Character(
        spread_bps=0.2, premium_bps=0.2, latency_ms=6, jitter_ms=2, clock_offset_ms=2,
        updates_per_s=50, trades_per_s=6, taker_fee=fee_of("binance").taker,
    ),
    "okx": Character(
        spread_bps=0.2, premium_bps=-0.2, latency_ms=9, jitter_ms=3, clock_offset_ms=-3,
        updates_per_s=40, trades_per_s=4, taker_fee=0.0005,
    ),
    "hyperliquid": Character(
        spread_bps=0.5, premium_bps=-0.9, latency_ms=60, jitter_ms=20, clock_offset_ms=1,
        updates_per_s=12, trades_per_s=2, interval_h=1, taker_fee=0.00045,
    ),
}  # fmt: skip


class Episode(msgspec.Struct, frozen=True):
    """A planted arbitrage: the bid of ``sell`` stands ``edge_bps`` over the ask of ``buy``."""

    at_ns: int
    lasts_ns: int
    instrument: str
    sell: str
    buy: str
    edge_bps: float
    """After both taker fees."""

    @property
    def end_ns(self) -> int:
        return self.at_ns + self.lasts_ns


class Scenario(msgspec.Struct, frozen=True):
    """All that is played, given the seed."""

    seed: int = 1
    duration_ns: int | None = None
    """How long it is meant to be played; ``None`` is without end."""
    start: Start = "serve"
    """When its clock starts: with the server, or with the first accepted subscription."""
    instruments: tuple[str, ...] = ("BTC-USDT-PERP", "ETH-USDT-PERP")
    venues: Mapping[str, Character] = msgspec.field(default_factory=CHARACTERS.copy)
    funding_interval_h: Mapping[str, int] = {}
    """By market (``htx:ETH-USDT-PERP``), where it is not the venue's usual one."""
    episodes: tuple[Episode, ...] = ()
    faults: tuple[Fault, ...] = ()
    random_faults: tuple[RandomFaults, ...] = ()

    def __post_init__(self) -> None:
        check(self)

    def interval_h(self, venue: str, base: str) -> int:
        """Hours between two funding payments of a market."""
        usual = self.venues[venue].interval_h
        return self.funding_interval_h.get(f"{venue}:{base}-USDT-PERP", usual)


class _Episode(msgspec.Struct, forbid_unknown_fields=True):
    at: str
    sell: str
    buy: str
    edge_bps: float
    instrument: str
    lasts: str = msgspec.field(name="for")


class _Random(msgspec.Struct, forbid_unknown_fields=True):
    kinds: tuple[str, ...]
    count: int
    venues: tuple[str, ...] = VENUES
    since: str = msgspec.field(name="from", default="0s")
    until: str | None = msgspec.field(name="to", default=None)


class _File(msgspec.Struct, forbid_unknown_fields=True):
    seed: int = 1
    duration: str | None = None
    start: Start = "serve"
    instruments: tuple[str, ...] = ("BTC-USDT", "ETH-USDT")
    updates_per_s: float | None = None
    venues: dict[str, dict[str, int | float]] = {}
    funding_interval_h: dict[str, int] = {}
    episodes: tuple[_Episode, ...] = ()
    faults: tuple[dict[str, object], ...] = ()
    random_faults: tuple[dict[str, object], ...] = ()


def load(path: Path) -> Scenario:
    """Read a scenario file; raises BadUsage with one sentence when it cannot be meant."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise BadUsage(f"The scenario {path} cannot be read ({e}); give a TOML file.") from e
    try:
        return parse(text)
    except BadUsage as e:
        raise BadUsage(f"The scenario {path} is not usable: {e}") from e


def demo(seed: int | None = None) -> Scenario:
    """The built-in scenario of ``perptape demo``: 40 s, four venues, episodes and no faults."""
    text = resources.files(__package__).joinpath("demo.toml").read_text(encoding="utf-8")
    scenario = parse(text)
    return scenario if seed is None else msgspec.structs.replace(scenario, seed=seed)


def parse(text: str) -> Scenario:
    """TOML text to a scenario; raises BadUsage with one sentence."""
    try:
        return _scenario(msgspec.convert(tomllib.loads(text), _File))
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as e:
        raise BadUsage(f"{e}.") from e


def _scenario(file: _File) -> Scenario:
    return Scenario(
        seed=file.seed,
        duration_ns=None if file.duration is None else duration_ns(file.duration, "duration"),
        start=file.start,
        instruments=tuple(instrument_name(name) for name in file.instruments),
        venues=_characters(file),
        funding_interval_h=_intervals(file),
        episodes=tuple(
            Episode(
                duration_ns(e.at, "at"), duration_ns(e.lasts, "for"), instrument_name(e.instrument),
                e.sell, e.buy, e.edge_bps,
            )
            for e in file.episodes
        ),
        faults=tuple(_fault(table) for table in file.faults),
        random_faults=tuple(_random(table, file.duration) for table in file.random_faults),
    )  # fmt: skip


def _fault(table: dict[str, object]) -> Fault:
    read = {key: duration_ns(str(table[key]), key) for key in ("at", "for") if key in table}
    names: dict[str, object] = {}
    if "symbol" in table and table["symbol"] != faults.ALL:
        names["symbol"] = instrument_name(str(table["symbol"]))
    return msgspec.convert(table | read | names, Fault)


def _random(table: dict[str, object], duration: str | None) -> RandomFaults:
    own = {field.encode_name for field in msgspec.structs.fields(_Random)}
    random = msgspec.convert({key: table[key] for key in table if key in own}, _Random)
    rest = {key: table[key] for key in table if key not in own}
    model = _fault({**rest, "at": "0s", "venue": faults.ALL, "kind": ", ".join(random.kinds)})
    until = random.until or duration
    return RandomFaults(
        model,
        random.kinds,
        random.count,
        random.venues,
        duration_ns(random.since, "from"),
        0 if until is None else duration_ns(until, "to"),
    )


def _characters(file: _File) -> dict[str, Character]:
    every = {} if file.updates_per_s is None else {"updates_per_s": file.updates_per_s}
    for venue in file.venues:
        _known("venue", venue, VENUES)
    try:
        return {
            venue: msgspec.convert(
                msgspec.to_builtins(CHARACTERS[venue]) | every | file.venues.get(venue, {}),
                Character,
            )
            for venue in VENUES
        }
    except msgspec.ValidationError as e:
        raise BadUsage(f"{e} in [venues]; allowed are {_fields(Character)}.") from e


def _intervals(file: _File) -> dict[str, int]:
    found = {}
    for market, interval_h in file.funding_interval_h.items():
        venue, _, instrument = market.partition(":")
        found[f"{venue}:{instrument_name(instrument)}"] = interval_h
    return found


def _fields(struct: type[msgspec.Struct]) -> str:
    return ", ".join(field.encode_name for field in msgspec.structs.fields(struct))


def duration_ns(text: str, key: str) -> int:
    """``"250ms"``, ``"12s"`` or ``"1m30s"`` in ns; ``"0s"`` is the start."""
    return 0 if text in ("0", "0s") else config.duration_ns(text, key)


def instrument_name(text: str) -> str:
    """``BTC-USDT`` is the perpetual ``BTC-USDT-PERP``."""
    base, _, rest = text.upper().partition("-")
    if model_of(base) not in COINS or rest not in ("USDT", "USDT-PERP"):
        allowed = ", ".join(f"{coin}-USDT" for coin in COINS)
        raise BadUsage(
            f"{text!r} is not simulated; the instruments are {allowed}, "
            "and COIN1-USDT to COIN9999-USDT."
        )
    return f"{base}-USDT-PERP"


def _known(what: str, name: str, allowed: tuple[str, ...]) -> None:
    if name not in allowed:
        raise BadUsage(f"{name!r} is not a simulated {what}; allowed are {', '.join(allowed)}.")


def check(scenario: Scenario) -> None:
    """Raise BadUsage where the parts of a scenario do not fit each other."""
    for venue, character in scenario.venues.items():
        _known("venue", venue, VENUES)
        _check_character(venue, character)
    for name in scenario.instruments:
        instrument_name(name)
    for market, interval_h in scenario.funding_interval_h.items():
        _known("venue", market.partition(":")[0], VENUES)
        _check_interval(market, interval_h)
    for fault in scenario.faults:
        _check_fault(fault, (*VENUES, faults.ALL), scenario.instruments)
        faults.check(fault)
    for random in scenario.random_faults:
        for venue in random.venues:
            _known("venue", venue, VENUES)
        _check_fault(random.model, (faults.ALL,), (*scenario.instruments, faults.ALL))
        faults.check_random(random)
    for n, episode in enumerate(scenario.episodes):
        _known("venue", episode.sell, VENUES)
        _known("venue", episode.buy, VENUES)
        _known("instrument", episode.instrument, scenario.instruments)
        if episode.sell == episode.buy:
            raise BadUsage(f"An episode sells and buys on {episode.sell}; name two venues.")
        for other in scenario.episodes[:n]:
            _check_apart(episode, other)


def _check_fault(fault: Fault, venues: tuple[str, ...], instruments: tuple[str, ...]) -> None:
    _known("venue", fault.venue, venues)
    if fault.instrument is not None:
        _known("instrument", fault.instrument, instruments)
    if fault.interval_h is not None:
        _check_interval(fault.venue, fault.interval_h)


def _check_character(venue: str, character: Character) -> None:
    _check_interval(venue, character.interval_h)
    for name in NOT_NEGATIVE:
        value = getattr(character, name)
        if not math.isfinite(value) or value < 0:
            raise BadUsage(f"{name} of {venue} is {value}; it must be a number of 0 or more.")
    if character.updates_per_s == 0:
        raise BadUsage(f"updates_per_s of {venue} is 0; give it more, or a silence as a fault.")


def _check_interval(market: str, interval_h: int) -> None:
    if interval_h not in INTERVALS_H:
        allowed = ", ".join(str(h) for h in INTERVALS_H)
        raise BadUsage(f"The funding interval of {market} is {interval_h} h; write {allowed}.")


def _check_apart(one: Episode, other: Episode) -> None:
    if (
        one.instrument == other.instrument
        and {one.sell, one.buy} & {other.sell, other.buy}
        and one.at_ns < other.end_ns
        and other.at_ns < one.end_ns
    ):
        raise BadUsage(
            f"Two episodes of {one.instrument} overlap on one venue; move one of them in time."
        )
