"""What goes wrong, named by what the program does next."""

import re

import msgspec

CONTROL_ERRORS = (
    *(msgspec.MsgspecError, ValueError, LookupError, RecursionError, ArithmeticError),
    *(TypeError, AttributeError),  # a reader that is wrong must not stop a recording
)
"""What reading a hostile control frame may raise: it is on the tape, and tells us nothing."""


class BadFrame(Exception):
    """A frame that its venue's decoder cannot read: skipped and counted, still on the tape."""


class BadBlock(Exception):
    """A part of a packed tape that is not what was written: named, and left out."""


class LostSync(Exception):
    """A wire that can no longer be believed: it is closed, an outage is written, it reconnects."""


class Silent(LostSync):
    """A wire on which nothing came: nothing at all, or no data after its subscribes."""


class Refused(LostSync):
    """Every topic of a wire was refused: nothing can come, so it is tried again slowly."""


ERRNO = re.compile(r"\[Errno -?\d+\] ?")
"""What a system's words begin with tells a person nothing."""


class Unreachable(Exception):
    """A connection or REST call that failed: tried again, ``wait_ns`` later at the earliest."""

    def __init__(self, reason: str, wait_ns: int = 0) -> None:
        super().__init__(ERRNO.sub("", reason))
        self.wait_ns = wait_ns


class PerptapeError(Exception):
    """Something the user can mend: printed as one sentence with the next step, never a traceback.

    ``exit_code`` is what the command ends with.
    """

    exit_code = 1


class Failed(PerptapeError):
    """The work could not be done (a damaged tape, an unwritable directory, no space)."""


class BadUsage(PerptapeError):
    """An argument that cannot be meant; the message names it and what is allowed."""

    exit_code = 2


class NothingRecorded(PerptapeError):
    """Every venue was unreachable or refused."""

    exit_code = 5
