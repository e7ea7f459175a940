"""A recursion that explodes beyond its trained passes is drawn, and hides nothing."""

import io

from landscape import RunConfig, sweep, train
from landscape.figures.loops import loops


def test_what_explodes_leaves_its_panel(tmp_path):
    small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 2}
    ds = sweep("loops", train(RunConfig.make(**small), tmp_path / "a"), seed=0, jacobians=1, passes=4, at=(1,))
    far = ds.assign(loss=ds.loss.where(ds["pass"] < 3, 1e307), loss_stderr=ds.loss_stderr.where(ds["pass"] < 3, 1e307))
    for given, top in ((ds, None), (far, 1e12)):
        figure = loops([given])
        figure.savefig(io.BytesIO(), format="png")  # the axis of a range beyond all floats has no ticks
        if top:
            assert figure.axes[0].get_ylim()[1] == top
            assert figure.axes[0].get_ylim()[0] < float(ds.loss.min())
