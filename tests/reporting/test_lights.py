import math

import pytest

from boltzgen.reporting.lights import check, grade


@pytest.mark.parametrize(("value", "status"), [(1000, "green"), (999, "amber"), (25, "amber"), (24, "red")])
def test_the_light_of_a_number(value, status):
    assert grade(value, 1000, 25) == status


def test_a_green_check_has_no_next_step():
    assert check("draws", 5, "at least 3", "green", "how many", "draw more").next_step == ""
    assert check("draws", 2, "at least 3", "red", "how many", "draw more").next_step == "draw more"


@pytest.mark.parametrize(
    ("value", "percent", "shown"), [(0.123, True, "12.3 %"), (12345.6, False, "12346"), (0.5, False, "0.5")]
)
def test_values_as_people_read_them(value, percent, shown):
    assert check("name", value, "", "green", "", "", percent=percent).shown == shown


def test_infinities_are_words():
    assert check("Pareto k", -math.inf, "", "green", "", "").shown == "no tail"
    assert check("Pareto k", math.inf, "", "red", "", "").shown == "no fit"
