"""Results of `hopping`, `alignment`, `loops` and `sharpness`."""

import numpy as np
import xarray as xr

from support.builders_spectra import attrs, generator

STEPS = np.array([0, 1, 2, 4, 16, 64, 256, 1000])
GROUPS = ["W_Q", "W_K", "W_V", "head", "embeddings", "all"]


def hopping(arch="single", seed=0, *, steps=STEPS, n=20, k=3):
    """A `hopping` result: the last step was not followed at all, the one before for half of the updates."""
    rng = generator(arch, seed)
    m = len(steps)
    n_updates = np.r_[np.full(m - 2, n), n // 2, 0]
    c = 0.01 * rng.standard_normal((m, n, k)) * (-1.0) ** np.arange(n)[:, None]
    c[np.arange(n) >= n_updates[:, None]] = np.nan
    some = np.where(n_updates > 0, 1.0, np.nan)
    rate = np.clip(np.linspace(0.1, 0.9, m)[:, None] + 0.05 * rng.standard_normal((m, k)), 0, 1) * some[:, None]
    net = np.stack([0.1 * np.exp(-steps / 9.0), 1.5 * np.exp(-steps / 99.0)], axis=1) * some[:, None]
    cross, rest = 1e-3 * rng.standard_normal((2, m)) * some
    converged = np.ones((m, k), bool)
    converged[2, 1] = False
    return xr.Dataset(
        {
            "coefficient": (("step", "update", "mode"), c),
            "hop_rate": (("step", "mode"), rate),
            "hop_rate_stderr": (("step", "mode"), np.full((m, k), 0.04)),
            "autocorrelation": (("step", "mode"), 1 - 2 * rate),
            "autocorrelation_stderr": (("step", "mode"), np.full((m, k), 0.06)),
            "converged": (("step", "mode"), converged),
            "net_sum": (("step", "subspace"), net),
            "cross_term_sum": ("step", cross),
            "remainder_sum": ("step", rest),
            "decrease_sum": ("step", net.sum(1) + cross + rest, {"units": "nats per token"}),
            "censored": ("step", n_updates < n),
            "n_updates": ("step", n_updates),
        },
        {"step": steps, "update": np.arange(1, n + 1), "subspace": ["valley", "river"]},
        attrs("hopping", arch, seed),
    )


def alignment(arch="single", seed=0, *, steps=STEPS):
    rng = generator(arch, seed)
    m = len(steps)
    cosine = 0.8 * np.exp(-steps / 30.0)[:, None] + 0.1 * rng.standard_normal((m, len(GROUPS)))
    return xr.Dataset(
        {
            "cosine": (("step", "group"), cosine),
            "cosine_stderr": (("step", "group"), np.full(cosine.shape, 0.05)),
            "dominance": (("step", "architecture"), -0.6 + 0.1 * rng.standard_normal((m, 2))),
            "dominance_stderr": (("step", "architecture"), np.full((m, 2), 0.01)),
            "form_definiteness": (("step", "form"), np.tile([-0.95, -0.7], (m, 1))),
            "loops": ("step", np.full(m, 3)),
        },
        {"step": steps, "group": GROUPS, "architecture": ["single", "looped"], "form": ["W_Q'W_K", "W_V"]},
        attrs("alignment", arch, seed),
    )


def sharpness(arch="single", seed=0, *, steps=STEPS):
    """A `sharpness` result: at one step the update climbs, at one the loss never rises, the last knows no rate."""
    rng = generator(arch, seed)
    m = len(steps)
    critical = (3 + 4 * (arch == "looped")) * (1 + steps / 100.0) ** 0.5 * np.exp(0.2 * rng.standard_normal(m))
    directional = critical * np.exp(0.3 * rng.standard_normal(m))
    critical[3] = directional[3] = np.nan
    directional[4] *= -1
    first, second = -0.1 * np.exp(-steps / 99.0), 0.01 * np.exp(-steps / 50.0)
    first[3] *= -1
    rest = 1e-3 * rng.standard_normal(m)
    rate = np.where(np.arange(m) < m - 1, 0.1 / (1 + steps / 500.0), np.nan)
    index = np.arange(m)
    return xr.Dataset(
        {
            "critical_sharpness": ("step", critical, {"units": "1 / learning rate"}),
            "directional_sharpness": ("step", directional),
            "converged": ("step", ~np.isin(index, (3, 4))),
            "censored": ("step", index == 4),
            "falls": ("step", index != 3),
            "learning_rate": ("step", rate),
            "change": ("step", first + second + rest, {"units": "nats per token"}),
            "first_order": ("step", first),
            "second_order": ("step", second),
            "remainder": ("step", rest),
        },
        {"step": steps},
        attrs("sharpness", arch, seed),
    )


def loops(arch="single", seed=0, *, steps=STEPS, passes=8, at=(1, 3, 8)):
    """A `loops` result: the loss turns after three passes, one Jacobian has not converged, one state runs away."""
    rng = generator(arch, seed)
    m, t = len(steps), np.arange(1, passes + 1)
    trained = 3 if arch == "looped" else 1
    curve = (1 + 0.1 * (t - trained) ** 2) * (0.4 + np.exp(-steps / 99.0))[:, None]
    curves = {
        "loss": curve,
        "norm": 4 + 0.5 * t + 0 * curve,
        "step_length": 0.5 * 0.7**t + 0.01 * rng.random((m, passes)),
        "cosine": np.where(t > 1, np.tanh(t - 3.0), np.nan) + 0 * curve,
    }
    curves["loss"][-1, -1] = np.inf
    radius = (0.8 + 0.1 * rng.random((m, 3))) + 0.05 * np.arange(3)
    converged = np.ones((m, 3, 2), bool)
    converged[4, 1, 0] = False
    values = {n: (("step", "pass"), x) for n, x in curves.items()}
    values |= {f"{n}_stderr": (("step", "pass"), np.full((m, passes), 0.01)) for n in curves}
    values |= {n: (("step", "at"), x) for n, x in (("radius", radius), ("gain", 2 * radius))}
    values |= {f"{n}_stderr": (("step", "at"), np.full((m, 3), 0.05)) for n in ("radius", "gain")}
    label = np.array(["settling"] * (m - 1) + ["drifting"])
    return xr.Dataset(
        values
        | {
            "converged": (("step", "at", "sample"), converged),
            "growth": ("step", np.full(m, 0.7)),
            "label": ("step", label),
            "share": (("step", "dynamics"), np.tile([0.75, 0.0, 0.25], (m, 1))),
            "loops": ("step", np.full(m, trained)),
            "trained_loops": ("step", np.full(m, trained)),
        },
        {
            "step": steps,
            "pass": t,
            "at": list(at),
            "sample": [0, 9],
            "dynamics": ["settling", "marginal", "drifting"],
        },
        attrs("loops", arch, seed),
    )
