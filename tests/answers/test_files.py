"""Results on disk: whatever happens to a file, it gives the numbers that were stored, or it is refused."""

import os
import random
import subprocess
import sys

import h5py
import numpy as np
import pytest
import xarray as xr

from landscape import LandscapeError, Study, sweep
from landscape.answers.files import DamagedError, heading, headings, is_answer, load, load_variables, save
from landscape.answers.seal import sealed, unsealed


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A file with floats, integers, flags, texts and attributes."""
    path = tmp_path_factory.mktemp("stored") / "spectrum-0123ab.nc"
    ds = xr.Dataset(
        {
            "x": (("step", "mode"), np.random.default_rng(0).normal(size=(7, 5)), {"units": "nats"}),
            "n": ("step", np.arange(7)),
            "ok": ("step", np.arange(7) % 2 == 0),
            "label": ("mode", np.array(["a", "bb", "", "ü", "e"])),
        },
        coords={"step": np.arange(7) * 10},
        attrs={"probe": "spectrum", "settings": '{"k": 5}', "none": np.nan},
    )
    save(ds, path)
    return path, ds


def flip(path, at=None, bit=0x40):
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= bit
    path.write_bytes(data)


def test_a_seal_is_behind_the_content_and_fits_no_other():
    assert unsealed(sealed(b"content")) == (b"content", True)
    assert unsealed(b"content") == (b"content", False)
    assert unsealed(sealed(b"")) == (b"", True)
    with pytest.raises(ValueError, match="checksum"):
        unsealed(sealed(b"content").replace(b"tent", b"tend"))


def test_what_is_stored_comes_back_and_other_readers_can_read_it(stored):
    path, ds = stored
    assert load(path).identical(ds)
    with xr.open_dataset(path, engine="h5netcdf") as other:
        assert other.x.identical(ds.x)


@pytest.mark.parametrize("kind", ["bit", "zeros", "lost", "doubled", "cut"])
def test_any_damage_is_refused(stored, tmp_path, kind):
    good, draw = stored[0].read_bytes(), random.Random(kind)
    path = tmp_path / stored[0].name
    for _ in range(40):
        data, at, size = bytearray(good), draw.randrange(len(good)), draw.choice([1, 16, 512])
        if kind == "bit":
            data[at] ^= 1 << draw.randrange(8)
        elif kind == "zeros":
            data[at : at + size] = bytes(min(size, len(data) - at))
        elif kind == "lost":
            del data[at : at + size]
        elif kind == "doubled":
            data[at:at] = data[at : at + size]
        else:
            del data[at:]
        if data == good:  # zeros were there
            continue
        path.write_bytes(data)
        with pytest.raises(DamagedError, match=r"damaged or foreign file.*Delete it.*--recompute"):
            load(path)


def test_every_bit_of_the_seal_counts(stored, tmp_path):
    good = stored[0].read_bytes()
    path = tmp_path / stored[0].name
    for at in range(len(good) - 90, len(good)):
        path.write_bytes(good)
        flip(path, at, 1)
        with pytest.raises(DamagedError):
            load(path)


def test_a_file_changed_by_another_program_is_refused(stored, tmp_path):
    path = tmp_path / stored[0].name
    path.write_bytes(stored[0].read_bytes())
    with h5py.File(path, "r+") as f:
        f["x"][0, 0] += 1
    with pytest.raises(DamagedError, match="checksum"):
        load(path)
    content, _ = unsealed(stored[0].read_bytes())
    path.write_bytes(content)
    with pytest.raises(DamagedError, match="checksum is missing"):
        load(path)


def test_files_of_earlier_versions_are_read_with_a_note(stored, tmp_path):
    path, ds = tmp_path / stored[0].name, stored[1]
    ds.to_netcdf(path, engine="h5netcdf")
    with pytest.warns(UserWarning, match=r"earlier version, without a checksum.*--recompute"):
        assert load(path).identical(ds)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DamagedError, match="states a size"):
        load(path)


@pytest.mark.parametrize(
    ("name", "expected"), [("a_b-0123ab.nc", True), ("samples-zzzzzz.nc", False), (".a-0123ab.nc.7.tmp", False)]
)
def test_what_is_called_like_an_answer(tmp_path, name, expected):
    assert is_answer(tmp_path / name) is expected


def test_a_damaged_result_is_refused_until_it_is_deleted_or_computed_anew(fresh_run):
    steps = fresh_run.steps.tolist()
    whole = sweep("spectrum", fresh_run, seed=0, k=2)
    (path,) = (fresh_run.path / "results").glob("*.nc")
    flip(path)
    for use in (lambda: sweep("spectrum", fresh_run, seed=0, k=2), lambda: Study([fresh_run]).results("spectrum")):
        with pytest.raises(DamagedError, match=path.name):
            use()
    assert sweep("spectrum", fresh_run, seed=0, k=2, recompute=True).eigenvalue.equals(whole.eigenvalue)
    assert load(path).step.values.tolist() == steps
    flip(path)
    sweep("spectrum", fresh_run, seed=0, k=2, steps=steps[-2:], recompute=True)
    assert load(path).step.values.tolist() == steps[-2:]
    flip(path)
    path.unlink()
    assert sweep("spectrum", fresh_run, seed=0, k=2).eigenvalue.equals(whole.eigenvalue)


@pytest.mark.slow
def test_the_commands_refuse_a_damaged_result_and_do_the_rest(landscape, fresh_run):
    ask = ("probe", fresh_run.path, "-q", "-p", "spectrum", "-p", "samples", "--set", "spectrum.k=2")
    assert landscape(*ask)[0] == 0
    (path,) = (fresh_run.path / "results").glob("spectrum-*.nc")
    flip(path)
    code, out, err = landscape("show", fresh_run.path)
    assert (code, path.name in out, "samples-" in out, "Delete it" in err) == (2, True, True, True)
    assert landscape("show", fresh_run.path, "--json")[0] == 2
    code, out, err = landscape(*ask)
    assert (code, "samples" in out, "Delete it" in err, "--recompute" in err) == (2, True, True, True)
    assert landscape("plot", fresh_run.path, "eigenvalues", "--format", "svg")[0] == 2
    code, out, err = landscape("plot", fresh_run.path, "--format", "svg")
    assert (code, "trajectories" in out, path.name in err) == (2, True, True)
    assert landscape(*ask, "--recompute")[0] == 0
    assert landscape("show", fresh_run.path)[0] == 0


@pytest.mark.slow
def test_the_note_of_earlier_versions_is_one_line(fresh_run):
    ds = sweep("samples", fresh_run, seed=0)
    (path,) = (fresh_run.path / "results").glob("*.nc")
    ds.to_netcdf(path, engine="h5netcdf")
    done = subprocess.run(
        [sys.executable, "-m", "landscape", "show", str(fresh_run.path)],
        capture_output=True, text=True, check=True, timeout=60, env={**os.environ, "PYTHONWARNINGS": ""},
    )  # fmt: skip
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("Note: results in ")


def test_another_netcdf_file_is_named(tmp_path):
    path = tmp_path / "other.nc"
    xr.Dataset({"x": ("n", [1.0])}).to_netcdf(path, engine="h5netcdf")
    with pytest.raises(LandscapeError, match="another netCDF file"):
        load(path)


def test_a_heading_says_what_the_dataset_says(fresh_run):
    """Of every kind of attribute, with steps and without, and of a damaged file the same as reading it whole."""
    swept = sweep("spectrum", fresh_run, seed=0, k=2, steps=[0, 20])
    whole = sweep("surface", fresh_run, seed=0, points=3, directions="random")
    for probe, ds, steps in (("spectrum", swept, (0, 20)), ("surface", whole, (20,))):
        (found,) = headings(fresh_run, probe)
        assert found.steps == steps
        stored = load(found.path).attrs
        assert {"probe", "probe_version", "run_id", "settings", "created"} <= set(found.attrs)
        assert dict(found.attrs) == {
            name: stored[name].item() if isinstance(stored[name], np.generic) else stored[name] for name in found.attrs
        }
        assert ("metric" in stored) == ("metric" in found.attrs)
        assert found.attrs["settings"] == ds.attrs["settings"]
        data = bytearray(found.path.read_bytes())
        data[len(data) // 2] ^= 1
        found.path.write_bytes(data)
        for read in (heading, load):
            with pytest.raises(DamagedError, match="fails its checksum"):
                read(found.path)
    with pytest.raises(LandscapeError, match="found none"):
        heading(fresh_run.path / "results" / "none.nc")


@pytest.mark.parametrize("probe", ["entropy", "samples", "valley", "surface", "alignment"])
def test_answers_are_read_as_xarray_reads_them(fresh_run, probe, tmp_path):
    """Values, types, dimensions, coordinates and their order, and all attributes."""
    ds = sweep(probe, fresh_run, seed=0, steps=[1, 2] if probe != "surface" else [2])
    save(ds, tmp_path / "x.nc")
    ours = load(tmp_path / "x.nc")
    theirs = xr.load_dataset(tmp_path / "x.nc", engine="h5netcdf").drop_attrs(deep=False)
    assert ours.attrs == ds.attrs
    assert [list(ours.data_vars), list(ours.coords)] == [list(theirs.data_vars), list(theirs.coords)]
    for name, found in theirs.variables.items():
        expected = found.astype(np.str_) if found.dtype.kind in "OT" else found
        assert ours.variables[name].identical(expected)
        assert ours.variables[name].dtype == expected.dtype


def test_some_variables_are_those_of_the_whole(tmp_path):
    """Numbers, flags, text, coordinates, and a dimension without one."""
    ds = xr.Dataset(
        {
            "a": (("step", "mode"), np.array([[1.0, np.nan], [3.0, 4.0]])),
            "flag": (("step", "mode"), np.array([[True, False], [False, False]])),
            "n": ("step", np.array([1, 2])),
            "word": ("mode", np.array(["top", "bottom"])),
            "alone": 2.5,
        },
        {"step": [0, 7], "group": ("group", np.array(["x", "ü"]))},
        {"probe": "demo", "settings": "{}"},
    )
    save(ds, tmp_path / "demo-abcdef.nc")
    whole = load(tmp_path / "demo-abcdef.nc")
    assert whole.identical(ds)
    some = load_variables(tmp_path / "demo-abcdef.nc", [*map(str, ds.variables), "absent"])
    assert some.identical(whole.drop_attrs().assign_attrs(whole.attrs))
    few = load_variables(tmp_path / "demo-abcdef.nc", ["flag", "alone"])
    assert set(few.variables) == {"flag", "alone", "step"}
    (tmp_path / "demo-abcdef.nc").write_bytes((tmp_path / "demo-abcdef.nc").read_bytes()[:-100])
    with pytest.raises(DamagedError):
        load_variables(tmp_path / "demo-abcdef.nc", ["a"])
