"""One file per question: a function from tables to a table."""

from perptape.measures.gaps import Result, gaps

__all__ = ["Result", "gaps"]
