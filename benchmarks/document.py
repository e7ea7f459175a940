"""The text of `docs/benchmarks.md` around its tables, and the pictures."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from bars import ratios
from cards import section as card_section
from command import section as command_section
from curves import picture
from curves import section as size_section
from ranks import section as ranks_section
from recording import section as recording_section
from report import NAMES, ORDER, TITLES, compiling, not_faster, remarks, table
from surface import section as surface_section

HEAD = """# Benchmarks

*Written by `benchmarks/report.py` from `benchmarks/results/*.json`. Do not edit: measure again.*

How long does it take to know the curvature of a trained model to a given accuracy? Compared are this toolkit,
[PyHessian](https://github.com/amirgholami/PyHessian), Landscaper, curvlinops (with scipy's `eigsh`) and
hessian-eigenthings, each called in its own way on the same module, loss and data, in float32 on a CPU.
"""

MEASURED = """## What is measured

- **Models.** Both are trained first, by Adam (3e-3) on minibatches of 128 of the Markov task. *toy*: looped softmax
  attention, d 32, 3 loops, sequences of 16 tokens. *GPT block*: one pre-norm block (d 64, 4 heads, MLP of 4 d) applied
  three times to sequences of 32 tokens, written in `benchmarks/problems.py` with attention spelt out, so that every
  library can differentiate it twice.
- **Layouts.** *One batch*: all sequences at once. *Eight uneven batches*: peers get a list of batches of eight
  sizes, we get a chunk size that does not divide N. Before a peer is timed, one of its products is compared with
  ours; a peer whose average over uneven batches is not the mean over the data is timed on even batches, and the table
  says how wrong its eigenvalues are on the uneven ones.
- **Accuracy.** Error: largest error of the ten sorted eigenvalues over the largest eigenvalue. The reference is our
  Lanczos in float64 with residuals below 1e-9, so it is proved, not trusted. Every method climbs a ladder of its own
  settings, and the cheapest rung that is accurate enough is timed. That choice knows the answer, which flatters methods
  that cannot tell their own error. The row *own stop* is what a user of ours gets without knowing the answer. Our
  times contain the check that no eigenvalue was missed; the peers have no such check, and the rows *no proof* leave it
  out: they are like for like.
- **Time.** Wall-clock seconds from the model to the answer. Tracing and compiling, needed once per model and shape, are
  told apart (with an empty cache on disk), and so are the products after which they pay. All methods run in turn
  within each repeat; the median and the whole range are given. The ratio is to *ours, default*: the native kernel on
  the toy (compiled in seconds, once per machine), the kept graph, which compiles nothing, on the GPT block; above 1 is
  slower. `>` marks a method that did not get there within its time.
- **Products** are counted where they are computed, for every library.
"""

INTRO = {
    "top": "",
    "density": "The same number of vectors and steps for all, hence the same products. The traces come from other "
    "random vectors, so they agree only within their standard errors. *In step*: several vectors at once.",
    "full": "Products with all unit vectors. No peer offers it; the loop over a kept graph is what many write by hand.",
    "run": "The ten largest at every checkpoint of a run by one call of `sweep`, in a new process each time, with an "
    "empty compiler's cache; tracing and compiling are inside these seconds. *Process*: with start and imports.",
}


def document(files: dict[str, Any], images: dict[str, str], others: dict[str, Any], folder: Path) -> str:
    """The whole document as Markdown."""
    quick = "**A quick check on tiny models on a busy machine: not a result.**\n"
    parts = [
        HEAD,
        *([quick] if any(c["settings"]["quick"] for c in files.values()) else []),
        _environment(files),
        MEASURED,
        _honest(files),
    ]
    for question in ORDER:
        mine = {k: c for k, c in files.items() if k.split("-")[0] == question}
        if mine:
            parts.append(_question(question, mine, images.get(question)))
    if "command" in others:
        parts.append(command_section(others["command"]))
    if "training" in others:
        parts.append(_training(others["training"]))
    sizes = {name: others[name] for name in ("size", "size-cuda") if name in others}
    if sizes:
        parts.append(_sizes(sizes, folder))
    if "surface" in others:
        parts.append(surface_section(others["surface"]))
    if "ranks" in others:
        parts.append(ranks_section(others["ranks"]))
    if "gpu" in others:
        parts.append(card_section(others["gpu"]))
    if "recording" in others:
        parts.append(recording_section(others["recording"]))
    parts.append(_again())
    return "\n".join(parts)


def _question(question: str, files: dict[str, Any], image: str | None) -> str:
    lines = [f"## {TITLES[question]}", ""]
    if INTRO[question]:
        lines += [INTRO[question], ""]
    if image:
        lines += [f"![{TITLES[question]}: time relative to ours]({image})", ""]
    for key, content in files.items():
        found, about = content[question], content.get("problem")
        lines += [f"### {_title(key, found, about)}", "", table(question, found), ""]
        more = remarks(question, found) + (compiling(found) if question != "run" else [])
        lines += [*more, ""] if more else []
    return "\n".join(lines)


def _title(key: str, found: dict[str, Any], about: dict[str, Any] | None) -> str:
    where = ", ".join(NAMES[x] for x in key.split("-")[1:])
    if about is None:
        return f"{where}: {found['checkpoints']} checkpoints, tolerance {found['tol']:g}, {found['threads']} threads"
    text = f"{where}: P = {about['parameters']}, {about['sequences']} sequences"
    if len(about["batches"]) > 1:
        text += f" in batches of {', '.join(map(str, about['batches']))}"
    if "accuracy" in found:
        text += f", accuracy {found['accuracy']:g}"
    if "vectors" in found:
        text += f", {found['vectors']} vectors x {found['steps']} steps"
    return text


def _environment(files: dict[str, Any]) -> str:
    lines = ["## Environment", ""]
    seen: dict[str, list[str]] = {}
    for key, content in files.items():
        e = content["environment"]
        packages = ", ".join(f"{n} {v}" for n, v in e["packages"].items())
        text = f"{e['cpu']}, {e['cores']} cores, {e['threads']} thread(s); Python {e['python']}; {packages}"
        seen.setdefault(text, []).append(key)
    lines += [f"- {text}." + (f" ({', '.join(keys)})" if len(seen) > 1 else "") for text, keys in seen.items()]
    loads = [x[0] for c in files.values() for x in (c["environment"]["load_before"], c["environment"]["load_after"])]
    lines.append(f"- Load of the machine before and after the measurements: {min(loads):.1f} to {max(loads):.1f}.")
    models = {c["problem"]["name"]: c["problem"] for c in files.values() if "problem" in c}
    for name, p in models.items():
        lines.append(
            f"- {NAMES[name]}: P = {p['parameters']}, {p['updates']} updates, loss {p['loss_before']:.2f} to "
            f"{p['loss_after']:.2f} nats per token."
        )
    return "\n".join([*lines, ""])


def _honest(files: dict[str, Any]) -> str:
    lines = ["## Where we are not faster", ""]
    found = not_faster(files)
    lines += found or [
        "- Nowhere in these measurements does another method take less than 1.1 times the time of our default."
    ]
    lines += [
        "- Ours is Lanczos like eigsh and hessian-eigenthings, and needs no fewer products than they: it needs some "
        "more, for the proof that nothing was missed. What it gains is in the price of one product. "
        "PyHessian and Landscaper iterate one vector after the other.",
        "- The cached product is PyTorch's own double backward on a kept graph; whoever writes that loop by hand pays "
        "about the same for a product.",
        "- One machine, one seed of each start vector, small models: read ratios as they are given, with their ranges.",
    ]
    return "\n".join([*lines, ""])


SIZES = """## Models of all sizes

GPT-2 of transformers with random weights (tokens random, too), from one narrow layer to GPT-2 small; the largest
eigenvalues of the mean loss over a few sequences of 32 tokens, in float32. Every solve is a process of its own, and the
methods take turns. *In products*: the part of the time that is spent in products; *ours, no proof* and *eigsh, our
product* use the same ones and are like for like, *ours* adds the proof that no eigenvalue was missed. *off by*: largest
error of the sorted eigenvalues relative to the largest. Times hold all that a user waits for once the model is there:
checks of the derivatives, random vectors, the solve. Memory is that of the process on a CPU, of tensors on a card.

- hessian-eigenthings makes 60 steps; *default* is without re-orthogonalisation, which it leaves out beyond 50 unless
  asked: it then gives copies. PyHessian looks for the largest in magnitude, which are others here, and stops by the
  change of its value.
- `eigsh` with our product is slow for small models because threads of numpy's BLAS compete with torch's: with
  `OPENBLAS_NUM_THREADS=1` half a million parameters took 1.5 s (two runs), not 6.4; ours, no proof, 1.2.
- For 124 million parameters `eigsh` ended with a fault of memory; its 20 P numbers are more than 2^31 then.
"""


def _sizes(found: dict[str, Any], folder: Path) -> str:
    parts = [SIZES]
    for name, content in found.items():
        drawn = len(content["models"]) > 2
        image = f"benchmarks-{name}.png"
        if drawn:
            picture(content).savefig(folder / image)
        parts.append(size_section(content, image if drawn else None))
    return "\n".join(parts)


def _training(content: dict[str, Any]) -> str:
    """What an update costs, and five seeds."""
    quick = "**A quick check: not a result.** " if content["settings"]["quick"] else ""
    lines = [
        "## Training",
        "",
        f"{quick}Loss and gradient of a batch of 128 (d 32, 3 loops; GPT block d 64, 4 heads; sequences of 16 tokens), "
        "in milliseconds: median and range, all ways in turn within each repeat, one thread. *Compiled* is what "
        "`torch.compile` gains after its seconds of compiling; *vmap* evaluates five seeds in one call. Training "
        "offers autograd and, for the toy, `--gradient native`: the others do not earn what they cost on a CPU.",
        "",
        "| model | P | way | ms | compile s | autograd / this |",
        "|---|---|---|---|---|---|",
    ]
    for model, found in content["gradients"].items():
        rows = found["methods"]
        for way, r in rows.items():
            ms, low, high = r["ms"]
            gain = rows["autograd"]["ms"][0] / ms
            cells = (model, str(found["parameters"]), way, f"{ms:.2f} [{low:.2f}–{high:.2f}]", f"{r['compile_s']:.1f}")
            lines.append("| " + " | ".join((*cells, f"{gain:.2f}")) + " |")
    worst = max(found["error"] for found in content["gradients"].values())
    found = content["seeds"]
    lines += [
        "",
        f"Compiled and native gradients differ from autograd's by {worst:.0e} at most (float32).",
        "",
        f"`landscape train --arch looped`, {found['seeds']} seeds, {found['steps']} updates each, with evaluations, "
        "checkpoints, imports and the start of processes (s):",
        "",
        "| | seconds | against one by one |",
        "|---|---|---|",
    ]
    for name, seconds in found["seconds"].items():
        alone = median(found["seconds"]["autograd, jobs 1"])
        each = ", ".join(f"{s:.1f}" for s in seconds)
        lines.append(f"| {name} | {each} | {alone / median(seconds):.2f} |")
    same = "the same bits" if found["equal"] else "**other numbers**"
    lines += [
        "",
        f"Two at a time give {same} as one by one. Native and autograd runs drift apart as roundings grow; the largest "
        f"difference of final accuracy was {found['accuracy_difference']:.4f}.",
        "",
    ]
    return "\n".join(lines)


def _again() -> str:
    return """## Measure again

```
pip install pyhessian landscaper "curvlinops-for-pytorch<4" hessian-eigenthings transformers
pip install loss-landscapes loss-landscape-3d
pip install --no-deps pylandscape && pip install brevitas "setuptools<70"  # it asks for another torch
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
python benchmarks/curvature.py --only top --problem toy
python benchmarks/curvature.py --only top --problem gpt
python benchmarks/curvature.py --only density --problem toy
python benchmarks/curvature.py --only density --problem gpt --vectors 2
python benchmarks/curvature.py --only full --repeats 1
python benchmarks/curvature.py --only run
python benchmarks/command.py
python benchmarks/training.py
python benchmarks/size.py --threads 2
python benchmarks/size.py --device cuda --memory 24
python benchmarks/gpu.py
python benchmarks/ranks.py -o benchmarks/results/ranks.json
python benchmarks/recording.py
python benchmarks/surface.py --problem toy
python benchmarks/surface.py --problem gpt --points 51
python benchmarks/report.py
```

Peers that are not installed are left out. `make bench` runs everything on tiny models, to see that it works.
"""


def pictures(files: dict[str, Any], folder: Path) -> dict[str, str]:
    """Draw one picture per question that compares methods on several problems; question -> file name."""
    names = {}
    for question in ("top", "density"):
        mine = {k: c[question]["methods"] for k, c in files.items() if k.split("-")[0] == question}
        if mine:
            names[question] = f"benchmarks-{question}.png"
            titles = {k: ", ".join(NAMES[x] for x in k.split("-")[1:]) for k in mine}
            ratios({titles[k]: rows for k, rows in mine.items()}).savefig(folder / names[question])
    return names
