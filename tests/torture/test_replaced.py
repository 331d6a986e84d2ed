"""A tape's directory that is deleted and made anew under a running recorder."""

import shutil

import pytest


def test_the_first_recorder_ends_and_the_second_is_left_alone(torture, calm, tmp_path, figures):
    if not torture.LONG:
        pytest.skip("tests/tape/test_lost.py is the short form; ./run torture has this one")
    words = ["BTC-USDT", *calm.urls, "--venues", "bybit,htx", "--tape", tmp_path / "tape"]
    with torture.Recorder(tmp_path / "first", words) as first:
        first.live(2)
        shutil.rmtree(tmp_path / "tape")
        with torture.Recorder(tmp_path / "second", words) as second:
            assert first.wait() == 1
            second.live(2)
            assert second.stop() == 143
    says = "tape was deleted, moved or replaced while it was being recorded; nothing more is"
    assert says in first.said
    assert first.said.count("\n") == 1
    torture.no_traceback(first.said, second.said)
    frames = torture.check(tmp_path / "tape", calm, told=second.told)
    figures(
        "tape deleted and made anew under its recorder", injected=1, survived=1, lost=0,
        remark=f"exit 1 and one sentence; the new tape has {frames:,} frames without a hole",
    )  # fmt: skip
