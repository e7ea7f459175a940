"""Plausible synthetic results for the tests of figures, and the figures drawn from them."""

from functools import cache

import numpy as np
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg

from landscape.figures import FIGURES
from landscape.figures.style import paper
from support import builders_connect, builders_length, builders_spectra, builders_verdict
from support.builders_dynamics import alignment, hopping, loops, sharpness
from support.builders_spectra import STEPS, attrs, generator

CURVATURE = "nats per token per squared parameter unit"


def metrics(arch="single", seed=0, *, families=("all", "simple", "complex"), n=61):
    rng = generator(arch, seed)
    step = np.arange(n) * 10
    final = {"all": 0.7, "simple": 0.85, "complex": 0.75 if arch == "looped" else 0.66}
    t = 1 - np.exp(-step / 120)
    share = np.array([0.1 + (final[f] - 0.1) * t for f in families]).T[:, None, :]
    accuracy = share + 0.01 * rng.standard_normal((n, 2, len(families)))
    step_only = {k: ("step", step * c + 1.0 * (k == "seconds") * seed * step) for k, c in _RATES.items()}
    return xr.Dataset(
        {
            "accuracy": (("step", "split", "family"), accuracy),
            "loss": (("step", "split", "family"), 2.8 * (1 - accuracy) + 0.1),
            **step_only,
            "bayes_loss": ("family", [np.nan if f == "all" else 0.5 + 0.3 * (f == "complex") for f in families]),
            "bayes_accuracy": ("family", [np.nan if f == "all" else 0.861 - 0.09 * (f == "complex") for f in families]),
        },
        {"step": step, "split": ["probe", "test"], "family": list(families)},
        attrs("metrics", arch, seed),
    )


_RATES = {"tokens": 1024, "flops": 3.2e9, "seconds": 0.02, "gradient_norm": 1.0, "learning_rate": 1.0}


def spectrum(arch="single", seed=0, *, steps=STEPS, top=4, bottom=2):
    rng = generator(arch, seed)
    k = top + bottom
    sharp = 40 if arch == "looped" else 15
    base = np.r_[sharp / (1 + np.arange(top)) ** 1.3, -0.3 * (1 + np.arange(bottom))]
    growth = 0.05 + 1 - np.exp(-steps / 50)
    value = np.outer(growth, base) * np.exp(0.1 * rng.standard_normal((len(steps), k)))
    residual = 1e-3 * np.abs(value)
    converged = np.ones((len(steps), k), bool)
    converged[3, top - 1] = converged[-2, -1] = False
    residual[~converged] = 0.2 * np.abs(value[~converged])
    return xr.Dataset(
        {
            "eigenvalue": (("step", "mode"), value, {"units": CURVATURE}),
            "residual": (("step", "mode"), residual),
            "converged": (("step", "mode"), converged),
            "n_products": ("step", np.full(len(steps), 80)),
        },
        {"step": steps, "end": ("mode", ["top"] * top + ["bottom"] * bottom)},
        attrs("spectrum", arch, seed),
    )


def density(arch="single", seed=0, *, steps=STEPS, vectors=4, quad=20, size=500):
    rng = generator(arch, seed)
    sharp = 40 if arch == "looped" else 15
    growth = (0.05 + 1 - np.exp(-np.asarray(steps) / 50))[:, None, None]
    base = np.r_[-0.3, -0.02, -1e-3, 1e-4 * np.arange(1, quad - 12), sharp / (1 + np.arange(10)) ** 2][:quad]
    shape = (len(steps), vectors, quad)
    node = np.sort(growth * base * np.exp(0.1 * rng.standard_normal(shape)))
    weight = np.where(np.abs(node) < 0.01, 1.0, 1 / size) * rng.random(shape)
    node[:, 1, -2:], weight[:, 1, -2:] = np.nan, 0.0
    return xr.Dataset(
        {
            "node": (("step", "vector", "quad"), node, {"units": CURVATURE}),
            "weight": (("step", "vector", "quad"), weight / weight.sum(-1, keepdims=True)),
            "n_parameters": size,
        },
        {"step": list(steps)},
        attrs("density", arch, seed),
    )


def valley(arch="single", seed=0, *, steps=(0, 100, 1000)):
    rng = generator(arch, seed)
    names = ["top 1", "top 2", "top 3", "bottom 1", "random 1", "random 2", "gradient"]
    rise = np.array([1e-3, 1e-2, 1e-1])
    lam = np.array([20.0, 8, 3, -0.2, 0.05, 0.06, 5]) * (2 if arch == "looped" else 1)
    quadratic = np.sqrt(2 * rise / np.where(lam > 0, lam, np.nan)[:, None])
    shape = (len(steps), len(names), 2, 3)
    width = np.where(np.isfinite(quadratic), quadratic, 5.0)[None, :, None, :] * np.exp(
        0.2 * rng.standard_normal(shape)
    )
    censored = np.zeros(shape, bool)
    censored[:, 3] = True
    censored[:, 4, 1] = True
    width[-1, 5, 0] = np.nan
    return xr.Dataset(
        {
            "half_width": (("step", "mode", "side", "rise"), width, {"units": "parameter units (Euclidean)"}),
            "censored": (("step", "mode", "side", "rise"), censored),
            "exponent": (("step", "mode", "side"), 2 + 0.3 * rng.standard_normal(shape[:3])),
            "exponent_stderr": (("step", "mode", "side"), np.full(shape[:3], 0.05)),
            "curvature": (("step", "mode"), np.tile(lam, (len(steps), 1))),
            "quadratic_half_width": (("step", "mode", "rise"), np.tile(quadratic, (len(steps), 1, 1))),
            "floor": (("step", "mode"), np.zeros(shape[:2])),
            "floor_drop": (("step", "mode"), np.zeros(shape[:2])),
        },
        {"step": list(steps), "side": ["-", "+"], "rise": rise, "direction": ("mode", names)},
        attrs("valley", arch, seed),
    )


def samples(arch="single", seed=0, *, steps=STEPS, n=61):
    rng = generator(arch, seed)
    content = np.r_[0.6 + 0.5 * rng.random(n // 2), 1.0 + 0.9 * rng.random(n - n // 2)]
    floor = content * np.log(2) * (1 if arch == "looped" else 1.2)
    learned = 5 * np.exp(2.2 * (content - 0.6))
    loss = floor + (2.8 - floor) * np.exp(-steps[:, None] / learned / 4) + 0.1 * rng.random((len(steps), n))
    loss[5, 10:14] = np.nan
    family = np.array(["simple"] * (n // 2) + ["complex"] * (n - n // 2))
    return xr.Dataset(
        {"loss": (("step", "sample"), loss), "correct": (("step", "sample"), np.exp(-loss))},
        {"step": steps, "information_content": ("sample", content), "family": ("sample", family)},
        attrs("samples", arch, seed),
    )


def surface(arch="single", seed=0, *, directions="eigen"):
    rng = generator(arch, seed)
    alpha, beta = np.linspace(-1, 1, 21), np.linspace(-2, 2, 25)
    steep = 20 if arch == "looped" else 4
    loss = 0.9 + steep * alpha[:, None] ** 2 + 0.05 * (beta - 2) ** 2
    loss[0, :3] = np.nan
    t = np.linspace(0, 1, 9)
    return xr.Dataset(
        {
            "loss": (("alpha", "beta"), loss, {"units": "nats per token"}),
            "gram": (("direction", "direction_2"), np.eye(2)),
            "path_alpha": ("path_step", (1 - t) * 0.8 * np.cos(9 * t) + 0.02 * rng.standard_normal(9) * (t < 1)),
            "path_beta": ("path_step", -1.8 * (1 - t)),
            "path_loss": ("path_step", 2 - t),
            "path_distance": ("path_step", 3.2 * (1 - t)),
        },
        {"alpha": alpha, "beta": beta, "path_step": STEPS[:9]},
        attrs("surface", arch, seed) | {"directions": directions, "step": 1000},
    )


def planes(arch="single", seed=0):
    """The plane with frames."""
    ds = surface(arch, seed)
    shift = np.array([3.0, 1.0, 0.0])[:, None, None]
    return ds.assign(frame_loss=(("frame_step", "alpha", "beta"), ds["loss"].values + shift)).assign_coords(
        frame_step=STEPS[[0, 4, 8]]
    )


def line(arch="single", seed=0):
    """A cut with draws, a hole, walls and a parabola: 1 + 2 x + 2 x^2 on the line x = 0.5 alpha."""
    alpha = np.linspace(-3, 3, 13)
    loss = (1 + alpha + alpha**2 / 2)[:, None]
    loss[-1] = np.inf
    draws = np.stack([loss, loss + 0.3 * np.abs(alpha)[:, None]])
    return xr.Dataset(
        {
            "loss": (("alpha", "beta"), loss),
            "gram": (("direction", "direction_2"), [[0.25]]),
            "draw_loss": (("draw", "alpha", "beta"), draws),
            "centre_loss": ((), 1.0),
            "slope": ("direction", [1.0]),
            "curvature": ("direction", [1.0]),
            "floor": ("direction", [-1.0]),
            "floor_loss": ("direction", [0.5]),
            "floor_converged": ("direction", [True]),
            "wall": (("direction", "side"), [[-2.0, 0.0]]),
            "wall_censored": (("direction", "side"), [[False, False]]),
            "rise": ((), 0.5),
        },
        {"alpha": alpha, "beta": [0.0], "side": ["-", "+"], "draw": [0, 1]},
        attrs("surface", arch, seed) | {"directions": "random", "step": 1000},
    )


def branches(arch="single", seed=0):
    """Decay branches; the last of the first seed diverged."""
    step = STEPS[4::2]
    river = 0.6 + 2 * np.exp(-step / 100) + 0.02 * seed
    valley = 0.2 * np.exp(-step / 300)
    complete = np.arange(len(step)) < len(step) - (seed == 0)
    per_token = {"units": "nats per token", "long_name": "loss"}
    return xr.Dataset(
        {
            "loss": ("step", river + valley, per_token),
            "river_loss": ("step", np.where(complete, river, np.nan), per_token),
            "valley_loss": ("step", np.where(complete, valley, np.nan), per_token),
            "learning_rate": ("step", np.full(len(step), 3e-3), {"units": "1"}),
            "complete": ("step", complete, {"units": "1"}),
        },
        {"step": step},
        attrs("decay", arch, seed) | {"run_id": f"{arch}{seed}", "split": "probe", "family": "all", "decay_steps": 50},
    )


def split(arch="single", seed=0):
    """A valley that narrows; the smallest threshold is within the error of an eigenvalue at the first step."""
    eps = np.array([1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0])
    wide = 400 * eps**-0.2 * np.exp(-STEPS / 2000)[:, None] * (1.2 if arch == "looped" else 1.0) + seed
    kappa = (20 + 10 * (arch == "looped")) / eps * np.ones((len(STEPS), 1))
    sure = np.ones((len(STEPS), len(eps)), bool)
    sure[0, 2] = False
    both, other = ("step", "eps"), ("step", "eps_relative")
    relative = np.array([1e-4, 1e-3, 1e-2, 1e-1])
    ones = np.ones((len(STEPS), len(relative)))
    return xr.Dataset(
        {
            "dimension_absolute": (both, wide), "kappa_absolute": (both, kappa), "converged_absolute": (both, sure),
            "gap_absolute": (both, 1 + 0.2 * eps * np.ones_like(kappa)),
            "dimension_relative": (other, 30 * relative**-0.3 * ones), "kappa_relative": (other, 0.9 / relative * ones),
            "gap_relative": (other, 1 + relative * ones), "converged_relative": (other, ones > 0),
            "largest_eigenvalue": ("step", np.full(len(STEPS), 22.0 + 10 * (arch == "looped"))),
        },
        {"step": STEPS, "eps": ("eps", eps, {"units": CURVATURE}), "eps_relative": relative},
        attrs("split", arch, seed),
    )  # fmt: skip


def shift(arch="single", seed=0, *, at=None, patience=3, criterion="patience", delta1=0.01):
    """Records of runs; the first seed of `single` stands for a run that shifts, so that every study has one."""
    shifts = at is not None or (arch, seed) == ("single", 0)
    switch = at or (400 if shifts else -1)
    base = 0.66 if arch == "single" and not shifts else 0.75
    both = ("split", "family")
    final = np.full((2, 2), base) - 1e-4 * max(0, switch - 500)
    drop = np.full((2, 2), 0.05 + 2e-4 * switch if switch >= 0 else np.nan)
    settings = {"criterion": criterion, "delta1": delta1, "delta2": 0.05, "patience": patience}
    return xr.Dataset(
        {
            "accuracy_final": (both, final), "accuracy_drop": (both, drop), "switch_step": switch, "final_step": 1000,
            "flops": 1e9 * (3000 - 2 * max(switch, 0) if arch == "looped" or shifts else 1000),
        },
        {"split": ["probe", "test"], "family": ["all", "complex"]},
        attrs("shift", "shift" if shifts else arch, seed) | (settings if shifts else {}),
    )  # fmt: skip


def _in_nats(build):
    """With the units that every stored loss has."""

    def built(*args, **settings):
        ds = build(*args, **settings)
        for name in {"loss", "rise"} & set(ds.variables):
            ds[name].attrs.setdefault("units", "nats per token")
        return ds

    return built


BUILDERS = {
    "shift": shift,
    "split": split,
    "kappa": split,
    "branches": branches,
    "learning": metrics,
    "eigenvalues": spectrum,
    "density": density,
    "widths": valley,
    "trajectories": samples,
    "surface": surface,
    "surface3d": surface,
    "cuts": line,
    "frames": planes,
    "sharpness": sharpness,
    "hopping": hopping,
    "alignment": alignment,
    "loops": loops,
    "length": builders_length.length,
    "examples": builders_length.examples,
    "verdict": builders_verdict.rows,
    "connect": builders_connect.connect,
    **builders_spectra.BUILDERS,
}
BUILDERS = {name: _in_nats(build) for name, build in BUILDERS.items()}


def four(name):
    """Two seeds of each of two architectures."""
    return [BUILDERS[name](arch, seed) for arch in ("single", "looped") for seed in (0, 1)]


def render(figure):
    """Draw a figure, so that its layout is final, and return the canvas."""
    canvas = FigureCanvasAgg(figure)
    with paper():
        canvas.draw()
    return canvas


@cache
def drawn(name):
    """The figure of `four`, its canvas and its pixels, for tests that only look."""
    figure = FIGURES[name].function(four(name))
    canvas = render(figure)
    return figure, canvas, np.asarray(canvas.buffer_rgba())
