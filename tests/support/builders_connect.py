"""Plausible synthetic connections of two checkpoints."""

import numpy as np
import xarray as xr

from support.builders_spectra import attrs


def connect(arch="single", seed=0, *, top=1.1, points=21):
    """Two seeds of an architecture: a hump on the line, a lower one when units are aligned, none on the curve."""
    t = np.linspace(0, 1, points)
    hump = 16 * (t * (1 - t)) ** 2
    heights = np.array([[top, 0.02], [0.4 * top + 0.05 * seed, 0.0]])
    loss = 0.77 + 0.02 * t + heights[:, :, None, None] * hump
    loss[:, 1, 0] -= 0.1 * (t * (1 - t))
    over = loss - (loss[..., :1] * (1 - t) + loss[..., -1:] * t)
    each = ("alignment", "path", "objective")
    return xr.Dataset(
        {
            "loss": ((*each, "t"), loss),
            "barrier": (each, over.max(-1)),
            "barrier_t": (each, t[over.argmax(-1)]),
            "rise": (each, (loss - loss[..., [0, -1]].max(-1, keepdims=True)).max(-1)),
            "curve_converged": (("alignment", "objective"), np.array([[True], [False]])),
        },
        {"t": t, "alignment": ["none", "matched"], "path": ["line", "curve"], "objective": [arch]},
        attrs("connect", arch, seed) | {"step": 1000, "run_b": f"markov-{arch}-s{seed + 1}", "step_b": 1000},
    )
