"""The native kernel against torch: dense Hessians, all sizes that leave a rest, and errors that say what to do."""

import ctypes
import platform
import shutil
import subprocess
import sys

import pytest
import torch
from torch.func import functional_call, grad, jacfwd

import landscape.curvature.native as native
import landscape.curvature.native_build as build
from landscape import LandscapeError, Layout, Objective
from landscape.curvature.native import NativeHessian, supported
from landscape.errors import FallbackWarning
from landscape.loss import strategies
from landscape.loss.strategies import BLOCK, native_obstacle
from landscape.models import AttentionConfig, AttentionModel
from landscape.probes.tools.dense import dense_hessian
from landscape.tasks.base import IGNORE, Task, token_loss

CXX = any(shutil.which(name) for name in ("c++", "g++", "clang++"))
needs_compiler = pytest.mark.skipif(not CXX, reason="no C++ compiler")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Kernels of these tests, compiled once and thrown away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANDSCAPE_CACHE", str(tmp_path_factory.mktemp("kernels")))
        yield
    build._library.cache_clear()


def problem(d=5, n=7, N=17, *, vocabulary=6, attention="softmax", loops=3, layers=1, longer=0):
    """A model, and N sequences of which the first token and some others are not scored."""
    g = torch.Generator().manual_seed(N)
    config = AttentionConfig(width=d, attention=attention, loops=loops, layers=layers)
    model = AttentionModel(config, vocabulary=vocabulary, length=n + longer, generator=g)
    inputs, targets = (torch.randint(vocabulary, (N, n), generator=g) for _ in range(2))
    targets[:, 0] = IGNORE
    targets[::2, 2:-1] = IGNORE
    layout = Layout.of(model)
    named = dict(model.named_parameters())
    return model, (inputs, targets), layout, layout.flatten({k: named[k].detach() for k in layout.names}).double()


def loss_sum(model, data, layout):
    return lambda w: token_loss(functional_call(model, layout.unflatten(w), data[0]), data[1]).sum()


def dense(model, data, layout, w):
    return jacfwd(grad(loss_sum(model, data, layout)))(w)


def relative(found, exact):
    return float((found.double() - exact).norm() / exact.norm())


def columns(size, n=3):
    return torch.randn(size, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@needs_compiler
@pytest.mark.parametrize("attention", ["softmax", "linear"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 2), (2, 2)], ids=str)
@pytest.mark.parametrize("size", [(4, 3, 17), (5, 7, 61), (8, 16, 9)], ids=str)
def test_everything_equals_torch(size, shape, attention):
    d, n, N = size
    loops, layers = shape
    model, data, layout, w = problem(d, n, N, attention=attention, loops=loops, layers=layers, longer=1)
    H, V = dense(model, data, layout, w), columns(layout.size)
    at = NativeHessian(model, data, layout, block=2).at(w)
    assert relative(at.mm(V), H @ V) < 1e-12
    assert relative(at.mv(V[:, 1]), H @ V[:, 1]) < 1e-12
    assert relative(at.dense(), H) < 1e-12
    assert relative(at.gradient(), grad(loss_sum(model, data, layout))(w)) < 1e-12
    losses = token_loss(functional_call(model, layout.unflatten(w), data[0]), data[1])
    assert relative(at.losses(), losses) < 1e-13
    assert relative(at.loss(), losses.sum()) < 1e-13


@needs_compiler
@pytest.mark.parametrize("N", [1, 7, 8, 15, 16, 17, 61])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_number_of_samples_fills_the_lanes(N, dtype):
    model, data, layout, w = problem(N=N)
    H, V = dense(model, data, layout, w), columns(layout.size)
    at = NativeHessian(model, data, layout, dtype).at(w)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert at.mm(V).dtype == dtype
    assert relative(at.mm(V), H @ V) < tolerance
    assert relative(at.dense(), H) < tolerance
    assert relative(at.gradient(), grad(loss_sum(model, data, layout))(w)) < tolerance
    assert at.losses().shape == (N,)


@needs_compiler
def test_what_does_not_fit_in_memory_is_made_again():
    model, data, layout, w = problem(N=61)
    V = columns(layout.size)
    exact = NativeHessian(model, data, layout).at(w).mm(V)
    for kept in (0, 3):
        owner = NativeHessian(model, data, layout)
        owner.memory = kept * owner.library.residual_bytes(ctypes.byref(owner.problem()))
        at = owner.at(w)
        assert at._problem.kept == kept < at._problem.groups
        assert torch.equal(at.mm(V), exact)


@needs_compiler
def test_blocks_strides_and_widths_do_not_change_a_bit():
    model, data, layout, w = problem(N=61)
    V = columns(layout.size, 20)
    at = NativeHessian(model, data, layout, block=8).at(w)
    one = torch.stack([at.mv(v) for v in V.T], dim=1)
    assert torch.equal(at.mm(V), one)
    assert torch.equal(at.mm(V[:, ::2]), one[:, ::2])
    assert torch.equal(NativeHessian(model, data, layout, block=3).at(w).mm(V), one)


@needs_compiler
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="flags of x86")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("flag", ["-mno-avx512f", "-mno-avx"])
def test_narrower_registers_give_the_same(flag, dtype, monkeypatch):
    monkeypatch.setattr(build, "_FLAGS", (*build._FLAGS, flag))
    monkeypatch.setattr(native, "_TRUSTED", set())
    build._library.cache_clear()
    try:
        model, data, layout, w = problem()
        H, owner = dense(model, data, layout, w), NativeHessian(model, data, layout, dtype)
        assert owner.library.lanes() * dtype.itemsize < 64
        assert relative(owner.at(w).dense(), H) < (1e-5 if dtype == torch.float32 else 1e-12)
    finally:
        build._library.cache_clear()


@needs_compiler
def test_two_points_do_not_share_memory():
    model, data, layout, w = problem()
    owner, v = NativeHessian(model, data, layout), columns(layout.size)[:, 0]
    first, second = owner.at(w), owner.at(2 * w)
    a, b = first.mv(v), second.mv(v)
    del first
    third = owner.at(3 * w)  # in the memory of the first
    assert torch.equal(second.mv(v), b)
    del second, third
    assert torch.equal(owner.at(w).mv(v), a)


@needs_compiler
def test_nan_stays_nan_and_large_scores_stay_finite():
    model, data, layout, w = problem()
    owner, v = NativeHessian(model, data, layout), columns(layout.size)[:, 0]
    for i in range(0, layout.size, 13):
        bad = w.clone()
        bad[i] = torch.nan
        at = owner.at(bad)
        assert at.loss().isnan()
        assert at.gradient().isnan().any()
        assert at.mv(v).isnan().any()
    steep = w * 20
    exact = loss_sum(model, data, layout)(steep)
    assert relative(owner.at(steep).loss(), exact) < 1e-12
    assert relative(owner.at(steep).gradient(), grad(loss_sum(model, data, layout))(steep)) < 1e-9


@needs_compiler
def test_a_sequence_without_scored_tokens_is_nan_as_in_torch():
    model, (inputs, targets), layout, w = problem()
    targets[3] = IGNORE
    losses = NativeHessian(model, (inputs, targets), layout).at(w).losses()
    assert losses.isnan().nonzero().tolist() == [[3]]


@needs_compiler
def test_a_wrong_kernel_is_found_out(monkeypatch):
    model, data, layout, _ = problem()
    monkeypatch.setattr(native, "_TRUSTED", set())
    monkeypatch.setattr(native, "forward_product", lambda f, w, v: v)
    with pytest.raises(LandscapeError, match="differs from torch's"):
        NativeHessian(model, data, layout)
    monkeypatch.undo()
    NativeHessian(model, data, layout)


@needs_compiler
def test_vectors_of_another_size_are_refused():
    model, data, layout, w = problem()
    owner = NativeHessian(model, data, layout)
    with pytest.raises(LandscapeError, match="of shape"):
        owner.at(w[1:])
    with pytest.raises(LandscapeError, match="vectors of size"):
        owner.at(w).mv(w[1:])


def test_without_a_compiler_one_message(monkeypatch, tmp_path):
    model, data, layout, _ = problem(d=3)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(LandscapeError, match=r"expected a C\+\+ compiler.*strategy=\"cached\""):
        NativeHessian(model, data, layout)


@needs_compiler
def test_a_kernel_is_compiled_once_and_faults_of_the_compiler_are_told(monkeypatch, tmp_path):
    monkeypatch.setenv("LANDSCAPE_CACHE", str(tmp_path / "new"))
    model, data, layout, _ = problem(d=2, n=3)
    NativeHessian(model, data, layout)
    found = list((tmp_path / "new").iterdir())
    assert [f.suffix for f in found] == [".so"]
    build._library.cache_clear()
    monkeypatch.setattr(build, "_compile", lambda *_: pytest.fail("compiled again"))
    NativeHessian(model, data, layout)
    monkeypatch.undo()
    build._library.cache_clear()
    monkeypatch.setenv("LANDSCAPE_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(build, "_FLAGS", ("-no-such-flag",))
    with pytest.raises(LandscapeError, match="cannot be compiled"):
        NativeHessian(model, data, layout)
    assert not list((tmp_path / "other").iterdir())


BROKEN = {
    "fails": "#!/bin/sh\necho xcrun: error: no developer tools >&2; exit 1",
    "fails to compile": '#!/bin/sh\n[ "$1" = --version ] || { echo no headers >&2; exit 1; }',
    "writes nothing": "#!/bin/sh\nexit 0",
    "writes no library": '#!/bin/sh\nfor last; do :; done\n[ "$1" = --version ] || echo junk > "$last"',
    "is no program": "junk",
}


@pytest.fixture
def unsaid(monkeypatch):
    """Nothing was said or tried by this process so far."""
    monkeypatch.setattr(strategies, "_SAID", set())
    monkeypatch.setattr(native, "_TRUSTED", set())
    build._library.cache_clear()
    yield
    build._library.cache_clear()


def put_compiler(folder, text, monkeypatch):
    for name in ("c++", "g++", "clang++"):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CXX", raising=False)


def falls_back(match):
    """Two objectives at default strategies: cached products and dense matrix, and one warning in all."""
    model, data, layout, w = problem(d=3)
    H = dense(model, data, layout, w) / len(data[0])

    def ask():
        objective = Objective(model, token_loss, data)
        assert objective.hessian(w, products=10).strategy == "cached"
        assert relative(objective.hessian(w).dense(), H) < 1e-12
        matrix, used, _ = dense_hessian(objective, w)
        assert (used, relative(matrix, H) < 1e-12) == ("cached", True)

    with pytest.warns(FallbackWarning, match=match) as said:
        ask()
    assert len(said) == 1
    ask()  # a second warning would be an error
    with pytest.raises(LandscapeError, match=match):
        Objective(model, token_loss, data).hessian(w, strategy="native")


@pytest.mark.parametrize("kind", BROKEN)
def test_with_a_broken_compiler_auto_goes_on_without(kind, unsaid, monkeypatch, tmp_path):
    put_compiler(tmp_path, BROKEN[kind], monkeypatch)
    monkeypatch.setenv("LANDSCAPE_CACHE", str(tmp_path / "cache"))
    falls_back(
        {"writes no library": "cannot be loaded", "is no program": "cannot be run"}.get(kind, "cannot be compiled")
    )
    model, (inputs, targets), layout, w = problem(d=3)
    with pytest.raises(LandscapeError, match=r'gradient="autograd"|Delete it'):
        native.native_gradient(model, w, inputs, targets, layout=layout)


@needs_compiler
def test_without_a_folder_for_kernels_auto_goes_on_without(unsaid, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LANDSCAPE_CACHE", str(tmp_path / "file" / "cache"))
    falls_back("cannot be kept in .*file.cache")


@needs_compiler
def test_with_a_wrong_kernel_auto_goes_on_without(unsaid, monkeypatch):
    monkeypatch.setattr(native, "forward_product", lambda f, w, v: v)
    falls_back("differs from torch's")


@pytest.mark.slow
@needs_compiler
def test_a_kernel_that_is_cut_short_is_compiled_again(unsaid, monkeypatch, tmp_path):
    monkeypatch.setenv("LANDSCAPE_CACHE", str(tmp_path))
    model, data, layout, w = problem(d=3)
    NativeHessian(model, data, layout)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.unlink()  # this process has the old file open
    path.write_bytes(whole[: len(whole) // 2])
    build._library.cache_clear()
    assert relative(NativeHessian(model, data, layout).at(w).dense(), dense(model, data, layout, w)) < 1e-12


@pytest.mark.parametrize("kind", ["fails", "is no program"])
def test_without_a_compiler_that_works_auto_compiles_nothing(kind, unsaid, monkeypatch, tmp_path):
    put_compiler(tmp_path, BROKEN[kind], monkeypatch)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    model = torch.nn.Linear(3, 1, dtype=torch.float64)
    objective = Objective(model, lambda y, t: ((y - t) ** 4).sum(1), (torch.ones(5, 3), torch.zeros(5, 1)))
    monkeypatch.setattr(strategies, "seconds_of", lambda _: 1.0)  # so that compiling would pay
    with pytest.warns(FallbackWarning, match=r"'compiled' failed: torch.compile failed") as said:
        assert objective.hessian(objective.w0, products=10_000, block=BLOCK).strategy == "cached"
    assert len(said) == 1
    H = objective.hessian(objective.w0, products=10_000)
    assert H.strategy == "cached"
    assert torch.isfinite(H.dense()).all()
    with pytest.raises(LandscapeError, match=r"torch.compile failed"):
        objective.hessian(objective.w0, strategy="compiled").mv(objective.w0)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_command_warns_once_for_all_checkpoints_and_workers(jobs, fresh_run, monkeypatch, tmp_path):
    put_compiler(tmp_path, BROKEN["fails"], monkeypatch)
    monkeypatch.setenv("LANDSCAPE_CACHE", str(tmp_path / "cache"))
    arguments = ["probe", str(fresh_run.path), "-p", "spectrum", "--jobs", str(jobs), "-q"]
    command = [sys.executable, "-c", "from landscape.cli import main; main()", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("Warning: curvature takes")
    assert "no developer tools" in done.stderr


def test_what_is_not_supported_says_why():
    model, (x, y), layout, _ = problem()
    ask = {"dtype": torch.float64, "device": "cpu", "layout": layout}
    assert supported(model, token_loss, (x, y), **ask) is None
    assert supported(model, Task.per_sample_loss, (x, y), **ask) is None
    assert "token_loss" in supported(model, lambda o, t: token_loss(o, t), (x, y), **ask)
    assert "AttentionModel only" in supported(torch.nn.Linear(2, 2), token_loss, (x, y), **ask)
    assert "CPU" in supported(model, token_loss, (x, y), **ask | {"device": "cuda"})
    assert "float64" in supported(model, token_loss, (x, y), **ask | {"dtype": torch.bfloat16})
    assert "some are fixed" in supported(
        model, token_loss, (x, y), **ask | {"layout": Layout.of(model, only="blocks.*")}
    )
    assert "int64" in supported(model, token_loss, (x, y[:, 1:]), **ask)
    assert "at most 7" in supported(model, token_loss, (x.repeat(1, 2), y.repeat(1, 2)), **ask)
    assert "tokens 0 to 5" in supported(model, token_loss, (x + 1, y), **ask)
    model, data, layout, _ = problem(layers=2)
    model.blocks[1].kind = "linear"
    assert "of one kind" in supported(model, token_loss, data, **ask | {"layout": layout})
    model, data, layout, _ = problem()
    with pytest.raises(LandscapeError, match="some are fixed"):
        NativeHessian(model, data, Layout.of(model, only="head"))


def test_wide_models_are_left_to_torch():
    """The kernel keeps square matrices on the stack, and gains nothing there."""
    g = torch.Generator().manual_seed(0)
    model = AttentionModel(AttentionConfig(width=768), vocabulary=3, length=2, generator=g)
    tokens = torch.zeros(2, 2, dtype=torch.int64)
    objective = Objective(model, token_loss, (tokens, tokens))
    assert "widths up to 128, found 768" in native_obstacle(objective.chunks)
    v = torch.ones(objective.size, dtype=torch.float64)
    assert torch.isfinite(objective.hessian(objective.w0).mv(v)).all()
