"""Sentences follow from numbers and their flags."""

import numpy as np
import xarray as xr

from landscape.probes import density, entropy, samples, spectrum, surface, valley
from landscape.report.words import findings

UNITS = {"units": "loss unit per squared parameter unit"}


def said(name, ds):
    return findings({name: ds})


def eigenvalues(value, *, residual=1e-6, converged=True, resolved=True, end="top", step=None):
    value = np.asarray(value, float)
    dims = ("mode",) if step is None else ("step", "mode")
    fill = lambda x: (dims, np.broadcast_to(x, value.shape).copy())  # noqa: E731
    where = resolved if step is None else ("step", np.full(len(step), resolved))
    ds = xr.Dataset(
        {
            "eigenvalue": (dims, value, UNITS),
            "residual": fill(residual),
            "converged": fill(converged),
            "resolved": where,
        },
        {"end": ("mode", np.array(value.shape[-1] * [end] if isinstance(end, str) else end))},
    )
    return ds if step is None else ds.assign_coords(step=step)


def test_an_eigenvalue_comes_with_its_error_its_unit_and_both_flags():
    (first,) = said("spectrum", eigenvalues([12.345678], residual=2e-3))
    assert str(first) == (
        "The largest Hessian eigenvalue is 12.346 ± 0.002 loss unit per squared parameter unit "
        "(the error is its residual; converged; none was missed)."
    )
    assert first.trust == "sure"


def test_what_did_not_converge_says_so():
    (first,) = said("spectrum", eigenvalues([12.0], converged=False))
    assert first.trust == "doubtful"
    assert "NOT converged" in str(first)
    (first,) = said("spectrum", eigenvalues([12.0], resolved=False))
    assert first.trust == "doubtful"
    assert "another may have been missed" in str(first)


def test_a_negative_eigenvalue_is_told_only_where_its_error_leaves_it_negative():
    clear = said("spectrum", eigenvalues([3.0, -0.5], end=["top", "bottom"], residual=0.1))
    assert any("no minimum" in str(f) and "−0.5 ± 0.1" in str(f) for f in clear)
    unclear = said("spectrum", eigenvalues([3.0, -0.5], end=["top", "bottom"], residual=0.6))
    assert not any("no minimum" in str(f) for f in unclear)


def test_a_trend_names_steps_and_counts_what_did_not_converge():
    ds = eigenvalues([[1.0], [9.0], [4.0]], step=[0, 5, 10])
    trend = said("spectrum", ds)[-1]
    assert "from 1 at step 0 to 4 at step 10; it was largest, 9, at step 5" in str(trend)
    assert trend.trust == "sure"
    ds["converged"][1, 0] = False
    trend = said("spectrum", ds)[-1]
    assert "NOT converged at 1 of them" in str(trend)
    assert trend.trust == "doubtful"


def test_units_are_those_of_the_dataset(objective):
    for probe, name in ((spectrum, "eigenvalue"), (entropy, "trace"), (density, "trace"), (surface, "loss")):
        given = {"directions": "random", "points": 3} if probe is surface else {}
        ds = probe(objective, objective.w0, seed=0, **given)
        ds[name].attrs["units"] = "unit of mine"
        assert any("unit of mine" in str(f) for f in said(probe.__name__, ds)), name


def test_the_whole_spectrum_is_exact_or_has_an_interval(objective):
    exact = said("entropy", entropy(objective, objective.w0, seed=0))
    assert all("(from all eigenvalues)" in str(f) and f.trust == "sure" for f in exact)
    estimated = entropy(objective, objective.w0, seed=0, exact_up_to=0, vectors=3, quad=5)
    low = float(estimated.effective_rank_low)
    assert any(f"95 % interval over random vectors: {low:.4g} to" in str(f) for f in said("entropy", estimated))
    old = estimated.drop_vars([n for n in estimated.variables if n.endswith(("_low", "_high"))])
    assert all(f.trust == "doubtful" and "NOT known" in str(f) for f in said("entropy", old))


def test_an_estimate_is_not_told_beside_the_exact_numbers(objective):
    both = {"entropy": entropy(objective, objective.w0, seed=0), "density": density(objective, objective.w0, seed=0)}
    assert {f.probe for f in findings(both)} == {"entropy"}


def test_widths_beyond_the_search_are_bounds(objective):
    ds = valley(objective, objective.w0, seed=0, top=2, bottom=0, random=1, rises=(1e-3, 1e4, 1e5))
    middle = ds.isel(rise=(ds.sizes["rise"] - 1) // 2)
    bound = middle.censored & middle.floor_converged
    assert bound.any()
    (told,) = [f for f in said("valley", ds) if f.trust == "bound" and "longer than was searched" in str(f)]
    least = float(middle.half_width.where(bound).min())
    assert f"at least {least:.3g} parameter units" in str(told)


def test_widths_are_held_against_parabolas(objective):
    ds = valley(objective, objective.w0, seed=0, top=2, bottom=0, random=1)
    (told,) = [f for f in said("valley", ds) if "parabola" in str(f)]
    at = ds.isel(rise=(ds.sizes["rise"] - 1) // 2)
    ratio = (at.half_width / at.quadratic_half_width).where(at.converged & at.floor_converged)
    both = np.isfinite(ratio).all("side")
    agree = (abs(ratio - 1) <= 0.2).all("side") & both
    assert f"in {int(agree.sum())} of {int(both.sum())} directions" in str(told)


def test_dominating_samples_are_those_of_the_weighted_loss():
    loss = np.ones(20)
    loss[3] = 100.0
    ds = xr.Dataset({"loss": ("sample", loss, {"units": "loss unit"})})
    share = 100 * 101 / 119
    assert any(f"make up {share:.3g} % of the loss" in str(f) for f in said("samples", ds))
    weighed = ds.assign_coords(weight=("sample", np.where(loss > 1, 0.0, 1.0)))
    told = [str(f) for f in said("samples", weighed)]
    assert "The weighted mean loss over 20 samples is 1 loss unit" in told[0]
    assert any("make up 10.5 % of the loss" in t for t in told)  # two of the nineteen that weigh something
    assert not any("make up" in str(f) for f in said("samples", ds.assign(loss=ds.loss - 2)))  # negative losses


def test_samples_are_those_of_the_probe(objective):
    ds = samples(objective, objective.w0)
    mean = float(objective.loss(objective.w0))
    assert f"The mean loss over 21 samples is {mean:.4g} loss unit" in str(said("samples", ds)[0])


def test_holes_of_a_plane_are_counted():
    loss = np.array([[1.0, np.inf], [2.0, 3.0]])
    ds = xr.Dataset(
        {"loss": (("alpha", "beta"), loss, {"units": "loss unit"})}, {"alpha": [0.0, 1.0], "beta": [0.0, 1.0]}
    )
    (told,) = said("surface", ds)
    assert "between 1 and 3 loss unit" in str(told)
    assert "1 points have no finite loss" in str(told)


def test_metrics_of_any_run_tell_their_losses():
    values = ("step", [3.0, 1.0, np.nan, 2.0], {"units": "loss unit"})
    ds = xr.Dataset({"loss": values, "learning_rate": ("step", np.ones(4))}, {"step": [0, 5, 10, 20]})
    ds.attrs["status"] = "diverged"
    loss, status = said("metrics", ds)
    assert str(loss) == (
        "The loss, as it was recorded, went from 3 at step 0 to 2 loss unit at step 20; it was lowest, 1, at step 5."
    )
    assert status.trust == "doubtful"
