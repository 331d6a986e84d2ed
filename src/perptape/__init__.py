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
    from perptape.measures.gaps import gaps
    from perptape.recording import Recording as open  # noqa: A004, N813 - the library's own verb

__version__ = "0.1.0"
__all__ = ["__version__", "gaps", "open"]

_HOMES = {"open": ("perptape.recording", "Recording"), "gaps": ("perptape.measures.gaps", "gaps")}


if not TYPE_CHECKING:  # else every misspelt module would pass for an object

    def __getattr__(name: str) -> object:
        """Load a public name when it is first used: `import perptape` itself costs nothing."""
        if name not in _HOMES:
            raise AttributeError(f"module 'perptape' has no attribute {name!r}")
        module, attribute = _HOMES[name]
        return getattr(import_module(module), attribute)
