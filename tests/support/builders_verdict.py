"""Planted studies: runs whose answers are drawn, so that what the verdict should say of them is known."""

from dataclasses import replace
from functools import partial

import numpy as np
import xarray as xr

from landscape.answers.files import DamagedError
from landscape.verdict.stored import Answer, Subject

METRICS = ("euclidean", "filter", "adam")
STEPS = np.arange(0, 1001, 50)
CHECKPOINTS = np.array([0, 10, 100, 1000])


def config(arch="single", **changes):
    """A config as plain values, with what an architecture decides."""
    loops, layers = {"single": (1, 1), "stacked": (1, 3)}.get(arch, (3, 1))
    own = {"criterion": "fixed", "at": 300} if arch == "shift" else None
    flat = {
        "task": {"name": "markov", "length": 8},
        "model": {"name": "attention", "width": 16, "loops": loops, "layers": layers},
        "arch": arch,
        "shift": own,
        "steps": 1000,
        "device": "cpu",
        "origin": None,
    }
    return flat | changes


def subject(arch="single", seed=0, *, effect=0.0, noise=0, status="complete", find=None, name=None, **changes):
    """A run; `effect` moves all its numbers to the claimed side by so many standard deviations of a difference."""
    rng = np.random.default_rng([seed, noise, *arch.encode()])
    shared = np.random.default_rng([seed, noise])  # what the runs of one seed have in common
    answers = planted(rng, shared, effect, seed)

    def every(probe):
        found = answers.get(probe, [])
        if isinstance(found, DamagedError):
            raise found
        return found

    return Subject(
        name=name or f"{arch}-s{seed}",
        id=f"{arch}{seed}{noise}{name}",
        arch=arch,
        seed=seed,
        status=status,
        described=config(arch, seed=seed, **changes),
        find=partial(find, answers) if find else every,
    )


def planted(rng, shared, effect, seed):
    """Answers of a run to the questions of C1, C3, C4, C5, C6, C9 and C10, with noise of one standard deviation."""
    shift = effect * np.sqrt(2)  # a difference of two runs has the standard deviation sqrt(2)

    def noise():
        return 3 * shared.standard_normal() + rng.standard_normal() + shift

    accuracy = np.clip(0.5 + 0.01 * noise() * (STEPS / 1000)[:, None, None] * np.ones((1, 2, 3)), 0, 1)
    loss = 2 - 0.01 * noise() * np.ones((len(STEPS), 2, 3))
    metrics = xr.Dataset(
        {
            "accuracy": (("step", "split", "family"), accuracy),
            "loss": (("step", "split", "family"), loss),
            "flops": ("step", 1e6 * STEPS * (1 + 0.01 * rng.random())),
            "seconds": ("step", 0.01 * STEPS),
        },
        {"step": STEPS, "split": ["probe", "test"], "family": ["all", "simple", "complex"]},
    )
    found = {"metrics": [answer(metrics)]}
    spread, width, sums = noise(), noise(), noise()
    for metric in METRICS:
        flat = np.ones(len(CHECKPOINTS))
        found.setdefault("entropy", []).append(
            answer(
                xr.Dataset(
                    {"log_spread": ("step", 1 + 0.1 * spread * flat), "log_iqr": ("step", 2 + 0.1 * spread * flat)},
                    {"step": CHECKPOINTS},
                ),
                metric,
            )
        )
        found.setdefault("valley", []).append(
            answer(
                xr.Dataset(
                    {
                        "log_width_spread": (("step", "group", "rise"), 1 + 0.1 * width * np.ones((4, 2, 2))),
                        "group_exponent": (("step", "group"), 2 - 0.01 * width * np.ones((4, 2))),
                        "group": ("group", ["top", "random"]),
                    },
                    {"step": CHECKPOINTS, "rise": [0.01, 0.1]},
                ),
                metric,
            )
        )
        found.setdefault("force", []).append(answer(_force(sums), metric))
    length = xr.Dataset(
        {"accuracy": (("step", "length", "loops"), 0.5 + 0.01 * noise() * np.ones((1, 4, 1))), "trained_length": 10},
        {"step": [1000], "length": [8, 10, 12, 14], "loops": [0]},
    )
    return found | {"length": [answer(length)]}


def _force(size):
    """Eigenvalues that are smaller, and sums of inverses that are larger, the larger `size` is."""
    values = np.exp(-0.1 * size) * np.geomspace(1e-3, 1, 200)[::-1]
    eps, tau = np.array([1e-4, 1e-2]), np.array([0.05, 0.5])
    sums = np.exp(0.1 * size) * np.ones((2, 2))
    rows = np.ones(len(CHECKPOINTS))
    return xr.Dataset(
        {
            "eigenvalue": (("step", "rank"), rows[:, None] * values),
            "resolution": ("step", 1e-9 * rows),
            "inverse_sum": (("step", "eps", "tau"), rows[:, None, None] * sums),
            "resolved": (("step", "eps"), np.ones((len(CHECKPOINTS), 2), bool)),
            "relative_inverse_sum": (("step", "relative_eps", "relative_tau"), rows[:, None, None] * sums),
            "relative_resolved": (("step", "relative_eps"), np.ones((len(CHECKPOINTS), 2), bool)),
        },
        {"step": CHECKPOINTS, "eps": eps, "tau": tau, "relative_eps": eps, "relative_tau": tau},
    )


def answer(ds, metric="none", *, settings="{}", created="2026"):
    return Answer(settings=settings, metric=metric, created=created, load=lambda _=(): ds)


def with_settings(answers, settings):
    return [replace(a, settings=settings) for a in answers]


def study(*, effects=None, seeds=8, noise=0, **changes):
    """Runs of several architectures, of each as many seeds; `effects` by architecture."""
    effects = effects or {"single": 0.0, "looped": 0.0}
    return [
        subject(arch, seed, effect=effect, noise=noise, **changes)
        for arch, effect in effects.items()
        for seed in range(seeds)
    ]


def rows(arch="single", seed=0):
    """The dataset of a verdict, as the figure takes it."""
    rng = np.random.default_rng([seed, *arch.encode()])
    claims = [
        ("C1", "two-phase learning", "final gap", ["none"]),
        ("C3", "U and V valleys", "spread of log λ", METRICS),
    ]
    labels = [(*claim, metric, eps) for *claim, metrics in claims for metric in metrics for eps in (0.1, 1.0)]
    n = len(labels)
    effect = rng.standard_normal(n) * 2
    text = dict(
        zip(("claim", "title", "quantity", "metric"), zip(*[row[:4] for row in labels], strict=True), strict=True)
    )
    text |= {"threshold": [f"eps {row[4]}" for row in labels], "a": ["looped"] * n, "b": ["single"] * n}
    text |= {"outcome": ["inconclusive"] * n}
    ds = xr.Dataset({k: ("row", np.array(v)) for k, v in text.items()})
    for name, value in {
        "effect": effect, "effect_low": effect - 0.7, "effect_high": effect + 0.7, "n": np.full(n, 8),
        "side": (np.sign(effect) * (np.abs(effect) > 1)).astype(int), "main": np.ones(n, bool),
        "decides": np.ones(n, bool),
    }.items():  # fmt: skip
        ds[name] = ("row", value)
    attrs = {"probe": "verdict", "setting": f"markov {arch} {seed}", "run": f"markov-{arch}-s{seed}", "arch": arch}
    return ds.assign_attrs(task="markov", run_seed=seed, **attrs)
