"""How loops over arrays are compiled: three ways, for numba, and nothing else."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Loop = TypeVar("Loop", bound=Callable[..., Any])


def compiled(loop: Loop) -> Loop:
    """Compile for callers from Python; kept on disk, by the date of the loop's own file alone."""
    return cast("Loop", njit(cache=True, nogil=True, error_model="numpy")(loop))


def inlined(loop: Loop) -> Loop:
    """Compile as part of its callers only, without counting references.

    Counted, an array handed to a function costs more than most of these do. So they may make no
    arrays; those that they are given live in the caller.
    """
    how: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "_nrt": False}
    return cast("Loop", njit(nogil=True, error_model="numpy", **how)(loop))


def written_out(loop: Loop) -> Loop:
    """Put a loop into those that use it: a call that is handed arrays costs more than its work."""
    return cast("Loop", njit(inline="always")(loop))
