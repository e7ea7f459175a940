"""Plausible synthetic results of the probe `length`."""

import numpy as np
import xarray as xr
from scipy.stats import beta

from support.builders_spectra import attrs, generator


def examples(arch="single", seed=0, *, steps=(100, 1000), k=10, d=5):
    rng = generator(arch, seed)
    counts = np.arange(k + 1)
    best = np.maximum(0.0, 1 - counts / d)
    loss = best + (0.4 if arch == "single" else 0.05) * (1 - np.exp(-counts / 3))
    error = np.stack([1 + 0 * loss, loss + 0.01 * rng.random(k + 1)])[-len(steps) :]
    ds = xr.Dataset(
        {
            "error": (("step", "examples"), error),
            "error_stderr": (("step", "examples"), 0.02 + 0 * error),
            "window_error": (("step", "loop", "examples"), error[:, None] * np.ones((1, 2, 1))),
            "least_squares": ("examples", best + np.where(counts == d, 3.0, 0.0)),
            "bayes": ("examples", best),
            "bayes_expected": ("examples", best),
            "nothing": ("examples", np.ones(k + 1)),
            "n_samples": 256,
        },
        {"step": list(steps), "examples": counts, "loop": [1, 0]},
        attrs("examples", arch, seed) | {"task": "regression"},
    )
    for name in ("error", "error_stderr", "least_squares", "bayes", "bayes_expected", "nothing"):
        ds[name].attrs["units"] = "squared error"
    return ds


def length(arch="single", seed=0, *, steps=(100, 1000), loops=(0, 1, 2, 4, 8, 16, 32), n=128):
    rng = generator(arch, seed)
    lengths = np.array([1, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 21, 24, 28, 32, 36, 40])
    looped = arch == "looped"
    own = np.minimum(lengths, 24).astype(float) if looped else np.ones(len(lengths))
    used = np.where(np.array(loops)[None] == 0, own[:, None], np.array(loops)[None])
    reach = 24 if looped else 8
    share = 0.5 + 0.5 / (1 + np.exp((lengths - reach) / 2))[:, None] * np.ones(used.shape)
    if looped:
        share = 0.5 + (share - 0.5) * np.exp(-(np.log2(used / lengths[:, None].clip(max=24)) ** 2))
    k = rng.binomial(n, share[None].repeat(len(steps), 0))
    dims = ("step", "length", "loops")
    return xr.Dataset(
        {
            "accuracy": (dims, k / n),
            "accuracy_lower": (dims, np.where(k > 0, beta.ppf(0.025, np.maximum(k, 1), n - k + 1), 0.0)),
            "accuracy_upper": (dims, np.where(k < n, beta.ppf(0.975, k + 1, np.maximum(n - k, 1)), 1.0)),
            "own_loops": (("step", "length"), np.tile(own, (len(steps), 1))),
            "trained_length": ("step", [4, 20]),
        },
        {"step": list(steps), "length": lengths, "loops": list(loops)},
        attrs("length", arch, seed) | {"task": "parity"},
    )
