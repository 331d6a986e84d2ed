"""Record what several exchanges say about the same perpetual future, and what it was worth.

The data path, one word a stage::

    venue -> wire -> tape -> decode -> tables -> align -> measures -> report
                                ledger -------------^

``open`` a tape, take its tables as polars LazyFrames, and hand them to the measures::

    import perptape as pt

    tape = pt.open("tape-20261123-120000")
    found = pt.gaps(tape.quotes("BTC-USDT"), tape.ledger("BTC-USDT"))
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perptape import charts
    from perptape.measures.basis import basis, zscores
    from perptape.measures.capacity import capacity
    from perptape.measures.carry import carry
    from perptape.measures.clocks import clocks, on_our_clock
    from perptape.measures.edges import edges
    from perptape.measures.episodes import episodes
    from perptape.measures.gaps import gaps
    from perptape.measures.lead_lag import lead_lag
    from perptape.measures.persistence import edge_persistence
    from perptape.measures.price_discovery import price_discovery
    from perptape.measures.rates import episode_rate
    from perptape.measures.retimed import retimed
    from perptape.measures.settlements import settlements
    from perptape.measures.survival import survival
    from perptape.reader import Reader
    from perptape.recording import Recording as open  # noqa: A004, N813 - the library's own verb

__version__ = "0.1.0"
__all__ = [
    "Reader",
    "__version__",
    "basis",
    "capacity",
    "carry",
    "charts",
    "clocks",
    "edge_persistence",
    "edges",
    "episode_rate",
    "episodes",
    "gaps",
    "lead_lag",
    "on_our_clock",
    "open",
    "price_discovery",
    "retimed",
    "settlements",
    "survival",
    "zscores",
]

_HOMES = {
    "Reader": ("perptape.reader", "Reader"),
    "basis": ("perptape.measures.basis", "basis"),
    "capacity": ("perptape.measures.capacity", "capacity"),
    "carry": ("perptape.measures.carry", "carry"),
    "charts": ("perptape.charts", None),
    "clocks": ("perptape.measures.clocks", "clocks"),
    "edge_persistence": ("perptape.measures.persistence", "edge_persistence"),
    "edges": ("perptape.measures.edges", "edges"),
    "episode_rate": ("perptape.measures.rates", "episode_rate"),
    "episodes": ("perptape.measures.episodes", "episodes"),
    "gaps": ("perptape.measures.gaps", "gaps"),
    "lead_lag": ("perptape.measures.lead_lag", "lead_lag"),
    "on_our_clock": ("perptape.measures.clocks", "on_our_clock"),
    "open": ("perptape.recording", "Recording"),
    "price_discovery": ("perptape.measures.price_discovery", "price_discovery"),
    "retimed": ("perptape.measures.retimed", "retimed"),
    "settlements": ("perptape.measures.settlements", "settlements"),
    "survival": ("perptape.measures.survival", "survival"),
    "zscores": ("perptape.measures.basis", "zscores"),
}


if not TYPE_CHECKING:  # else every misspelt module would pass for an object

    def __getattr__(name: str) -> object:
        """Load a public name when it is first used: `import perptape` itself costs nothing."""
        if name not in _HOMES:
            raise AttributeError(f"module 'perptape' has no attribute {name!r}")
        place, attribute = _HOMES[name]
        module = import_module(place)
        return module if attribute is None else getattr(module, attribute)

    def __dir__() -> list[str]:
        """Name what is public, loaded or not: what an editor offers."""
        return __all__
