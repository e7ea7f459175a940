"""Top eigenvalues of a GPT-2-like model, P = 11 million: ours with and without the proof, and scipy's `eigsh`.

    pip install transformers
    python benchmarks/large.py --repeats 3 --threads 2

Every measurement is a process of its own, for its peak memory; the methods take turns within each repeat. Prints a line
for each, then medians as ratios to `eigsh`, which works on the same operator. Writes nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from statistics import median
from typing import Any

METHODS = ("eigsh", "no proof", "proof")


def objective() -> Any:
    """A GPT-2 of 6 layers, width 384, with random weights, and 8 sequences of 32 tokens."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from landscape import Objective

    torch.manual_seed(0)
    config = GPT2Config(
        n_embd=384, n_layer=6, n_head=4, vocab_size=1000, n_positions=64, bos_token_id=0, eos_token_id=0
    )
    model, x = GPT2LMHeadModel(config).eval(), torch.randint(0, 1000, (8, 32))

    def loss(out: Any, t: torch.Tensor) -> torch.Tensor:
        logits = out.logits[:, :-1].transpose(1, 2)
        return torch.nn.functional.cross_entropy(logits, t[:, 1:], reduction="none").mean(1)

    return Objective(model, loss, ({"input_ids": x}, x), dtype=torch.float32, chunk=4)


def measure(method: str, k: int, tol: float, threads: int) -> dict[str, Any]:
    """One solve in this process."""
    import torch
    from scipy.sparse.linalg import eigsh

    from landscape.probes import spectrum

    torch.set_num_threads(threads)
    o = objective()
    start, cpu = time.perf_counter(), time.process_time()
    inside = 0.0  # seconds in products
    extra: dict[str, Any] = {}
    if method == "eigsh":
        H = o.hessian(o.w0)
        operator, plain = H.scipy(), H.mv

        def timed(v: torch.Tensor) -> torch.Tensor:
            nonlocal inside
            t = time.perf_counter()
            w = plain(v)
            inside += time.perf_counter() - t
            return w

        H.mv = timed  # type: ignore[method-assign]
        values = sorted(eigsh(operator, k=k, which="LA", tol=tol)[0])[::-1]
        extra = {"products": H.n_products, "converged": True}
    else:
        found = spectrum(o, o.w0, seed=0, k=k, tol=tol, check_missed=method == "proof")
        values = found.eigenvalue.values
        extra = {
            "products": int(found.n_products),
            "converged": bool(found.converged.all()),
            "resolved": bool(found.resolved),
            "largest residual": float(found.residual.max()),
        }
    return {
        "method": method,
        "parameters": o.size,
        "seconds": round(time.perf_counter() - start, 2),
        "cpu seconds": round(time.process_time() - cpu, 2),
        **({"seconds in products": round(inside, 2)} if inside else {}),
        "peak GiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "eigenvalues": [float(x) for x in values],
        **extra,
    }


def main() -> None:
    """Measure all in turn, or with --one a single method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", choices=METHODS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--k", type=int, default=3)
    parser.add_argument("--tol", type=float, default=1e-3)
    given = parser.parse_args()
    if given.one:
        sys.stdout.write(json.dumps(measure(given.one, given.k, given.tol, given.threads)) + "\n")
        return
    rows: list[dict[str, Any]] = []
    for _ in range(given.repeats):
        for method in METHODS:
            settings = [f"--threads={given.threads}", f"--k={given.k}", f"--tol={given.tol}"]
            command = [sys.executable, __file__, "--one", method, *settings]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append({**json.loads(done.stdout.splitlines()[-1]), "load": round(os.getloadavg()[0], 1)})
            sys.stdout.write(json.dumps(rows[-1]) + "\n")
            sys.stdout.flush()
    base = median(r["seconds"] for r in rows if r["method"] == "eigsh")
    for method in METHODS:
        mine = [r for r in rows if r["method"] == method]
        seconds = [r["seconds"] for r in mine]
        sys.stdout.write(
            f"{method}: {median(seconds):.1f} s [{min(seconds)} to {max(seconds)}], {median(seconds) / base:.2f} of "
            f"eigsh, {mine[0]['products']} products, peak {max(r['peak GiB'] for r in mine)} GiB\n"
        )


if __name__ == "__main__":
    main()
