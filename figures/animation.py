"""The loss on a plane that moves with training, frame after frame: for talks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr
from matplotlib.animation import AbstractMovieWriter, FFMpegWriter, PillowWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg

from landscape.errors import LandscapeError
from landscape.figures.contours import Levels
from landscape.figures.datasets import loss_unit
from landscape.figures.frames import checked_frames, draw_frame, frame_handles
from landscape.figures.style import PAGE, paper, sheet

__all__ = ["MOVIES", "save_animation"]

MOVIES = ("gif", "mp4")
_HOLD = 4
"""How many times longer the last frame is shown."""


def save_animation(
    datasets: Sequence[xr.Dataset],
    path: str | os.PathLike[str],
    *,
    fps: int = 3,
    levels: Literal["auto", "linear", "log"] = "auto",
    dpi: int = 150,
) -> None:
    r"""Write the frames of the figure `frames` one after the other, all with the same axes and colours.

    Each run has a panel, and the centre of each panel is the checkpoint whose step is in the title. The last frame
    stands four times as long as the others.

    Args:
        datasets: one ``surface`` dataset with `frame_loss` per run, all at the same steps.
        path: a file that ends in .gif (written by Pillow) or .mp4 (by ffmpeg, which must be installed).
        fps: frames per second.
        levels: as in the figure `frames`, over all frames.
        dpi: pixels per inch of a page of 7 inches.

    Raises:
        LandscapeError: for another ending, a rate below 1, runs with frames at different steps, no ffmpeg
            for .mp4, or datasets that `frames` refuses.

    Example:
        >>> import tempfile
        >>> from landscape import RunConfig, sweep, train
        >>> small = {"task": {"n_train": 16, "n_probe": 8, "n_test": 8}, "model": {"width": 4}, "steps": 4}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = train(RunConfig.make(**small), f"{folder}/a")
        ...     save_animation([sweep("surface", run, seed=0, points=5, frames=[0, 4])], f"{folder}/a.gif")
        ...     Path(f"{folder}/a.gif").read_bytes()[:3]
        b'GIF'
    """
    slices = checked_frames(datasets, levels)
    steps = slices[0]["frame_step"].values
    if not len(steps) or any(not np.array_equal(ds["frame_step"].values, steps) for ds in slices):
        raise LandscapeError("expected frames of all runs at the same training steps, at least one, found others.")
    writer = _writer(Path(path), fps)
    losses = [ds["frame_loss"].values[i].astype(float) for ds in slices for i in range(len(steps))]
    scale = Levels.of(losses, levels, loss_unit(slices))
    with paper():
        figure = sheet(PAGE, 3.6)
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, len(slices), squeeze=False)[0]
        bar = None
        with writer.saving(figure, str(path), dpi):
            for i, step in enumerate(steps):
                for ax, ds, whole in zip(axes, slices, datasets, strict=True):
                    ax.clear()
                    drawn = draw_frame(ax, ds, whole, i, scale)
                    ax.set(xlabel="α", ylabel="β")
                    ax.set_title(f"{ds.attrs['run']}\nstep {int(step)}")
                if bar is None:
                    bar = figure.colorbar(drawn, ax=axes, label=scale.label, ticks=scale.ticks, format="%g", aspect=18)
                    figure.legend(handles=frame_handles(datasets), loc="outside upper center", ncols=3)
                    figure.draw_without_rendering()
                    figure.set_layout_engine("none")  # nothing moves from frame to frame
                for _ in range(_HOLD if i == len(steps) - 1 else 1):
                    writer.grab_frame()


def _writer(path: Path, fps: int) -> AbstractMovieWriter:
    kind = path.suffix[1:]
    if kind not in MOVIES:
        raise LandscapeError(f"expected a file that ends in .{' or .'.join(MOVIES)}, found {path.name!r}.")
    if fps < 1:
        raise LandscapeError(f"expected at least 1 of frames per second, found {fps!r}. Try 3.")
    if kind == "gif":
        return PillowWriter(fps=fps)
    if not FFMpegWriter.isAvailable():
        raise LandscapeError("expected the program ffmpeg for .mp4, found none. Install it, or write a .gif.")
    return FFMpegWriter(fps=fps, extra_args=["-pix_fmt", "yuv420p", "-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2"])
