"""`fastcnn compare`: table, JSON, exit status, progress."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fastcnn import cli, reference
from fastcnn.kernels.implementation import Implementation

FIELDS = {"operation", "implementation", "dtype", "cases", "worst", "bound", "pass"}


@pytest.fixture
def wrong_tanh(monkeypatch):
    load = Implementation.load

    def spoiled(self, operation):
        kernel = load(self, operation)

        def run(geometry, x, y):
            kernel(geometry, x, y)
            y.flat[0] = 2

        return run if operation == "tanh" else kernel

    monkeypatch.setattr(Implementation, "load", spoiled)


def test_a_table_and_status_0(capsys):
    argv = ["compare", "--ops", "tanh,conv2d", "--suite", "seeds", "--cases", "5"]
    assert cli.main([*argv, "--threads", "1,2", "--implementations", "portable"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split() == ["operation", "algorithm", "dtype", "cases", "worst", "bound"]
    assert [line.split()[0] for line in lines[1:]] == ["tanh", "tanh", "conv2d", "conv2d"]
    assert all(line.endswith("ok") for line in lines[1:])
    assert "comparing:   0 %  tanh" in err


def test_json_to_a_file_and_to_standard_output(capsys, tmp_path):
    file = tmp_path / "results.json"
    argv = ["compare", "--ops", "tanh", "--cases", "5", "--dtype", "float32", "--seed", "3"]
    assert cli.main([*argv, "--json", str(file)]) == 0
    assert "tanh" in capsys.readouterr().out
    content = json.loads(file.read_text())
    (row,) = content["results"]
    assert row.keys() >= FIELDS
    assert (row["operation"], row["dtype"], row["pass"]) == ("tanh", "float32", True)
    assert 0 <= row["worst"] <= row["bound"]
    assert row["cases"] >= 5
    assert (content["seed"], content["pass"]) == (3, True)
    assert cli.main([*argv, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == content


def test_a_wrong_kernel_is_named_with_status_1(capsys, tmp_path, wrong_tanh):
    file = tmp_path / "results.json"
    argv = ["compare", "--ops", "relu,tanh", "--cases", "5", "--json", str(file)]
    assert cli.main(argv) == 1
    out = capsys.readouterr().out
    assert "tanh portable float32: 5 of 5 cases wrong" in out
    assert "again: fastcnn compare --ops tanh --implementations portable" in out
    passed = {
        (r["operation"], r["dtype"]): r["pass"] for r in json.loads(file.read_text())["results"]
    }
    assert {key for key, value in passed.items() if not value} == {
        ("tanh", "float32"),
        ("tanh", "float64"),
    }


def test_the_command_given_for_a_failure_shows_it_again(capsys, wrong_tanh):
    assert cli.main(["compare", "--ops", "tanh", "--cases", "5", "--dtype", "float64"]) == 1
    lines = capsys.readouterr().out.splitlines()
    again = next(line for line in lines if line.startswith("  again: fastcnn "))
    assert cli.main(again.removeprefix("  again: fastcnn ").split()) == 1


def test_quick_is_a_smaller_comparison(capsys):
    assert (
        cli.main(["compare", "--quick", "--ops", "dense", "--cases", "1", "--dtype", "float32"])
        == 0
    )
    quick = int(capsys.readouterr().out.splitlines()[1].split()[3])
    assert cli.main(["compare", "--suite", "dense", "--ops", "dense", "--cases", "1"]) == 0
    assert quick == int(capsys.readouterr().out.splitlines()[1].split()[3])


def test_problems_by_name_and_by_string(capsys):
    argv = ["compare", "--ops", "conv2d", "--problem", "odd.prime,n1c2h5k2r3p1", "--json", "-"]
    assert cli.main([*argv, "--implementations", "portable"]) == 0
    rows = json.loads(capsys.readouterr().out)["results"]
    assert [row["cases"] for row in rows] == [6, 6]
    assert all(np.isfinite(row["worst"]) for row in rows)


def test_nothing_to_compare_is_a_usage_error(capsys):
    assert cli.main(["compare", "--ops", "conv2d", "--problem", "n1i4o4"]) == 2
    assert "fastcnn compare: no implementation asked for runs on" in capsys.readouterr().err


def test_fuzz(capsys, monkeypatch):
    assert cli.main(["compare", "--fuzz", "20", "--seed", "9"]) == 0
    out, err = capsys.readouterr()
    assert out == "20 cases from seed 9: 0 wrong\n"
    assert "fuzzing" in err
    assert "seed 9" in err
    right = reference.relu
    monkeypatch.setattr(reference, "relu", lambda x: right(x) + 1)
    assert cli.main(["compare", "--fuzz", "200", "--seed", "9", "--json", "-"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert (content["seed"], content["cases"], content["pass"]) == (9, 200, False)
    number = content["failures"][0]["number"]
    assert content["failures"][0]["description"].startswith("relu ")
    argv = ["compare", "--fuzz", "1", "--first", str(number), "--seed", "9"]
    assert cli.main(argv) == 1
    assert f"again: fastcnn {' '.join(argv)}" in capsys.readouterr().out
