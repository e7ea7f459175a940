"""Every figure can be drawn from the results that the tests of figures use."""

import pytest
from support.builders import drawn

from landscape.figures import FIGURES


@pytest.mark.parametrize("name", FIGURES)
def test_builders_hold_what_the_figures_need(name):
    drawn(name)
