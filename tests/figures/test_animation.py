"""Planes over training as a film: as many frames as checkpoints, and each is what the figure shows."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from support.builders import planes, surface

from landscape import LandscapeError
from landscape.errors import AbsentError
from landscape.figures import animation
from landscape.figures.animation import save_animation


def test_a_gif_has_a_frame_per_checkpoint_and_the_last_stands(tmp_path):
    save_animation([planes("single"), planes("looped")], tmp_path / "a.gif", dpi=40, fps=4)
    with Image.open(tmp_path / "a.gif") as film:
        shown = []
        for i in range(film.n_frames):
            film.seek(i)
            shown.append((np.asarray(film.convert("RGB")).astype(int), film.info["duration"]))
    assert [time for _, time in shown] == [250, 250, 1000]
    for (one, _), (other, _) in pairwise(shown):
        assert np.abs(one - other).max() > 50
    assert shown[0][0].shape[1] == pytest.approx(280, abs=1)


def test_what_makes_no_film_is_told(tmp_path, monkeypatch):
    with pytest.raises(AbsentError, match="several checkpoints"):
        save_animation([surface()], tmp_path / "a.gif")
    with pytest.raises(LandscapeError, match=r"\.gif or \.mp4, found 'a.avi'"):
        save_animation([planes()], tmp_path / "a.avi")
    with pytest.raises(LandscapeError, match="frames per second"):
        save_animation([planes()], tmp_path / "a.gif", fps=0)
    with pytest.raises(LandscapeError, match="same training steps"):
        save_animation([planes(), planes("looped").isel(frame_step=[0, 1])], tmp_path / "a.gif")
    monkeypatch.setattr(animation.FFMpegWriter, "isAvailable", classmethod(lambda _: False))
    with pytest.raises(LandscapeError, match="ffmpeg"):
        save_animation([planes()], tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())
