"""Studies by name."""

import pytest

from landscape import LandscapeError
from landscape.grids.presets import STUDIES, study_grids
from landscape.verdict.rule import MINIMUM


@pytest.mark.parametrize("name", STUDIES)
def test_every_kind_of_run_has_as_many_seeds_as_a_decision_needs(name):
    for grid in study_grids(name).values():
        kinds = {}
        for config in grid.configs.values():
            given = config.to_dict()
            kinds.setdefault(str({**given, "seed": None}), set()).add(given["seed"])
        assert min(map(len, kinds.values())) >= MINIMUM


def test_an_unknown_study_is_refused():
    with pytest.raises(LandscapeError, match="paper, quick"):
        study_grids("fast")
