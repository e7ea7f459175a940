from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from support import strangers

from landscape import LandscapeError
from landscape.loss.named import NamedLoss

FILE = """
import torch
def mine():
    return torch.nn.Linear(2, 1), None, (torch.ones(3, 2), None)
def fails():
    return 1 / 0
def wrong():
    return 3
"""


def test_a_module_and_a_file_name_the_same_kind_of_thing(tmp_path, monkeypatch):
    (tmp_path / "losses.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    for location in ("losses.py:mine", f"{tmp_path}/losses.py:mine"):
        loss = NamedLoss(location)
        assert (loss.label, loss.location) == ("losses.py:mine", f"{tmp_path}/losses.py:mine")
        assert isinstance(loss.parts().module, torch.nn.Linear)
    assert NamedLoss("support.strangers:objective").parts("test").module is not None
    assert NamedLoss.of(strangers.objective).location == "support.strangers:objective"


def test_a_split_is_handed_on_where_it_is_known():
    loss = NamedLoss("support.strangers:objective")
    assert loss.parts("probe").fingerprint == loss.parts().fingerprint != loss.parts("test").fingerprint
    with pytest.raises(LandscapeError, match="takes no `split`"):
        NamedLoss("support.strangers:weighted").parts("test")


def test_weights_and_the_first_samples():
    parts = NamedLoss("support.strangers:weighted").parts()
    assert parts.head(3).weights.tolist() == [1, 2, 3]
    assert parts.head(3).data[0].shape == (3, 4)
    with pytest.raises(LandscapeError, match="at least 100 samples, found 24"):
        parts.head(100)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("losses.py", "expected an objective"),
        ("losses.py:not a name", "expected an objective"),
        ("losses.py:nothing", r"expected a function 'nothing' in losses.py, found none. Functions there: mine"),
        ("absent.py:mine", "expected the objective's file .*absent.py, found none"),
        ("absent.module:mine", "cannot be imported: ModuleNotFoundError"),
        ("losses.py:fails", r"failed: ZeroDivisionError: division by zero \(line 6 of .*losses.py\)"),
        ("losses.py:wrong", "from the objective losses.py:wrong, found int"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_message(tmp_path, monkeypatch, location, message):
    (tmp_path / "losses.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LandscapeError, match=message):
        NamedLoss(location).parts()


def test_functions_without_a_place_are_refused():
    with pytest.raises(LandscapeError, match="nobody else could import it"):
        NamedLoss.of(lambda: None)


def test_a_script_that_trains_when_imported_is_refused(tmp_path):
    """Without a guard the file of the objective would train again each time it is probed."""
    (tmp_path / "script.py").write_text(
        "import torch, landscape\n"
        "def mine():\n    return torch.nn.Linear(2, 1), lambda y, _: y[:, 0], (torch.ones(3, 2), None)\n"
        "landscape.record('run', torch.nn.Linear(2, 1), objective='script.py:mine').close()\n"
    )
    ok = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ok.returncode == 0, ok.stderr
    code = "from landscape.loss.named import NamedLoss; NamedLoss('script.py:mine').parts()"
    bad = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert 'Put the training below `if __name__ == "__main__":`' in bad.stderr
