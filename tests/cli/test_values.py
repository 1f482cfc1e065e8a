"""What the values of options may be: each is taken, or refused with what it must be."""

import argparse
import re

import pytest

from boltzgen.cli import values
from boltzgen.cli.settings import Settings
from boltzgen.errors import ConfigurationError


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (values.positive, {"1e-3": 1e-3, "300": 300.0}, ["0", "-1", "nan", "inf", "1e300", "9223372036854775808", "x"]),
        (values.count, {"1": 1, "10000000000000": 10**13}, ["0", "-1", "1.5", str(2**63), "9" * 5000, ""]),
        (values.seed, {"0": 0, str(2**63 - 1): 2**63 - 1}, ["-1", str(2**63), "1e3"]),
        (values.thread_count, {"1": 1, "1024": 1024}, ["0", "1025", "auto"]),
        (values.process_count, {"1": 1, "auto": "auto"}, ["0", "many", "99999"]),
        (values.part, {"0/1": (0, 1), "7/8": (7, 8)}, ["8/8", "-1/2", "1", "a/b", "0/0", "1/2/3"]),
    ],
)
def test_what_is_told_is_taken_or_refused(kind, good, bad):
    for text, value in good.items():
        assert kind(text) == value
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError, match=r"must be .*; got"):
            kind(text)


@pytest.mark.parametrize("minutes", ["1e300", "1e18", "inf", "0", "3"])
def test_an_option_and_a_key_have_the_same_bounds(minutes):
    told = {"system": "a", "minutes": float(minutes)}
    if minutes in ("1e18", "3"):
        assert values.positive(minutes) == Settings.recalled(told, "run.json").minutes
        return
    for refuse in (lambda: values.positive(minutes), lambda: Settings.recalled(told, "run.json")):
        with pytest.raises((argparse.ArgumentTypeError, ConfigurationError), match=re.escape(values.POSITIVE)):
            refuse()
