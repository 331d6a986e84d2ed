"""ALL-USDT: which markets that means, and that each is recorded where it is listed."""

import json
import subprocess
import sys

import msgspec
import pytest

from perptape import cli, config, plan, verify
from perptape import record as recorder
from perptape.errors import BadUsage, NothingRecorded
from perptape.instruments import Instrument
from perptape.listing import chosen
from perptape.manifest import load
from perptape.record import requests
from perptape.universe import Rule, Universe, quotes_in

GB = 10**9


def instrument(name, status="trading"):
    base, quote, kind = name.split("-")
    parts = (name, f"{base}{quote}", base, quote, quote, kind.lower(), 1.0, 1.0)
    return Instrument("x", *parts, *[None] * 5, status, 0)


def universe(lists, turnover=None, quotes=("USDT",), **rule):
    found = Universe(Rule(quotes, **rule), list(lists))
    for venue, names in lists.items():
        found.listed(venue, [each if hasattr(each, "name") else instrument(each) for each in names])
    for venue, told in (turnover or {}).items():
        found.traded(venue, told)
    found.choose()
    return found


BTC, ETH, SOL = (f"{coin}-USDT-PERP" for coin in ("BTC", "ETH", "SOL"))


def test_as_many_venues_as_asked_must_list_it_as_trading():
    lists = {
        "a": [BTC, ETH, SOL],
        "b": [BTC, ETH, instrument(SOL, "settling")],
        "c": [BTC, "BTC-USD-PERP", "BTC-USDC-PERP", "ETH-USDT-SPOT"],
    }
    assert set(universe(lists).chosen) == {BTC, ETH, SOL}
    assert set(universe(lists, min_venues=2).chosen) == {BTC, ETH}
    assert set(universe(lists, min_venues=3).chosen) == {BTC}
    assert set(universe(lists, quotes=("USD", "USDC")).chosen) == {"BTC-USD-PERP", "BTC-USDC-PERP"}


def test_it_is_recorded_where_it_is_listed_and_not_refused_elsewhere():
    found = universe({"a": [BTC, ETH, SOL], "b": [BTC, ETH], "c": [BTC]}, min_venues=2)
    assert (found.names("a"), found.names("b"), found.names("c")) == ([BTC, ETH], [BTC, ETH], [BTC])
    assert sorted(found.markets()) == [f"a:{BTC}", f"a:{ETH}", f"b:{BTC}", f"b:{ETH}", f"c:{BTC}"]


def test_the_top_is_by_turnover_summed_over_venues():
    lists = {"a": [BTC, ETH, SOL], "b": [BTC, ETH, SOL]}
    turnover = {
        "a": {"BTCUSDT": 5.0, "ETHUSDT": 1.0, "SOLUSDT": 4.0, "OTHER": 99.0},
        "b": {"BTCUSDT": 1.0, "ETHUSDT": 9.0},
    }
    assert list(universe(lists, turnover).chosen.items()) == [(ETH, 10.0), (BTC, 6.0), (SOL, 4.0)]
    assert list(universe(lists, turnover, top=2).chosen) == [ETH, BTC]
    only_a = universe(lists, {"a": turnover["a"]}, top=1)
    assert list(only_a.chosen) == [BTC], "a venue that does not tell leaves it to the others"


def test_of_equal_turnover_the_names_decide():
    assert list(universe({"a": [SOL, ETH, BTC]}, top=2).chosen) == [BTC, ETH]


def test_what_comes_later_is_added_and_what_was_passed_over_is_not():
    lists = {"a": [BTC, ETH], "b": [BTC, ETH, SOL]}
    told = {"a": {"BTCUSDT": 9.0, "ETHUSDT": 1.0}, "b": {}}
    found = universe(lists, told, min_venues=2, top=1)
    assert not found.has_news
    found.traded("a", {"BTCUSDT": 9.0, "ETHUSDT": 99.0})
    assert found.grow() == [] and list(found.chosen) == [BTC]
    found.listed("a", [instrument(n) for n in (BTC, ETH, SOL)])
    assert found.has_news
    assert found.grow() == [], "it is not among the first yet"
    found.traded("a", {"BTCUSDT": 9.0, "SOLUSDT": 999.0})
    assert found.grow() == [SOL] and found.names("b") == [BTC, SOL]
    assert found.grow() == [] and not found.has_news


def test_one_that_a_venue_no_longer_lists_is_not_wanted_there():
    found = universe({"a": [BTC, ETH], "b": [BTC, ETH]}, min_venues=2)
    found.listed("a", [instrument(BTC), instrument(ETH, "delisted")])
    assert found.names("a") == [BTC] and found.names("b") == [BTC, ETH]
    assert found.grow() == []


def test_the_choice_is_told_in_one_line():
    lists = {"a": [BTC, ETH, SOL], "b": [BTC, ETH]}
    told = universe(lists, {"a": {"ETHUSDT": 2.0, "BTCUSDT": 1.0}}, min_venues=2, top=1)
    assert told.why() == (
        "1 of 2 perpetuals quoted in USDT that at least 2 of a, b list as trading, those with the "
        "largest turnover of 24 h: ETH-USDT (2 markets)"
    )
    assert told.config()["chosen"] == {ETH: {"venues": ["a", "b"], "turnover": 2.0}}
    assert json.dumps(told.config())


def test_a_universe_of_nothing_is_bad_usage():
    with pytest.raises(BadUsage, match="lower --min-venues"):
        universe({"a": [BTC], "b": [ETH]}, min_venues=2)


def test_the_words():
    assert quotes_in(["ALL-USDT", "all-usd-perp", "ALL-USDT", "BTC-USDT"]) == ("USDT", "USD")
    assert quotes_in(["ALL-EUR", "ALL-USDT-SPOT", "BALL-USDT"]) == ()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param(["BTC-USDT", "--top", "5"], "ALL-USDT", id="top-of-no-universe"),
        pytest.param(["BTC-USDT", "--min-venues", "2"], "ALL-USDT", id="venues-of-no-universe"),
        pytest.param(["ALL-USDT", "--min-venues", "5"], "4 of --venues", id="more-than-there-are"),
        pytest.param(["ALL-USDT", "--min-venues", "0"], "1 or more", id="no-venues"),
        pytest.param(["ALL-USDT", "--top", "0"], "1 or more", id="top-of-none"),
        pytest.param(["ALL-USDT", "--top", "many"], "--top", id="no-number"),
        pytest.param(["ALL-EUR-PERPX"], "ALL-EUR-PERPX", id="no-quote"),
        pytest.param(["ALL-BTC"], "'ALL-BTC' is no universe", id="all-of-no-quote"),
        pytest.param(["BTC-USDT-SPOT"], "is spot", id="spot"),
        pytest.param(["BTC-USDT", "--for", "-5s"], "--for '-5s'", id="no-future"),
        pytest.param(["BTC-USDT", "--keep", "long"], "--keep", id="no-time"),
        pytest.param(["BTC-USDT", "--keep", "30"], "30d for days", id="time-without-unit"),
        pytest.param(["BTC-USDT", "--keep", "30m"], "1h or more", id="soon-deleted"),
        pytest.param(["BTC-USDT", "--max-disk", "200"], "200GB", id="no-unit"),
        pytest.param(["BTC-USDT", "--max-disk", "99MB"], "500MB", id="too-little"),
        pytest.param(["BTC-USDT", "--max-disk=-1GB"], "not a size", id="negative"),
        pytest.param(["BTC-USDT", "--max-disk", "9" * 30 + "TB"], "not a size", id="too-much"),
    ],
)
def test_bad_usage_is_refused_before_anything_is_asked(tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan.listing, "chosen", pytest.fail)
    with pytest.raises(SystemExit) as ended:
        cli.main(["record", *words])
    err = capsys.readouterr().err
    assert ended.value.code == 2 and told in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "size"),
    [("500MB", GB // 2), ("200GB", 200 * GB), ("1TB", 1000 * GB), ("1.5 gb", 3 * GB // 2)],
)
def test_sizes(text, size):
    assert config.size_b(text) == size


def test_flags_go_before_the_file_and_both_say_what_is_kept(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('instruments = ["BTC-USDT"]\nkeep = "30d"\nmax_disk = "200GB"\n')
    kept = plan.choose(instruments=[], config_path=file).plan.retention
    assert (kept.keep_ns, kept.max_bytes) == (30 * 86_400 * 10**9, 200 * GB)
    kept = plan.choose(instruments=[], config_path=file, keep="1h", max_disk="1TB").plan.retention
    assert (kept.keep_ns, kept.max_bytes) == (3600 * 10**9, 1000 * GB)
    kept = plan.choose(instruments=["BTC-USDT"]).plan.retention
    assert (kept.keep_ns, kept.max_bytes) == (None, None)


def test_what_is_kept_is_told_to_the_writer_and_to_the_tape(monkeypatch, tmp_path):
    told = []
    monkeypatch.setattr(recorder, "TapeWriter", lambda *_, **more: told.append(more) or 1 / 0)
    choice = plan.choose(instruments=["BTC-USDT"], keep="2h", max_disk="1GB")
    with pytest.raises(ZeroDivisionError):
        recorder.run(choice.plan, tmp_path / "t")
    ((more,),) = (told,)
    assert more["retention"] == choice.plan.retention
    assert (more["config"]["keep_ns"], more["config"]["max_disk_b"]) == (7200 * 10**9, GB)


# The venues themselves


@pytest.fixture(scope="module")
def venues(tmp_path_factory):
    """Simulated venues of which one lists other coins; gives their ``--url`` words."""
    place, running, words = tmp_path_factory.mktemp("sims"), [], []
    lists = {"bitget,bybit": ["BTC", "ETH", "SOL"], "gateio": ["BTC", "ETH", "DOGE"]}
    for names, coins in lists.items():
        scenario = place / f"{coins[-1]}.toml"
        scenario.write_text(f"instruments = {json.dumps([f'{coin}-USDT' for coin in coins])}\n")
        program = [sys.executable, "-m", "perptape", "sim", "--port", "0"]
        program += ["--venues", names, "--scenario", str(scenario)]
        running.append(subprocess.Popen(program, stdout=subprocess.PIPE, text=True))
    for process in running:
        words += process.stdout.readline().split()
    yield words
    for process in running:
        process.terminate()
        process.communicate()


def there(words, names="bitget,bybit,gateio"):
    places = plan.origins(word for word in words if "=" in word)
    chosen = names.split(",")
    return plan.venues_at(chosen, {name: places[name] for name in chosen})


def record(words, *more):
    program = [sys.executable, "-m", "perptape", "record", *more, *words]
    program += ["--venues", "bitget,bybit,gateio", "--json"]
    return subprocess.run(program, capture_output=True, text=True, check=False, timeout=60)


def test_a_universe_is_recorded_where_it_is_listed(venues, tmp_path):
    tape = tmp_path / "t"
    done = record(venues, "ALL-USDT", "--min-venues", "2", "--for", "4s", "--tape", tape)
    assert done.returncode == 0, done.stderr
    first = done.stderr.splitlines()[0]
    assert "3 of 3 perpetuals quoted in USDT" in first and "(8 markets)" in first
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    markets = {f"{v}:{c}-USDT-PERP" for v in ("bitget", "bybit", "gateio") for c in ("BTC", "ETH")}
    markets |= {"bitget:SOL-USDT-PERP", "bybit:SOL-USDT-PERP"}
    assert {line["market"] for line in lines} == markets
    assert not any(line["state"] == "refused" for line in lines)
    found = verify.verify(tape)
    assert (found.verdict, {m.market for m in found.markets}) == ("complete", markets)
    said = load(tape).config
    assert set(said["markets"]) == markets and said["instruments"] == []
    assert said["universe"]["why"] in first and said["universe"]["min_venues"] == 2


def test_the_most_traded_are_chosen_by_what_the_venues_say_now(venues):
    found = chosen(Rule(("USDT",), min_venues=2, top=1), there(venues))
    everything = chosen(Rule(("USDT",), min_venues=2), there(venues))
    assert list(everything.chosen.values()) == [0.0] * 3, "turnover is asked for only to rank"
    ((name, most),) = found.chosen.items()
    assert most > 1e6
    others = chosen(Rule(("USDT",), min_venues=2, top=3), there(venues))
    assert next(iter(others.chosen)) == name
    assert list(others.chosen.values()) == sorted(others.chosen.values(), reverse=True)


def test_named_instruments_go_beside_a_universe(venues):
    words = [word for word in venues if "=" in word]
    choice = plan.choose(
        instruments=["DOGE-USDT", "ALL-USDT"],
        venues=["bitget", "gateio"],
        min_venues=2,
        top=1,
        urls=[word for word in words if not word.startswith("bybit")],
    )
    names = {v.name: [r.name for r in requests(choice.plan, v)] for v in choice.plan.venues}
    (top,) = choice.plan.universe.chosen
    assert names == {"bitget": ["DOGE-USDT-PERP", top], "gateio": ["DOGE-USDT-PERP", top]}


def test_a_venue_that_cannot_be_asked_is_said_and_does_not_hold_up_the_others(venues):
    found = there(venues, "bitget,bybit,gateio")
    dead = plan.venues_at(["okx"], {"okx": "http://127.0.0.1:9"})
    universe = chosen(Rule(("USDT",), min_venues=2), [*found, *dead])
    assert len(universe.chosen) == 3 and "; okx cannot be asked" in universe.why()
    with pytest.raises(NothingRecorded, match="okx cannot be asked"):
        chosen(Rule(("USDT",)), dead)


def test_a_venue_that_does_not_tell_its_turnover_is_said(venues):
    found = there(venues, "bitget,gateio")
    silent = [msgspec.structs.replace(venue, read_turnover=None) for venue in found[:1]]
    universe = chosen(Rule(("USDT",), top=2), [*silent, *found[1:]])
    assert "; without the turnover of bitget: bitget does not tell" in universe.why()
