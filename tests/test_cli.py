"""The commands as a user meets them: bad input gets one sentence, the next step, the right code."""

import json
import pickle
import subprocess
import sys

import pytest

from perptape import cli
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
        pytest.param(["record", "BTC-USDT", "--venues", "binance"], "imported", id="import-only"),
        pytest.param(["record", "BTC-USDT", "--for", "soon"], "5m", id="no-duration"),
        pytest.param(["record", "BTC-USDT", "--for", "0s"], "no time", id="zero-duration"),
        pytest.param(["record"], "BTC-USDT", id="no-instrument"),
        pytest.param(["record", "../../etc"], "../../etc", id="no-name"),
        pytest.param(["record", "BTC-USDT", "--channels", "gossip"], "quotes", id="no-channel"),
        pytest.param(["record", "BTC-USDT", "--url", "bybit"], "VENUE=", id="no-origin"),
        pytest.param(["record", "BTC-USDT", "--url", "x=http://h:1"], "--venues", id="url-of-none"),
        pytest.param(["record", "BTC-USDT", "--config", "no.toml"], "no.toml", id="no-config"),
        pytest.param(["record", "BTC-USDT", "--loud"], "--loud", id="unknown-flag"),
        pytest.param(["rekord"], "rekord", id="unknown-command"),
        pytest.param(["report"], "TAPE", id="report-without-tape"),
        pytest.param(["sim", "--venues", "nyse"], "bybit", id="sim-of-nobody"),
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


def test_debug_shows_the_traceback(run, tmp_path):
    code, _, err = run("verify", tmp_path, "--debug")
    assert code == 2 and "Traceback" in err


def test_nobody_there_ends_with_5_and_says_why(run, tmp_path):
    code, _, err = run(
        "record", "BTC-USDT", "--venues", "bybit", "--url", "bybit=http://127.0.0.1:9",
        "--for", "2s", "--tape", tmp_path / "t",
    )  # fmt: skip
    assert code == 5 and "bybit" in sentence(err)
    assert run("verify", tmp_path / "t")[0] == 3


def test_the_verdict_as_json_has_the_keys_that_programs_read(run, tape):
    code, out, _ = run("verify", tape, "--json")
    verdict = json.loads(out)
    assert code == 0
    assert verdict.keys() >= {"verdict", "frames", "segments", "bytes", "damage", "markets"}


def test_venues_are_listed_with_their_fees(run):
    code, out, _ = run("venues", "--json")
    listed = {row["venue"]: row for row in json.loads(out)}
    assert code == 0 and listed["bybit"]["live"] and not listed["binance"]["live"]
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
