"""Other people's code in the package is what its authors published, and its licence is with it."""

import hashlib
from importlib.resources import files

import pytest

PUBLISHED = {  # of uplot-1.6.32.tgz on npm
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "uplot.LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_vendored_bytes_are_the_published_ones(name):
    found = (files("perptape") / "assets" / name).read_bytes()
    assert hashlib.sha256(found).hexdigest() == PUBLISHED[name]


def test_no_asset_can_end_the_element_it_stands_in():
    for asset in (files("perptape") / "assets").iterdir():
        text = asset.read_text(encoding="utf-8").lower()
        assert not any(end in text for end in ("</script", "</style", "<!--")), asset.name
