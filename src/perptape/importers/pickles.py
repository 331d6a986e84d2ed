"""Consecutive pickles, read by a machine that can build nothing but JSON's values.

It is not :mod:`pickle` with a filter: the opcodes that import, call or build objects are simply
not here (of protocols 0-5 those remain that a dict out of ``json.loads`` needs), so there is
nothing to get around. Each size that a file can choose has a bound: a bomb is refused, not built.
"""

import pickletools
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO

PICKLE_AT_MOST = 16 << 20  # bytes of one pickle, and of the strings that it repeats
OPCODES_AT_MOST = 1_000_000  # of one pickle: an opcode of 1 byte can make a value of 64
NUMBER_AT_MOST = 64  # bytes of one number
NESTING_AT_MOST = 32
CHUNK = 1 << 20


class Unreadable(Exception):
    """A pickle is refused; ``at`` is the byte of the file where."""

    def __init__(self, why: str, at: int) -> None:
        super().__init__(why)
        self.why = why
        self.at = at


class Torn(Exception):
    """The file ends inside a pickle."""


class _Refused(Exception):
    pass


class _Short(Exception):
    """The buffer ends inside a pickle."""


def read_pickles(file: BinaryIO) -> Iterator[object]:
    """Yield the plain value of each pickle; raise Unreadable at the first that is refused.

    Raises Torn after the last whole one if bytes of another follow it.
    """
    buffer, at, start = b"", 0, 0
    while True:
        machine = _Machine(buffer, at)
        try:
            value = machine.run()
        except _Short:
            more = file.read(max(CHUNK, len(buffer) - at))
            if not more:
                break
            buffer, at, start = buffer[at:] + more, 0, start + at
        except _Refused as why:
            raise Unreadable(str(why), start + machine.op_at) from None
        else:
            at = machine.at
            yield value
    if at < len(buffer):
        raise Torn


class _Machine:
    """Runs one pickle of ``buffer`` from ``at`` on, and leaves ``at`` behind it."""

    __slots__ = ("at", "below", "buffer", "memo", "op_at", "repeated", "stack", "start")

    def __init__(self, buffer: bytes, at: int) -> None:
        self.buffer = buffer
        self.at = self.op_at = self.start = at
        self.stack: list[object] = []
        self.below: list[list[object]] = []  # the stacks under each mark
        self.memo: dict[int, object] = {}
        self.repeated = 0  # bytes of strings taken from the memo

    def run(self) -> object:
        buffer, size = self.buffer, len(self.buffer)
        for _ in range(OPCODES_AT_MOST):
            self.op_at = at = self.at
            if at >= size:
                raise _Short
            self.at = at + 1
            code = buffer[at]
            if code == STOP:
                return self.stopped()
            execute = OPCODES.get(code)
            if execute is None:
                raise _Refused(f"opcode {_opcode(code)} is not one that makes plain JSON values")
            try:
                execute(self)
            except (IndexError, KeyError):
                raise _Refused(f"opcode {_opcode(code)} finds nothing to work on") from None
            except (ValueError, OverflowError) as error:
                raise _Refused(f"opcode {_opcode(code)} cannot be read: {error}") from None
        raise _Refused(f"one pickle has more than {OPCODES_AT_MOST:,} opcodes")

    def stopped(self) -> object:
        if self.below or len(self.stack) != 1:
            raise _Refused("the pickle does not end with one value")
        value = self.stack.pop()
        if _too_deep(value):
            raise _Refused(f"its values are nested deeper than {NESTING_AT_MOST}")
        return value

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end - self.start > PICKLE_AT_MOST:
            raise _Refused(f"one pickle is longer than {PICKLE_AT_MOST >> 20} MiB")
        if end > len(self.buffer):
            raise _Short
        taken = self.buffer[self.at : end]
        self.at = end
        return taken

    def take_int(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def take_line(self, at_most: int = PICKLE_AT_MOST) -> bytes:
        end = self.buffer.find(b"\n", self.at, self.at + at_most)
        if end < 0:
            if len(self.buffer) - self.at >= at_most:
                raise _Refused(f"a line is longer than {at_most} bytes")
            raise _Short
        return self.take(end + 1 - self.at)[:-1]

    def take_number(self) -> bytes:
        return self.take_line(NUMBER_AT_MOST)

    def remember(self, key: int) -> None:
        self.memo[key] = self.stack[-1]

    def recall(self, key: int) -> None:
        value = self.memo[key]
        if not isinstance(value, str):  # json.loads shares none; a bomb or a ring is made of them
            raise _Refused("it repeats a list or a dict, which no frame does")
        self.repeated += len(value)
        if self.repeated > PICKLE_AT_MOST:
            raise _Refused(f"its repeated strings are longer than {PICKLE_AT_MOST >> 20} MiB")
        self.stack.append(value)

    def since_mark(self) -> list[object]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def extend(self, items: list[object]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise _Refused("it appends to what is no list")
        target.extend(items)

    def update(self, items: list[object]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise _Refused("it sets a key of what is no dict")
        target.update(_dict(items))


def _dict(items: list[object]) -> dict[str, object]:
    names = items[::2]
    if len(items) % 2 or not all(type(name) is str for name in names):
        raise _Refused("a key is no string")
    return dict(zip(names, items[1::2], strict=True))  # type: ignore[arg-type]  # checked above


def _too_deep(value: object) -> bool:
    level = [value]
    for _ in range(NESTING_AT_MOST):
        parents = [item for item in level if isinstance(item, (dict, list))]
        if not parents:
            return False
        level = [child for p in parents for child in (p.values() if isinstance(p, dict) else p)]
    return any(isinstance(item, (dict, list)) for item in level)


def _opcode(code: int) -> str:
    return NAMES.get(code, f"0x{code:02x}")


def _mark(m: _Machine) -> None:
    m.below.append(m.stack)
    m.stack = []


def _int(m: _Machine) -> None:
    line = m.take_number()
    m.stack.append(BOOLEANS[line] if line in BOOLEANS else int(line))


def _long(m: _Machine, size: int) -> None:
    if size > NUMBER_AT_MOST:
        raise _Refused(f"a number has more than {NUMBER_AT_MOST} bytes")
    m.stack.append(int.from_bytes(m.take(size), "little", signed=True))


def _text(m: _Machine, size: int) -> None:
    m.stack.append(m.take(size).decode("utf-8", "surrogatepass"))


def _list(m: _Machine) -> None:
    items = m.since_mark()
    m.stack.append(items)


def _new_dict(m: _Machine) -> None:
    items = m.since_mark()
    m.stack.append(_dict(items))


def _append(m: _Machine) -> None:
    value = m.stack.pop()
    m.extend([value])


def _setitem(m: _Machine) -> None:
    value, name = m.stack.pop(), m.stack.pop()
    m.update([name, value])


BOOLEANS = {b"00": False, b"01": True}  # protocols 0 and 1 have no opcode for them
BY_NAME: dict[str, Callable[[_Machine], object]] = {
    "PROTO": lambda m: m.take(1),
    "FRAME": lambda m: m.take(8),
    "MARK": _mark,
    "NONE": lambda m: m.stack.append(None),
    "NEWTRUE": lambda m: m.stack.append(True),
    "NEWFALSE": lambda m: m.stack.append(False),
    "INT": _int,
    "BININT": lambda m: m.stack.append(struct.unpack("<i", m.take(4))[0]),
    "BININT1": lambda m: m.stack.append(m.take_int(1)),
    "BININT2": lambda m: m.stack.append(m.take_int(2)),
    "LONG": lambda m: m.stack.append(int(m.take_number().rstrip(b"L"))),
    "LONG1": lambda m: _long(m, m.take_int(1)),
    "LONG4": lambda m: _long(m, m.take_int(4)),
    "FLOAT": lambda m: m.stack.append(float(m.take_number())),
    "BINFLOAT": lambda m: m.stack.append(struct.unpack(">d", m.take(8))[0]),
    "UNICODE": lambda m: m.stack.append(m.take_line().decode("raw-unicode-escape")),
    "SHORT_BINUNICODE": lambda m: _text(m, m.take_int(1)),
    "BINUNICODE": lambda m: _text(m, m.take_int(4)),
    "BINUNICODE8": lambda m: _text(m, m.take_int(8)),
    "EMPTY_LIST": lambda m: m.stack.append([]),
    "LIST": _list,
    "APPEND": _append,
    "APPENDS": lambda m: m.extend(m.since_mark()),
    "EMPTY_DICT": lambda m: m.stack.append({}),
    "DICT": _new_dict,
    "SETITEM": _setitem,
    "SETITEMS": lambda m: m.update(m.since_mark()),
    "MEMOIZE": lambda m: m.remember(len(m.memo)),
    "PUT": lambda m: m.remember(int(m.take_number())),
    "BINPUT": lambda m: m.remember(m.take_int(1)),
    "LONG_BINPUT": lambda m: m.remember(m.take_int(4)),
    "GET": lambda m: m.recall(int(m.take_number())),
    "BINGET": lambda m: m.recall(m.take_int(1)),
    "LONG_BINGET": lambda m: m.recall(m.take_int(4)),
}
OPCODES = {ord(op.code): BY_NAME[op.name] for op in pickletools.opcodes if op.name in BY_NAME}
NAMES = {ord(op.code): op.name for op in pickletools.opcodes}
STOP = ord(".")
