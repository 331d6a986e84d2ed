"""A disk of which we know what it must have kept: every state that a power cut may leave.

What the tape's writer asks of the system is noted as it asks. What no sync covers may then be
there or not, in any choice: file data by sectors, a file's length without its data, names without
what was done to them before. Kernels are kinder than that; POSIX promises no more.
"""

import errno
import itertools
import mmap
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from perptape import tail, tape
from perptape.records import COMMIT, KEYS

SECTOR, PAGE = 512, 4096
MANY = 6
"""So many things that no sync covers are chosen from in all ways; of more, a sample."""


class Node:
    """A file or a directory: what a sync made certain, and what was done to it since."""

    def __init__(self, *, is_directory=False):
        self.is_directory = is_directory
        self.kept = {} if is_directory else b""
        self.since = []
        """Of a file (sectors, length) after each change, of a directory (names put, names gone)."""
        self.now = dict(self.kept) if is_directory else bytearray()

    def write(self, at, data):
        grown = at + len(data) - len(self.now)
        if grown > 0:
            self.now += bytes(grown)
        self.now[at : at + len(data)] = data
        touched = range(at // SECTOR, -(-(at + len(data)) // SECTOR))
        self.since.append(({k: self.sector(k) for k in touched}, len(self.now)))

    def resize(self, length):
        self.now = self.now[:length].ljust(length, b"\0")
        self.since.append(({}, length))

    def sector(self, k):
        return bytes(self.now[k * SECTOR : (k + 1) * SECTOR])

    def put(self, name, node):
        self.now[name] = node
        self.since.append(({name: node}, set()))

    def move(self, old, new):
        self.now[new] = node = self.now.pop(old)
        self.since.append(({new: node}, {old}))

    def drop(self, name):
        del self.now[name]
        self.since.append(({}, {name}))

    def sync(self):
        self.kept, self.since = (dict if self.is_directory else bytes)(self.now), []


class Choice(NamedTuple):
    """What of the changes since the last sync is there: of each file's, of each directory's."""

    changes: dict
    """Node -> the changes that are there."""
    torn: dict
    """Node -> sector -> the last change of which it has something; beside ``changes``."""
    lengths: dict
    """Node -> the change whose length it has."""


def contents(node, choice):
    """Give a file's bytes."""
    lengths = [len(node.kept), *(length for _, length in node.since)]
    length = lengths[choice.lengths.get(node, len(node.since))]
    data = bytearray(node.kept[:length].ljust(length, b"\0"))
    there = choice.changes.get(node, ())
    torn = choice.torn.get(node, {})
    for number, (sectors, _) in enumerate(node.since):
        for k, image in sectors.items():
            if number <= torn[k] if k in torn else number in there:
                data[k * SECTOR : k * SECTOR + len(image)] = image
    return bytes(data[:length])


def tree(node, choice, path=""):
    """Give what a mount would find: path -> bytes, None of a directory."""
    names = dict(node.kept)
    for number, (put, gone) in enumerate(node.since):
        if number in choice.changes.get(node, ()):
            names |= put
            for name in gone:
                names.pop(name, None)
    found = {path: None}
    for name, inner in sorted(names.items()):
        below = f"{path}/{name}"
        if inner.is_directory:
            found |= tree(inner, choice, below)
        else:
            found[below] = contents(inner, choice)
    return found


def put(top, found):
    """Make a tree in earnest."""
    for path, data in found.items():
        place = Path(f"{top}{path}")
        if data is None:
            place.mkdir(exist_ok=True)
        else:
            place.write_bytes(data)


def nodes(root):
    """Give every node that may be found below: names that may have come back too."""
    seen, rest = {}, [root]
    while rest:
        node = rest.pop()
        if node not in seen:
            seen[node] = None
            if node.is_directory:
                rest += [*node.now.values(), *node.kept.values()]
                rest += [n for put, _ in node.since for n in put.values()]
    return list(seen)


def every(node):
    return frozenset(range(len(node.since)))


def all_choices(root) -> Iterator[Choice]:
    """Give every choice of whole changes; of a file of many, each without one, and each beginning.

    And each with the lengths that files had before, and with the new lengths alone.
    """
    changed = [node for node in nodes(root) if node.since]
    ways = [list(_ways(node)) for node in changed]
    for chosen in itertools.product(*ways):
        yield Choice(
            {n: there for n, (there, _) in zip(changed, chosen, strict=True)},
            {},
            {n: last for n, (_, last) in zip(changed, chosen, strict=True)},
        )


def _ways(node):
    count = len(node.since)
    if count > MANY:
        beginnings = {frozenset(range(n)) for n in range(count + 1)}
        subsets = beginnings | {every(node) - {n} for n in range(count)}
    else:
        subsets = {
            frozenset(k for k in range(count) if bits >> k & 1) for bits in range(1 << count)
        }
    for there in subsets:
        yield there, count
        if not node.is_directory and node.kept is not None and max(there, default=-1) + 1 < count:
            yield there, max(there, default=-1) + 1


def all_of_it(root) -> Choice:
    """Give what a process finds that is started while the machine goes on."""
    return Choice({node: every(node) for node in nodes(root)}, {}, {})


def a_choice(root, rng) -> Choice:
    """Draw one: directories and lengths at random, files whole, by pages, or torn by sectors."""
    changes, torn, lengths = {}, {}, {}
    for node in nodes(root):
        count = len(node.since)
        likely = rng.choice([0.0, 0.1, 0.5, 0.9, 1.0])
        changes[node] = frozenset(k for k in range(count) if rng.random() < likely)
        if node.is_directory or not count:
            continue
        lengths[node] = rng.choice([count, count, rng.randint(0, count)])
        unit = rng.choice([0, SECTOR, PAGE])
        if unit:
            low = rng.choice([-1, rng.randint(-1, count - 1)])
            last = {}
            for k in sorted({k for sectors, _ in node.since for k in sectors}):
                last.setdefault(k * SECTOR // unit, rng.randint(low, count - 1))
                torn.setdefault(node, {})[k] = last[k * SECTOR // unit]
    return Choice(changes, torn, lengths)


CALLS = [
    *(os.open, os.close, os.write, os.posix_fallocate, os.fsync, os.fdatasync, os.rename),
    *(os.replace, os.unlink, os.mkdir),
]
SYNCS = {os.fsync, os.fdatasync}


class AtOnce:
    """Does the writing thread's work at once, so that a seed is a story."""

    def __init__(self, *_, **__):
        pass

    def submit(self, work):
        done = Future()
        done.set_result(work())
        return done

    def shutdown(self):
        pass


class Disk:
    """Notes what is done below a directory that is certain itself.

    What is in the lock is nobody's, so it is not noted: it stays empty.
    """

    def __init__(self, top, patch):
        self.top, self.root = str(top), Node(is_directory=True)
        self.is_failing = False
        """Syncs fail, and make nothing certain."""
        self.on_op = lambda: None
        """Called after each change: here the power may fail."""
        self._fds, self._maps = {}, []
        for call in CALLS:
            patch.setattr(os, call.__name__, self._noted(call))
        patch.setattr(tape, "ThreadPoolExecutor", AtOnce)
        patch.setattr(tail, "mmap", SimpleNamespace(mmap=self._mapped, PAGESIZE=mmap.PAGESIZE))
        patch.setattr(tail, "_put_commit", self._commit)
        keys = SimpleNamespace(size=KEYS.size, pack_into=self._put_keys)
        patch.setattr(tail, "KEYS", keys)

    def cut(self, found):
        """Begin anew with what a power cut left."""
        on_op, self.on_op = self.on_op, lambda: None
        shutil.rmtree(self.top, ignore_errors=True)
        self.root = Node(is_directory=True)
        put(self.top, found)
        self._mount(found)
        self.on_op = on_op

    def _mount(self, found):
        """All of it is certain."""
        self.root, self._fds, self._maps = Node(is_directory=True), {}, []
        for path, data in found.items():
            if path:
                node = Node(is_directory=data is None)
                if data is not None:
                    node.now = bytearray(data)
                place, name = self._place(self.top + path)
                place.now[name] = node
        for node in nodes(self.root):
            node.sync()

    def look(self):
        """Note what was stored into mapped files since the last look."""
        for node, mapped in self._maps:
            if not mapped.closed and (now := mapped[:]) != node.now:
                old = bytes(node.now)
                places = range(0, len(now), SECTOR)
                changed = [a for a in places if old[a : a + SECTOR] != now[a : a + SECTOR]]
                node.now[:] = now
                node.since.append(({a // SECTOR: now[a : a + SECTOR] for a in changed}, len(now)))

    def _noted(self, call):
        note = getattr(self, f"_{call.__name__}")

        def noted(*args, **words):
            self.look()
            if self.is_failing and call in SYNCS and args[0] in self._fds:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            result = call(*args, **words)
            if note(result, *args):
                self.on_op()
            return result

        return noted

    def _place(self, path):
        """Give the directory and the name in it of a path below the top."""
        path = os.fspath(path)
        if not path.startswith(f"{self.top}/"):
            return None, ""
        node, (*above, name) = self.root, path[len(self.top) + 1 :].split("/")
        for each in above:
            node = node.now[each]
        return node, name

    def _open(self, fd, path, flags=0, *_):
        if os.fspath(path) == self.top:
            self._fds[fd] = [self.root, 0]
            return False
        place, name = self._place(path)
        if place is None:
            return False
        is_new = name not in place.now
        if is_new:
            place.put(name, Node())
        node = place.now[name]
        if flags & os.O_TRUNC and node.now:
            node.resize(0)
        self._fds[fd] = [node, 0]
        return is_new or bool(flags & os.O_TRUNC)

    def _close(self, _, fd):
        self._fds.pop(fd, None)

    def _mkdir(self, _, path, *__):
        place, name = self._place(path)
        if place is not None:
            place.put(name, Node(is_directory=True))
        return place is not None

    def _rename(self, _, old, new):
        place, name = self._place(old)
        if place is not None:
            place.move(name, self._place(new)[1])
        return place is not None

    _replace = _rename

    def _unlink(self, _, path, *__):
        place, name = self._place(path)
        if place is not None:
            place.drop(name)
        return place is not None

    def _write(self, count, fd, data):
        if fd in self._fds:
            node, at = self._fds[fd]
            node.write(at, bytes(data[:count]))
            self._fds[fd][1] = at + count
        return fd in self._fds

    def _posix_fallocate(self, _, fd, __, length):
        if fd in self._fds:
            self._fds[fd][0].resize(length)
        return fd in self._fds

    def _fsync(self, _, fd):
        if fd in self._fds:
            self._fds[fd][0].sync()
        return fd in self._fds

    _fdatasync = _fsync

    def _mapped(self, fd, size):
        made = mmap.mmap(fd, size)
        if fd in self._fds:
            self._maps.append((self._fds[fd][0], made))
        return made

    def _commit(self, mapped, at, crc, size, key):
        """The key is stored last: there may be a record's first line without it."""
        self.look()
        COMMIT.pack_into(mapped, at, crc, size, 0)
        self.look()
        COMMIT.pack_into(mapped, at, crc, size, key)
        self.look()

    def _put_keys(self, mapped, at, *keys):
        self.look()
        KEYS.pack_into(mapped, at, *keys)
        self.look()


@pytest.fixture(scope="session")
def cuts():
    """Give the tools of this file; a test module cannot import its neighbours."""
    return SimpleNamespace(
        Disk=Disk,
        a_choice=a_choice,
        all_choices=all_choices,
        all_of_it=all_of_it,
        put=put,
        tree=tree,
    )
