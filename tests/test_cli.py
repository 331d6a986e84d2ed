"""The commands as a user meets them: bad input gets one sentence, the next step, the right code."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time

import pytest

from perptape import cli
from perptape.plan import choose
from perptape.tape import TapeWriter


@pytest.fixture
def run(capsys):
    """Run a command in this process; gives (exit code, what was printed, what was complained)."""

    def go(*words):
        with pytest.raises(SystemExit) as ended:
            cli.main([str(word) for word in words])
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return go


@pytest.fixture
def tape(tmp_path):
    path = tmp_path / "tape"
    TapeWriter(path).close()
    return path


def sentence(err):
    assert err.startswith("perptape: ") and err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param(["record", "BTC-USDT", "--venues", "bybitt"], "bybit", id="unknown-venue"),
        pytest.param(
            ["record", "BTC-USDT", "--venues", "binance_spot"], "imported", id="import-only"
        ),
        pytest.param(["record", "BTC-USDT", "--for", "soon"], "5m", id="no-duration"),
        pytest.param(["record", "BTC-USDT", "--for", "0s"], "no time", id="zero-duration"),
        pytest.param(["record", "BTC-USDT", "--for", ""], "5m", id="empty-duration"),
        pytest.param(["record", "BTC-USDT", "--for", "99999999d"], "century", id="for-ever"),
        pytest.param(["record", "BTC-USDT", "--for", "0.1ns"], "5m", id="no-unit"),
        pytest.param(["record", "BTC-USDT", "--venues", ","], "--venues", id="no-venue"),
        pytest.param(["record", "BTC-USDT", "--channels", ""], "--channels", id="empty-channels"),
        pytest.param(["record"], "BTC-USDT", id="no-instrument"),
        pytest.param(["record", "../../etc"], "../../etc", id="no-name"),
        pytest.param(["record", "BTC-USDT", "--channels", "gossip"], "quotes", id="no-channel"),
        pytest.param(["record", "BTC-USDT", "--url", "bybit"], "VENUE=", id="no-origin"),
        pytest.param(["record", "BTC-USDT", "--url", "x=http://h:1"], "--url", id="url-of-none"),
        pytest.param(["record", "BTC-USDT", "--config", "no.toml"], "no.toml", id="no-config"),
        pytest.param(["record", "BTC-USDT", "--loud"], "--loud", id="unknown-flag"),
        pytest.param(["rekord"], "rekord", id="unknown-command"),
        pytest.param(["report"], "TAPE", id="report-without-tape"),
        pytest.param(["sim", "--venues", "nyse"], "bybit", id="sim-of-nobody"),
        pytest.param(["sim", "--port", "65533"], "65529", id="sim-past-the-last-port"),
        pytest.param(["sim", "--port=-1"], "--port", id="sim-before-the-first-port"),
        pytest.param(["import", "csv", "x", "--tape", "t"], "notebook", id="unknown-format"),
        pytest.param(["report", "t", "--from", "noon"], "--from", id="no-time"),
    ],
)
def test_bad_usage_ends_with_2_and_names_what_is_allowed(run, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*words)
    assert code == 2 and told in sentence(err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["verify", "tabulate", "report"])
def test_a_directory_that_is_not_a_tape_is_said_so(run, tmp_path, command):
    code, _, err = run(command, tmp_path)
    assert code == 2 and "not a tape" in sentence(err)


@pytest.mark.parametrize("command", ["verify", "tabulate", "report"])
def test_a_newer_format_is_refused_with_what_to_do(run, tape, command):
    text = (tape / "tape.json").read_text()
    (tape / "tape.json").write_text(text.replace('"format_version": 1', '"format_version": 2'))
    code, _, err = run(command, tape)
    assert code == 1 and "newer" in sentence(err)


def test_an_empty_tape_verifies_and_has_nothing_to_report(run, tape, tmp_path):
    assert run("verify", tape)[0] == 0
    code, _, err = run("report", tape, "-o", tmp_path / "r.html")
    assert code == 1 and "no quotes" in sentence(err)


def test_a_recording_that_heard_nothing_is_not_complete(run, tmp_path):
    config = {"venues": ["bybit"], "instruments": ["BTC-USDT-PERP"], "channels": ["quotes"]}
    TapeWriter(tmp_path / "t", config=config).close()
    code, out, _ = run("verify", tmp_path / "t")
    assert code == 3 and "bybit:BTC-USDT-PERP" in out and "nothing was heard" in out


def test_an_unwritable_tape_is_one_sentence(run, tmp_path):
    (tmp_path / "file").touch()
    code, _, err = run("record", "BTC-USDT", "--tape", tmp_path / "file" / "tape", "--for", "1s")
    assert code in {1, 2} and "file" in sentence(err)


def test_a_hostile_pickle_is_refused_and_nothing_runs(run, tmp_path):
    marker = tmp_path / "ran"
    attack = type("A", (), {"__reduce__": lambda _: (open, (str(marker), "w"))})()
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(attack))
    code, _, err = run("import", "notebook", tmp_path / "evil.pkl", "--tape", tmp_path / "t")
    assert code in {1, 2}
    assert "evil.pkl" in sentence(err) and not marker.exists()


@pytest.fixture
def one_venue(run, tmp_path):
    """Give a tape of one market, as an old notebook had written it."""
    with (tmp_path / "old.pkl").open("wb") as file:
        for n in range(20):
            pickle.dump({**BOOK, "local_ts": 1_700_000_000 + n / 10}, file)
    tape = tmp_path / "one"
    assert run("import", "notebook", tmp_path / "old.pkl", "--tape", tape)[0] == 0
    return tape


BOOK = {
    "topic": "orderbook.1.BTCUSDT",
    "ts": 1_700_000_000_000,
    "type": "snapshot",
    "data": {"s": "BTCUSDT", "b": [["20.25", "1"]], "a": [["20.5", "3"]], "u": 1, "seq": 7},
    "cts": 1_700_000_000_000,
}


def test_a_report_of_one_venue_says_that_there_is_no_pair(run, one_venue, tmp_path):
    code, out, err = run("report", one_venue, "-o", tmp_path / "r.html")
    assert code == 0 and (tmp_path / "r.html").exists() and out.endswith("r.html\n")
    assert "at least two venues" in sentence(err)


def test_the_same_tape_twice_is_one_tape(run, one_venue):
    code, out, _ = run("report", one_venue, one_venue / ".." / "one", "--json", "-")
    assert code == 0 and [m["quotes"] for m in json.loads(out)["markets"]] == [20]


def test_a_fee_of_nobody_is_refused(run, one_venue, tmp_path):
    (tmp_path / "fees.toml").write_text("bybitt = 0.0001")
    code, _, err = run("report", one_venue, "--fees", tmp_path / "fees.toml")
    assert code == 2 and "did you mean bybit" in sentence(err)


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59", "0001-01-01"])
def test_the_ends_of_the_calendar_are_moments_too(run, one_venue, tmp_path, moment):
    code, _, err = run("report", one_venue, "--from", moment, "-o", tmp_path / "r.html")
    assert code in {0, 1} and err.count("\n") == 1 and "mistake" not in err


def test_what_cannot_be_written_leaves_nothing_behind(run, one_venue, tmp_path):
    (tmp_path / "out" / "r.html").mkdir(parents=True)
    code, _, err = run("report", one_venue, "-o", tmp_path / "out" / "r.html")
    assert code == 1 and "another place" in sentence(err)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["r.html"]


def test_damage_is_told_as_a_place_and_what_is_wrong_there(run, one_venue):
    (segment,) = (one_venue / "raw").glob("*.arrows")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    code, out, _ = run("verify", one_venue, "--json")
    (place,) = json.loads(out)["damage"]
    assert "damaged: one place is" in run("verify", one_venue)[1]
    assert code == 4 and place.startswith(f"raw/{segment.name}: bytes ")


def test_a_file_of_more_venues_than_are_recorded_is_fine(tmp_path):
    (tmp_path / "run.toml").write_text(
        "\n".join(f'[venues.{v}]\nurl = "http://127.0.0.1:9"' for v in ("htx", "bybit"))
    )
    chosen = choose(instruments=["BTC-USDT"], venues=["htx"], config_path=tmp_path / "run.toml")
    assert [v.rest for v in chosen.plan.venues] == ["http://127.0.0.1:9"]


@pytest.mark.parametrize(
    ("text", "told"),
    [("[venues.htxx]", "htxx"), ("sync_ms = -5", "sync_ms"), ('for = "soon"', "5m")],
)
def test_a_file_that_cannot_be_meant_is_refused(run, tmp_path, text, told):
    (tmp_path / "run.toml").write_text(text)
    code, _, err = run("record", "BTC-USDT", "--config", tmp_path / "run.toml")
    assert code == 2 and told in sentence(err)


@pytest.mark.parametrize("origin", ["http://h\udcff:1", "http://me:secret@h:1", "http://h\n:1"])
def test_an_origin_is_plain_and_holds_no_secret(run, origin):
    code, _, err = run("record", "BTC-USDT", "--venues", "bybit", "--url", f"bybit={origin}")
    assert code == 2 and "http://HOST:PORT" in sentence(err)


def test_a_terminal_is_not_told_what_to_do_by_an_argument(run):
    code, _, err = run("verify", "\x1b]0;title\x07[red]\u202e")
    assert code == 2 and "\\x1b]0;title\\x07[red]\\u202e" in sentence(err)


def test_a_mistake_of_ours_is_one_sentence_too(run, tmp_path, monkeypatch):
    monkeypatch.setattr("perptape.config.duration_ns", lambda *_: 1 // 0)
    code, _, err = run("record", "BTC-USDT", "--for", "1s", "--tape", tmp_path / "t")
    assert code == 1 and "--debug" in sentence(err)


@pytest.mark.parametrize("words", [["venues"], ["venues", "--json"], ["--help"]])
def test_a_reader_that_leaves_early_is_no_error(words):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "perptape", *words],
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_without_any_output_a_recording_is_made_all_the_same(tmp_path):
    program = [sys.executable, "-m", "perptape", "record", "BTC-USDT", "--venues", "bybit"]
    words = [*program, "--url", "bybit=http://127.0.0.1:9", "--for", "500ms", "--tape", tmp_path]
    shell = ["/bin/sh", "-c", 'exec "$@" >&- 2>&- <&-', "sh", *words]
    assert subprocess.run(shell, check=False).returncode == 5
    assert (tmp_path / "tape.json").exists()


def test_a_tape_may_have_any_name(run, one_venue, tmp_path):
    strange = one_venue.rename(tmp_path / "a [x]*? \x1b[31m<script>")
    code, out, _ = run("report", strange, "-o", tmp_path / "r.html", "--json", tmp_path / "r.json")
    assert code == 0 and out.count("\n") == 2
    page = (tmp_path / "r.html").read_text()
    assert "\x1b" not in page and "\\x1b[31m&lt;script&gt;" in page
    assert json.loads((tmp_path / "r.json").read_text())["provenance"]["tapes"][0]["tape"][0] == "a"


def test_debug_shows_the_traceback(run, tmp_path):
    code, _, err = run("verify", tmp_path, "--debug")
    assert code == 2 and "Traceback" in err


def test_nobody_there_ends_with_5_and_says_why(run, tmp_path):
    code, _, err = run(
        "record", "BTC-USDT", "--venues", "bybit", "--url", "bybit=http://127.0.0.1:9",
        "--for", "2s", "--tape", tmp_path / "t",
    )  # fmt: skip
    assert code == 5 and "bybit" in sentence(err) and "Errno" not in err
    assert run("verify", tmp_path / "t")[0] == 3


def test_the_verdict_as_json_has_the_keys_that_programs_read(run, tape):
    code, out, _ = run("verify", tape, "--json")
    verdict = json.loads(out)
    assert code == 0
    assert verdict.keys() >= {"verdict", "frames", "segments", "bytes", "damage", "markets"}


def test_venues_are_listed_with_their_fees(run):
    code, out, _ = run("venues", "--json")
    listed = {row["venue"]: row for row in json.loads(out)}
    assert code == 0 and listed["bybit"]["live"] and not listed["binance_spot"]["live"]
    assert listed["htx"]["streams"]["quotes"] == ["bbo", "depth.step0"]
    assert run("venues")[0] == 0


def test_help_names_every_command_without_loading_the_engines():
    code = (
        "import sys; from perptape import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'polars', 'numba', 'pyarrow', 'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in ("demo", "record", "verify", "tabulate", "report", "sim", "import", "venues"):
        assert command in done.stdout


@pytest.mark.parametrize("after_s", [0.25, 0.6])
def test_ctrl_c_before_a_recording_begins_ends_with_130(tmp_path, after_s):
    words = ["record", "BTC-USDT", "--venues", "bybit", "--url", "bybit=http://127.0.0.1:9"]
    command = [sys.executable, "-m", "perptape", *words, "--tape", str(tmp_path / "t")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as begun:
        time.sleep(after_s)
        begun.send_signal(signal.SIGINT)
        _, err = begun.communicate(timeout=10)
    # CPython ends itself by the signal where Ctrl-C came inside a library's `exec`, however it was
    # handled; a shell calls both 130.
    assert begun.returncode in {130, -signal.SIGINT}
    assert b"Traceback" not in err
