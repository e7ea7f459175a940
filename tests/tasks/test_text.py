import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape import LandscapeError, Run, RunConfig, train
from landscape.tasks import TextConfig, TextTask

SMALL = {"length": 5, "n_probe": 3, "n_test": 2}


@pytest.fixture
def file(tmp_path):
    """1000 characters; every ten of them tell their position."""
    path = tmp_path / "a.txt"
    path.write_text("".join(f"{i:09d}|" for i in range(100)), encoding="utf-8")
    return path


def make(path, **changes):
    return TextTask(TextConfig(path=str(path), **{**SMALL, **changes}))


def whole(task, split):
    """Text of every window, the start included."""
    part = task.split(split)
    return [task.decode(torch.cat([x, y[-1:]])) for x, y in zip(part.inputs, part.targets, strict=True)]


def test_windows_cover_the_training_part_once_and_never_touch_the_test_part(file):
    text = file.read_text()
    task = make(file, n_test=19)
    windows = whole(task, "train")
    assert len(windows) == 899 // 5
    assert sorted(windows) == sorted(text[i : i + 6] for i in range(0, 895, 5))
    assert sorted(whole(task, "test")) == sorted(text[i : i + 6] for i in range(900, 995, 5))
    assert whole(task, "probe") == windows[:3]
    assert torch.equal(task.split("train").inputs[:, 1:], task.split("train").targets[:, :-1])
    assert windows != sorted(windows, key=text.index)  # taken in random order
    assert windows != whole(make(file, n_test=19, seed=1), "train")
    assert whole(make(file, n_train=7), "train") == windows[:7]


def test_vocabulary_is_that_of_the_training_part_and_one_unknown(tmp_path):
    path = tmp_path / "b.txt"
    path.write_text("abc" * 30 + "aäbß" * 3, encoding="utf-8")
    task = make(path, train_share=90 / 102)
    assert task.vocabulary == 4
    tokens = task.split("test").inputs
    assert int(tokens.max()) == task.unknown == 3
    assert set("".join(whole(task, "test"))) == {"a", "b", "\ufffd"}
    assert int(task.split("train").inputs.max()) == 2


def test_bytes_and_characters(tmp_path):
    path = tmp_path / "c.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "äb\r\n😀".encode() * 50)
    characters, raw = make(path), make(path, unit="byte")
    assert characters.vocabulary == len("äb\r\n😀") + 1
    assert "".join(whole(characters, "probe")).replace("\ufffd", "").strip("äb\r\n😀") == ""
    assert raw.vocabulary == len(set(path.read_bytes())) + 1
    path.write_bytes(b"abc\xff" * 50)
    with pytest.raises(LandscapeError, match=r"byte 0xff at position 3.*task\.unit=byte"):
        make(path).split("train")
    assert make(path, unit="byte").vocabulary == 5


@given(st.text(min_size=150, max_size=300), st.integers(1, 7))
@settings(max_examples=40, deadline=None)
def test_windows_decode_to_the_text(tmp_path_factory, text, length):
    path = tmp_path_factory.mktemp("text") / "t.txt"
    text = text.removeprefix("\ufeff")
    path.write_bytes(text.encode())
    task = make(path, length=length)
    cut = int(len(text) * 0.9)
    expected = [text[i : i + length + 1] for i in range(0, cut - length, length)]
    assert sorted(whole(task, "train")) == sorted(expected)
    assert int(task.split("test").targets.max()) <= task.unknown


def test_batches_visit_every_window_once_an_epoch(file):
    task = make(file, n_train=61, length=3, n_probe=9)
    seen = torch.cat([task.batch(s, 16, seed=0)[0] for s in range(4)])
    assert seen.shape == (61, 3)
    assert sorted(seen.tolist()) == sorted(task.split("train").inputs.tolist())
    assert [len(task.batch(s, 16, seed=0)[0]) for s in range(4)] == [16, 16, 16, 13]
    assert task.samples_seen(4, 16) == 61
    assert task.loops(seen) is None
    assert np.isnan([task.bayes_loss, task.bayes_accuracy]).all()


def test_a_changed_file_is_refused(file):
    config = TextConfig(path=str(file), **SMALL)
    again = RunConfig.from_dict(RunConfig(task=config).to_dict()).task
    assert again == config
    assert TextTask(again).split("train")
    file.write_text(file.read_text().replace("7", "8"))
    with pytest.raises(LandscapeError, match=rf"SHA-256 begins with {config.fingerprint}, found another content"):
        TextTask(config).split("train")
    assert TextConfig(path=str(file), **SMALL).fingerprint != config.fingerprint


def test_the_path_does_not_depend_on_where_one_stands(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert TextConfig(path=file.name, **SMALL) == TextConfig(path=str(file), **SMALL)


def test_a_run_keeps_the_fingerprint_of_its_text(file, tmp_path):
    settings = {
        "task": {"name": "text", "path": str(file), **SMALL}, "model": {"width": 4}, "steps": 2, "checkpoints": 2,
    }  # fmt: skip
    train(RunConfig.make(**settings), tmp_path / "run")
    file.write_text(file.read_text() + "!")
    run = Run.open(tmp_path / "run")
    assert run.metrics["loss"].notnull().all()  # what needs no text can still be read
    with pytest.raises(LandscapeError, match="found another content"):
        run.objective("probe")
    with pytest.raises(LandscapeError, match=r"task\.fingerprint"):
        train(RunConfig.make(**settings), tmp_path / "run")
    file.unlink()
    with pytest.raises(LandscapeError, match="expected a text file"):
        Run.open(tmp_path / "run").objective("probe")


@pytest.mark.parametrize(
    ("content", "changes", "message"),
    [
        (None, {}, "No such file"),
        (b"", {}, "found an empty file"),
        (b"ab" * 20, {"n_test": 1}, r"expected at least 1 windows of 5 tokens in the test part.*found 0 \(4 tokens\)"),
        (b"ab" * 8, {}, r"3 windows of 5 tokens in the train part.*lower task\.length or task\.n_probe"),
        (b"ab" * 99, {"n_train": 90}, r"90 windows.*task\.n_train"),
        (b"ab", {"unit": "word"}, "unknown task.unit 'word'"),
        (b"ab", {"train_share": 1.0}, "train_share between 0 and 1"),
        (b"ab", {"n_train": 2}, "n_probe <= n_train"),
        (b"ab", {"length": 0}, r"task\.length >= 1"),
    ],
)
def test_what_cannot_be_used_is_explained(tmp_path, content, changes, message):
    path = tmp_path / "d.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LandscapeError, match=message):
        make(path, **changes).split("train")


def test_a_folder_is_no_text_and_a_text_must_be_named(tmp_path):
    with pytest.raises(LandscapeError, match=r"expected a text file at .*directory"):
        make(tmp_path)
    with pytest.raises(LandscapeError, match=r"task\.path"):
        RunConfig.make(task={"name": "text"})
