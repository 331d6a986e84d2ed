"""One book: its sequence by ids, what waits for a base, the kernel against dictionaries."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perptape.book import SLOTS, Books
from perptape.chain import OLD_IN_A_ROW, Chain, Verdict
from perptape.course import PENDING, Course
from perptape.events import Book

APPLY, OLD, HOLE, VOID = Verdict.APPLY, Verdict.OLD, Verdict.HOLE, Verdict.VOID


def change(update_id, follows, bids=(), asks=()):
    return Book(
        "S", None, None, list(bids), list(asks),
        is_snapshot=False, update_id=update_id, follows=follows,
    )  # fmt: skip


def whole(update_id, bids=(), asks=()):
    return Book("S", None, None, list(bids), list(asks), is_snapshot=True, update_id=update_id)


def verdicts(chain, *steps):
    """Of (follows, update_id); a lone number is a snapshot."""
    found = []
    for step in steps:
        follows, update_id = step if isinstance(step, tuple) else (None, step)
        found.append(chain.step(update_id, follows, is_snapshot=isinstance(step, int)))
    return found


def test_changes_follow_each_other_by_whatever_step():
    assert verdicts(Chain(), 10, (10, 17), (17, 18), (18, 40)) == [APPLY] * 4


def test_without_a_snapshot_there_is_no_book():
    assert verdicts(Chain(), (10, 17), (17, 18)) == [VOID, VOID]


def test_a_lost_update_voids_the_book_until_the_next_snapshot():
    steps = [10, (10, 17), (18, 40), (40, 41), 50, (50, 51)]
    assert verdicts(Chain(), *steps) == [APPLY, APPLY, HOLE, VOID, APPLY, APPLY]


def test_a_repeated_update_is_old_and_does_no_harm():
    assert verdicts(Chain(), 10, (10, 17), (10, 17), (17, 18)) == [APPLY, APPLY, OLD, APPLY]


def test_ids_that_start_over_unannounced_do_not_freeze_the_book():
    steps = [(n, n + 1) for n in range(OLD_IN_A_ROW + 1)]
    found = verdicts(Chain(), 1000, (1000, 1001), *steps)
    assert found[-1] is HOLE and found[-2] is OLD


def test_a_maintenance_that_sets_the_ids_back_goes_on():
    """OKX: ``seqId < prevSeqId``, and ``prevSeqId`` is still ours."""
    assert verdicts(Chain(), 1000, (1000, 1001), (1001, 3), (3, 4)) == [APPLY] * 4


def test_a_change_that_follows_nothing_known_never_matches():
    assert verdicts(Chain(), 10, (-1, 12), (12, 13)) == [APPLY, HOLE, VOID]


def test_a_base_may_fall_into_the_middle_of_an_update():
    """Binance: U <= lastUpdateId <= u is pu <= lastUpdateId <= u to us."""
    chain = Chain()
    verdicts(chain, (5, 8), (8, 12))
    assert chain.base(10) and chain.last == 12
    assert verdicts(chain, (12, 15)) == [APPLY]


def test_a_base_ahead_of_the_stream_lets_it_catch_up():
    chain = Chain()
    verdicts(chain, (5, 8))
    assert chain.base(20)
    assert verdicts(chain, (8, 12), (12, 20), (20, 25)) == [OLD, OLD, APPLY]


def test_a_base_older_than_the_stream_is_refused():
    chain = Chain()
    verdicts(chain, (30, 31))
    assert not chain.base(20) and chain.is_void


def test_a_hole_before_the_base_does_not_count_against_it():
    chain = Chain()
    verdicts(chain, (5, 8), (30, 31), (31, 32))
    assert not chain.base(20)
    assert chain.base(31) and chain.last == 32


def test_a_base_takes_in_what_came_before_it():
    course = Course.new(has_base=True)
    course.take(change(8, 5, bids=[(1.0, 9.0)]), 1)
    course.take(change(12, 8, bids=[(2.0, 5.0), (3.0, 0.0)], asks=[(4.0, 1.0)]), 2)
    book = course.base(whole(8, bids=[(3.0, 1.0), (1.0, 7.0)], asks=[(5.0, 2.0)]), 3)
    assert (book.bids, book.asks) == ([(2.0, 5.0), (1.0, 7.0)], [(4.0, 1.0), (5.0, 2.0)])
    assert book.update_id == 12 and book.is_snapshot
    assert course.base(whole(40), 4) is None, "a whole book needs no base"


def test_what_waits_for_a_base_is_bounded():
    course = Course.new(has_base=True)
    for n in range(3 * PENDING):
        course.take(change(n + 1, n, bids=[(n % 50 + 1.0, 1.0)]), n)
    assert len(course.bids) == 50, "of a price the last change is all that matters"
    for n in range(3 * PENDING, 5 * PENDING):
        course.take(change(n + 1, n, asks=[(n + 1.0, 1.0)]), n)
        assert len(course.bids) + len(course.asks) <= PENDING
    assert course.base(whole(5), 1) is None
    assert course.base(whole(5 * PENDING - 1000), 1).update_id == 5 * PENDING


def test_where_no_base_will_come_nothing_waits_for_one():
    course = Course.new(has_base=False)
    for n in range(1000):
        assert course.take(change(n + 1, n, bids=[(n + 1.0, 1.0)]), n) is VOID
    assert not (course.bids or course.asks or course.newest)


def test_a_snapshot_of_the_stream_is_not_ahead_of_it_for_long():
    """Only a base that came beside the stream may be; else the ids began anew, unannounced."""
    steps = [(n, n + 1) for n in range(OLD_IN_A_ROW + 1)]
    assert verdicts(Chain(), 1000, *steps)[-1] is HOLE


prices = st.one_of(
    st.integers(1, 60).map(float),
    st.integers(1, 60).map(lambda n: n * 0.25),
    st.integers(1, 600_000).map(lambda n: n / 1000),
    st.integers(64_000, 64_100).map(lambda n: n / 10),
)
levels = st.lists(st.tuples(prices, st.sampled_from([0.0, 1.0, 2.5])), max_size=8)
updates = st.lists(st.tuples(st.integers(0, 6), levels, levels, st.booleans()), max_size=40)


@settings(deadline=None)
@given(updates)
def test_the_kernel_makes_the_books_that_dictionaries_make(told):
    """Of prices that are no further apart than a ladder is long."""
    books = Books()
    numbers = [books.new() for _ in range(7)]
    truth = {number: ({}, {}) for number in numbers}
    for at, bids, asks, is_whole in told:
        unique = [[(p, q) for p, q in dict(side).items() if p < 600] for side in (bids, asks)]
        best = books.one(numbers[at], Book("S", None, None, *unique, is_whole))
        for side, changes in zip(truth[numbers[at]], unique, strict=True):
            if is_whole:
                side.clear()
            side.update(changes)
            for price in [price for price, size in side.items() if not size]:
                del side[price]
        bid, ask = truth[numbers[at]]
        if all(p * 4000 < SLOTS // 2 for p in (*bid, *ask)):
            assert books.sides(numbers[at]) == (
                sorted(bid.items(), reverse=True),
                sorted(ask.items()),
            )
            assert best == pytest.approx(
                (max(bid, default=math.nan), min(ask, default=math.nan)), nan_ok=True
            )


def test_the_price_step_is_found_and_made_finer_when_it_must_be():
    books = Books()
    number = books.new()
    books.one(number, whole(1, bids=[(100.5, 1.0), (100.0, 2.0)], asks=[(101.0, 3.0)]))
    assert books.shelf.scales[number] == 10.0
    books.one(number, change(2, 1, bids=[(100.51, 4.0)], asks=[(100.6, 5.0)]))
    assert books.shelf.scales[number] == 100.0
    assert books.sides(number) == (
        [(100.51, 4.0), (100.5, 1.0), (100.0, 2.0)],
        [(100.6, 5.0), (101.0, 3.0)],
    )


def test_a_price_far_away_is_not_kept_and_costs_no_other_its_place():
    books = Books()
    number = books.new()
    books.one(number, whole(1, bids=[(64_000.1, 1.0)], asks=[(64_000.2, 1.0), (640_000.0, 1.0)]))
    assert books.sides(number) == ([(64_000.1, 1.0)], [(64_000.2, 1.0)])


def test_a_book_goes_wherever_its_price_goes():
    books = Books()
    number, n = books.new(), 1
    books.one(number, whole(n, bids=[(100.0, 1.0)], asks=[(100.1, 1.0)]))
    for tenth in range(1000, 20_000, 700):
        bid, ask = tenth / 10, (tenth + 1) / 10
        old = [(price, 0.0) for price, _ in books.sides(number)[0]]
        gone = [(price, 0.0) for price, _ in books.sides(number)[1]]
        n += 1
        top = books.one(number, change(n, n - 1, [*old, (bid, 1.0)], [*gone, (ask, 2.0)]))
        assert top == (bid, ask)
        assert books.sides(number) == ([(bid, 1.0)], [(ask, 2.0)])
