"""Plausible synthetic results of the probes that look at whole spectra."""

import numpy as np
import xarray as xr

STEPS = np.array([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000])


def attrs(probe, arch, seed):
    return {"run": f"markov-{arch}-s{seed}", "arch": arch, "task": "markov", "run_seed": seed, "probe": probe}


def generator(arch, seed):
    return np.random.default_rng([seed, *arch.encode()])


def entropy(arch="single", seed=0, *, steps=STEPS, exact=True):
    rng = generator(arch, seed)
    t = np.log1p(np.asarray(steps)) / np.log(1001)
    dip = 4.5 - 3 * np.exp(-((t - 0.4) ** 2) / 0.03) * (arch == "looped") - 1.5 * t
    base = {
        "trace": 30 * (1 + t),
        "entropy": dip,
        "effective_rank": np.exp(dip),
        "participation_ratio": np.exp(0.8 * dip),
        "negative_share": 0.3 * (1 - t),
        "log_spread": 1.4 + 0.3 * t,
        "log_iqr": 1.9 - 0.5 * t,
        "slope": -1 - 0.8 * t,
    }
    values = {k: v * (1 + 0.02 * rng.standard_normal(len(t))) for k, v in base.items()}
    values |= {f"{k}_stderr": 0.0 * v if exact and k != "slope" else 0.03 * np.abs(v) for k, v in base.items()}
    if not exact:
        values["slope"] = values["slope_stderr"] = np.full(len(t), np.nan)
    values |= {"exact": np.full(len(t), exact), "slope_first": np.ones(len(t), int)}
    values["slope_last"] = np.r_[80, np.full(len(t) - 1, 100)]
    return xr.Dataset({k: ("step", v) for k, v in values.items()}, {"step": steps}, attrs("entropy", arch, seed))


def force(arch="single", seed=0, *, steps=STEPS):
    rng = generator(arch, seed)
    eps, tau = np.array([1e-13, 1e-5, 1e-4, 1e-2]), np.array([1e-3, 1e-1, 1.0])
    shape = (len(steps), len(eps), len(tau))
    values = 1 / np.sqrt(eps)[:, None] * tau**0.2 * np.exp(0.2 * rng.standard_normal(shape))
    values = np.where(eps[:, None] < tau, values, np.nan)
    share = np.where(eps[:, None] < tau, 0.3 + 0.5 * rng.random(shape), np.nan)
    return xr.Dataset(
        {
            "inverse_sum": (("step", "eps", "tau"), values),
            "inverse_sum_stderr": (("step", "eps", "tau"), 0.05 * values),
            "flattest_share": (("step", "eps", "tau"), share),
            "resolved": (("step", "eps"), np.tile(eps > 1e-9, (len(steps), 1))),
        },
        {"step": steps, "eps": eps, "tau": tau},
        attrs("force", arch, seed),
    )


def evolution(arch="single", seed=0, *, steps=STEPS, k=3, known=True):
    rng = generator(arch, seed)
    n = len(steps)
    entropy = np.r_[np.full(n // 3, 4.5), np.full(n // 3, 2.6), np.full(n - 2 * (n // 3), 3.4)]
    i = np.arange(n)
    near = np.exp(-np.abs(i[:, None] - i) / 4)
    penalty = np.array([0.5, 1.0, 2.0, 4.0, 8.0])
    phases = np.array([5, 4, 3, 3, 2]) if known else np.zeros(5, int)
    return xr.Dataset(
        {
            "entropy": ("path_step", entropy + 0.05 * rng.standard_normal(n)),
            "entropy_stderr": ("path_step", np.full(n, 0.0 if known else 0.1)),
            "phase": ("path_step", (1 + i // (n // 3)).clip(1, 3) if known else np.zeros(n, int)),
            "n_phases": ("penalty", phases),
            "mutual_information": (("step_a", "step_b"), 4 * near if known else np.full((n, n), np.nan)),
            "angle": (("step_a", "step_b", "mode"), np.linspace(0.5, 1, k) * 1.5 * (1 - near[..., None])),
        },
        {"path_step": steps, "step_a": steps, "step_b": steps, "penalty": penalty},
        attrs("evolution", arch, seed),
    )


BUILDERS = {"entropy": entropy, "force": force, "evolution": evolution}
