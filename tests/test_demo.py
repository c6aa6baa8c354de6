"""`fastcnn demo`: two networks on real images, trained on the reference and on the kernels."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fastcnn.cli import main
from fastcnn.demo import NETWORKS, runs
from fastcnn.recipes import RECIPES


def png_size(path):
    """Width and height of a PNG, from its header."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-4), ("float64", 1e-10)])
def test_demo_writes_its_report(tmp_path, capsys, dtype, bound):
    out = tmp_path / "a" / "new folder"
    assert main(["demo", "--out", str(out), "--dtype", dtype]) == 0
    printed = capsys.readouterr()
    assert str(out / "demo.json") in printed.out
    assert max(map(len, printed.out.replace(str(out), "").splitlines())) <= 100
    report = json.loads((out / "demo.json").read_text())
    assert list(report) == list(NETWORKS) == ["fifteen_parameter", "two_block"]
    for name, facts in report.items():
        reference, kernels = (np.array(facts[side]["loss"]) for side in ("reference", "kernels"))
        assert len(reference) == len(kernels) == facts["epochs"] == RECIPES[name].epochs
        # Both learned, and the two curves are one.
        assert kernels[-1] < kernels[0] / 2
        np.testing.assert_allclose(kernels, reference, rtol=bound)
        assert facts["agrees"]
        assert facts["largest_relative_difference"] <= facts["tolerance"] == bound
        for side in ("reference", "kernels"):
            assert facts[side]["seconds"] > 0
            assert facts[side]["held_out_accuracy"] > 0.85
            assert facts[side]["accuracy"] > 0.85
        assert facts["reference"]["backend"] == "reference"
        assert facts["kernels"]["backend"] == "cpu"
        assert facts["ratio"] == pytest.approx(
            facts["reference"]["seconds"] / facts["kernels"]["seconds"]
        )
    width, height = png_size(out / "demo.png")
    assert width > 1000
    assert height > 500


def test_disagreeing_curves_are_said_and_fail(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runs, "NETWORKS", ("fifteen_parameter",))
    monkeypatch.setitem(runs.TOLERANCE, "float64", 0.0)
    train = runs._train

    def drifting(name, backend, dtype, progress):
        run = train(name, backend, dtype, progress)
        run.loss[-1] *= 1.001 if backend == "cpu" else 1
        return run

    monkeypatch.setattr(runs, "_train", drifting)
    assert main(["demo", "--out", str(tmp_path), "--dtype", "float64"]) == 1
    assert "DISAGREE" in capsys.readouterr().out
    assert not json.loads((tmp_path / "demo.json").read_text())["fifteen_parameter"]["agrees"]


def test_a_folder_that_cannot_be_written_is_found_out_before_training(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert main(["demo", "--out", str(tmp_path / "file")]) == 2
    assert "file" in capsys.readouterr().err
