"""`landscape show`."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import click
import xarray as xr

from landscape.answers.files import heading, is_answer
from landscape.cli.console import Table, emit_json, number, show_table
from landscape.cli.tables import TABLES
from landscape.cli.tables.cells import labelled
from landscape.cli.tables.outcomes import outcome_tables
from landscape.cli.tables.presets import preset_table
from landscape.cli.tables.switches import describe_shift, shift_tables
from landscape.errors import LandscapeError
from landscape.loss.metric import METRICS
from landscape.probes import PROBES
from landscape.runs.run import Run
from landscape.studies.study import Study
from landscape.training.presets import presets

__all__ = ["command"]

MANY = 12
"""Runs up to which all their results are read unasked."""


@click.command("show")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option(
    "--against", metavar="KIND", help="What differences over seeds refer to.  [default: looped, or the first]"
)
@click.option(
    "--tables/--no-tables",
    default=None,
    help=f"Tables of what was found in all runs, read whole.  [default: for up to {MANY} runs]",
)
@click.option("--presets", "list_presets", is_flag=True, help="List the presets of `landscape train --preset` instead.")
def command(
    paths: tuple[Path, ...], as_json: bool, against: str | None, tables: bool | None, list_presets: bool
) -> None:
    """Say what is in a run; with several runs, compare them. PATHS are run folders, or folders of runs.

    Reads only; works while a run is being trained. Exit code 2 if a result is damaged; all others are shown. Of many
    runs a line each is shown, and what was found in them when asked.
    """
    if list_presets == bool(paths):
        raise click.UsageError("name run folders, or ask for --presets" + (", not both." if paths else "."))
    if list_presets:
        emit_json(presets()) if as_json else show_table(preset_table())
        return
    study = Study.open(paths)
    described = [describe(run) for run in study]
    if as_json:
        emit_json(described)
    elif len(described) == 1:
        _one(described[0])
    else:
        _several(described)
        for table in (*outcome_tables(study, against=against), *shift_tables(described)):
            show_table(table)
        if tables or (tables is None and len(described) <= MANY):
            _found(study)
        elif tables is None:
            click.echo(
                f"What was found in these {len(described)} runs: --tables, or name up to {MANY} of them.", err=True
            )
    if damaged := [r for d in described for r in d["results"] if r["damaged"]]:
        for r in damaged:
            click.echo(f"Error: {r['problem']}", err=True)
        raise click.exceptions.Exit(LandscapeError.exit_code)


def describe(run: Run) -> dict[str, Any]:
    """All there is to say about a run, as plain values."""
    metrics, steps = run.metrics, run.steps
    out: dict[str, Any] = {
        "path": str(run.path),
        "id": run.id,
        "kind": run.kind,
        "loss_units": run.loss_units,
        "status": metrics.attrs["status"],
        "steps": run.config.steps if run.kind == "trained" else int(steps[-1]) if len(steps) else 0,
        "checkpoints": steps.tolist(),
        "parameters": run.layout.size,
        "layout": run.layout.hash,
        "shapes": {n: list(s) for n, s in zip(run.layout.names, run.layout.shapes, strict=True)},
        "config": run.described,
        "labels": run.labels,
        "objectives": list(run.objectives),
        "provenance": run.provenance,
        "peak_memory": metrics.attrs["peak_memory"],
        "metrics": {},
        "shift": describe_shift(run),
        "results": [],
    }
    if metrics.sizes["step"] and run.kind != "trained":
        end = metrics.isel(step=-1)
        out["metrics"] = {"step": int(end.step), **{str(k): float(v) for k, v in end.data_vars.items()}}
    elif metrics.sizes["step"]:
        # As arrays: of hundreds of runs, selecting by label takes longer than reading.
        ends = {k: metrics[k].values[-1] for k in ("step", "gradient_norm", "tokens", "flops", "seconds")}
        families, splits = (metrics[k].values.tolist() for k in ("family", "split"))
        by_split = {
            f"{k}_{split}": dict(zip(families, row, strict=True))
            for k in ("loss", "accuracy")
            for split, row in zip(splits, metrics[k].values[-1].tolist(), strict=True)
        }
        limits = {
            k: dict(zip(families, metrics[k].values.tolist(), strict=True)) for k in ("bayes_loss", "bayes_accuracy")
        }
        out["metrics"] = {"step": int(ends.pop("step")), **{k: float(v) for k, v in ends.items()}, **by_split, **limits}
    for path in sorted((run.path / "results").glob("*.nc")):
        out["results"].append(_result(run, path))
    return out


def _result(run: Run, path: Path) -> dict[str, Any]:
    try:
        found = heading(path)
    except LandscapeError as error:
        return {"file": path.name, "problem": str(error), "damaged": is_answer(path)}
    stale = {} if found.attrs.get("run_id") == run.id else {"problem": "made from another run that was in this folder"}
    return {
        "file": path.name,
        "damaged": False,
        "probe": found.attrs["probe"],
        "steps": list(found.steps),
        "created": found.attrs.get("created"),
        "settings": json.loads(found.attrs.get("settings", "{}")),
        **stale,
    }


def _one(d: dict[str, Any]) -> None:
    c, m = d["config"], d["metrics"]
    provenance = d["provenance"]
    trained = d["kind"] == "trained"
    rows = [
        [
            "status",
            f"{d['status']}, step {m.get('step', 0)} of {d['steps']}" if trained else f"{d['kind']}, {d['status']}",
        ],
        *(_trained(c) if trained else _foreign(d)),
        [
            "parameters",
            f"P = {d['parameters']} (layout {d['layout']}): " + _shapes(d["shapes"]),
        ],
        ["checkpoints", f"{len(d['checkpoints'])}: " + " ".join(map(str, d["checkpoints"]))],
        [
            "made",
            f"{provenance['created']} by code {provenance['code_revision']}, "
            + ", ".join(f"{k} {v}" for k, v in provenance["versions"].items()),
        ],
    ]
    rows += [["data", f"fingerprint {provenance['data_fingerprint']}"]] if trained else []
    show_table(Table(f"{d['path']} (run {d['id']})", ["", ""], rows, text=True))
    if m and not trained:
        table = [[name, number(value)] for name, value in m.items() if name != "step"]
        show_table(Table("Metrics, as recorded", [f"metric at step {m['step']}", "value"], table))
    elif m:
        _metrics(d)
    for shifted in shift_tables([d]):
        show_table(shifted)
    if d["results"]:
        rows = [
            [
                r["file"],
                f"{len(r.get('steps', []))}",
                r.get("created", ""),
                r.get("problem", ", ".join(f"{k}={v}" for k, v in r.get("settings", {}).items())),
            ]
            for r in d["results"]
        ]
        show_table(Table("Results", ["file", "checkpoints", "created", "settings"], rows, text=True))


def _shapes(shapes: dict[str, list[int]], most: int = 12) -> str:
    """Names and shapes of the first parameters; --json has all."""
    said = [f"{n} {'x'.join(map(str, s))}" for n, s in shapes.items()]
    return ", ".join(said[:most]) + (f" and {len(said) - most} more" if len(said) > most else "")


def _foreign(d: dict[str, Any]) -> list[list[str]]:
    """What is known of a run that somebody else trained."""
    rows = [["config", ", ".join(f"{k} {v}" for k, v in d["config"].items()) or "not recorded"]]
    return [*rows, ["objective", ", ".join(d["objectives"]) or "none named yet: landscape probe --objective"]]


def _trained(c: dict[str, Any]) -> list[list[str]]:
    """The config of a run of `landscape train`."""
    return [
        ["task", ", ".join(f"{k} {v}" for k, v in c["task"].items())],
        ["model", f"{c['arch']}: " + ", ".join(f"{k} {v}" for k, v in c["model"].items())],
        ["optimizer", ", ".join(f"{k} {v}" for k, v in c["optimizer"].items())],
        ["schedule", ", ".join(f"{k} {v}" for k, v in c["schedule"].items())],
        *_intervention(c),
        [
            "training",
            f"batch {c['batch'] or 'full'}, clip {c['clip']}, seed {c['seed']}, {c['dtype']} on {c['device']}",
        ],
    ]


def _metrics(d: dict[str, Any]) -> None:
    """Those of a run of `landscape train`."""
    m = d["metrics"]
    families = list(m["loss_test"])
    columns = ["metric at step " + str(m["step"]), *families]
    table = [
        [f"{name} ({split})", *(number(m[f"{name}_{split}"][f]) for f in families)]
        for name in ("loss", "accuracy")
        for split in ("probe", "test")
    ]
    table += [[f"Bayes-optimal {k}", *(number(m[f"bayes_{k}"][f]) for f in families)] for k in ("loss", "accuracy")]
    caption = (
        f"gradient norm {number(m['gradient_norm'])}, {m['tokens']:.3g} tokens, {m['flops']:.3g} FLOP, "
        f"{m['seconds']:.1f} s of training, {number(d['peak_memory'] / 2**20)} MiB at most"
    )
    show_table(Table(f"Metrics (loss in {d['loss_units']}, accuracy as a share)", columns, table, caption))


def _intervention(config: dict[str, Any]) -> list[list[str]]:
    """What was done to the training, beside training."""
    rows = []
    if (origin := config["origin"]) is not None:
        rows.append(["origin", f"step {origin['step']} of {origin['name']} (run {origin['run_id']})"])
    if (projection := config["projection"]) is not None:
        rows.append(["projection", ", ".join(f"{k} {v}" for k, v in projection.items())])
    if (shift := config["shift"]) is not None:
        rows.append(["shift", ", ".join(f"{k} {v}" for k, v in shift.items() if v is not None)])
    return rows


def _several(described: list[dict[str, Any]]) -> None:
    rows: list[list[str]] = []
    families = next((list(d["metrics"]["accuracy_test"]) for d in described if "accuracy_test" in d["metrics"]), [])
    for d in described:
        m = d["metrics"]
        reached, limit = (m.get(k, {}) for k in ("accuracy_test", "bayes_accuracy"))
        nan = float("nan")
        accuracy = [f"{number(reached.get(f, nan), 3)} / {number(limit.get(f, nan), 3)}" for f in families]
        trained = d["kind"] == "trained"
        origin = d["config"]["origin"] if trained else None
        loss = m["loss_test"]["all"] if m and trained else m.get("loss", nan)
        rows.append(
            [
                d["path"],
                f"{origin['name']}@{origin['step']}" if origin else "–",
                d["labels"].get("arch", d["kind"]),
                d["status"],
                str(m.get("step", 0)),
                str(d["parameters"]),
                number(loss),
                *accuracy,
                f"{m.get('flops', 0):.3g}" if trained else number(m.get("flops", nan), 3),
                f"{m.get('seconds', 0):.1f}" if trained else number(m.get("seconds", nan), 3),
                " ".join(dict.fromkeys(r["probe"] for r in d["results"] if "problem" not in r)) or "–",
            ]
        )
    branched = any(origin != "–" for _, origin, *_ in rows)
    if not branched:  # the column would be empty
        rows = [[path, *rest] for path, _, *rest in rows]
    first = ["run", *(["origin"] if branched else []), "arch", "status", "step", "P", "loss"]
    columns = [*first, *families, "FLOP", "seconds", "probed"]
    units = " or ".join(dict.fromkeys(d["loss_units"] for d in described if d["kind"] == "trained"))
    of_tasks = f"Test split: loss in {units}; accuracy / Bayes-optimal accuracy, of all and by family."
    others = "Of recorded and imported runs the metrics loss, flops and seconds, as far as they were recorded."
    kinds = {d["kind"] == "trained" for d in described}
    caption = " ".join(text for kind, text in ((True, of_tasks), (False, others)) if kind in kinds)
    show_table(Table("Runs", columns, rows, caption))


def _found(study: Study) -> None:
    """The stored results of all runs, each in its own table."""
    for name, table in TABLES.items():
        results: list[xr.Dataset] = []
        for metric in METRICS if PROBES[name].metric else (None,):
            with contextlib.suppress(LandscapeError):  # not all runs were asked the same question
                results += [labelled(ds) for ds in study.results(name, metric=metric)]
        if results:
            show_table(table(results))
