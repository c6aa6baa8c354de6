"""`fastcnn bench` and `pytest bench/` as people start them, in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastcnn.cli import main

ROOT = Path(__file__).parents[2]
BENCH = [
    sys.executable,
    "-c",
    "import sys; from fastcnn.cli import main; sys.exit(main())",
    "bench",
]
TINY = ["--problem", "n1c2h6k3r3,n1c2h6r2", "--peers", "none", "--threads", "1"]
# Without what says that this process is one of several that share the tests.
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
ENVIRONMENT["PYTHONPATH"] = str(ROOT)


def start(*arguments):
    return subprocess.Popen(
        [*BENCH, *arguments], env=ENVIRONMENT, text=True, cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_a_run_of_problems_of_one_s_own(tmp_path):
    file = tmp_path / "run.json"
    process = start(*TINY, "--ops", "forward,dx", "--json", str(file))
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "6 cases on 1 threads" in err
    assert "left" in err
    assert "n1c2h6k3r3" in out
    content = json.loads(file.read_text())
    assert {row["label"] for row in content["rows"]} == {
        "conv fwd", "conv dx", "pool fwd", "pool dx", "relu+pool fwd", "relu+pool dx",
    }  # fmt: skip
    assert content["finished"]
    # at the beginning, at the end, and every two minutes, which a slow machine may need to compile
    assert [entry["threads"] for entry in content["limits"][:2]] == [1, 1]
    assert main(["bench", "--compare", str(file), str(file)]) == 0


def test_a_short_run_of_the_chosen_algorithms_alone(tmp_path):
    file = tmp_path / "run.json"
    process = start(
        *TINY, "--ops", "forward", "--turn", "0.002", "--chosen-only", "--json", str(file)
    )
    _, err = process.communicate()
    assert process.returncode == 0, err
    content = json.loads(file.read_text())
    assert content["settings"]["seconds"] == 0.002
    assert {row["side"] for row in content["rows"]} == {"auto"}


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_a_turn_is_a_number_above_0(seconds, capsys):
    assert main(["bench", "--turn", seconds]) == 2
    assert "--turn" in capsys.readouterr().err


def test_ctrl_c_keeps_what_is_measured(tmp_path):
    file = tmp_path / "run.json"
    process = start("--suite", "seeds", "--peers", "numpy", "--threads", "1", "--json", str(file))
    for line in process.stderr:
        # the second case has begun: the first is measured
        if "fifteen_parameter conv frozen" in line:
            break
    process.send_signal(signal.SIGINT)
    time.sleep(0.01)
    process.send_signal(signal.SIGINT)  # an impatient one loses nothing
    out, err = process.communicate()
    assert process.returncode == 130, err
    content = json.loads(file.read_text())
    assert not content["finished"]
    kept = {row["side"] for row in content["rows"] if row["label"] == "conv fwd"}
    assert {"auto", "numpy"} <= kept
    assert "interrupted: this is what had been measured" in out


def test_compare_fails_past_the_bound(tmp_path, capsys):
    from fastcnn.benchmark import results
    from tests.benchmark.test_reports import made_up

    old, new = tmp_path / "old.json", tmp_path / "new.json"
    results.write(old, made_up())
    results.write(new, made_up(factor=1.2, seed=1))
    assert main(["bench", "--compare", str(old), str(new)]) == 1
    assert "past the bound" in capsys.readouterr().out
    assert main(["bench", "--compare", str(old), str(new), "--bound", "1.5"]) == 0
    assert main(["bench", "--compare", str(new), str(old)]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ops", "forwrd"], "did you mean 'forward'"),
        (["--suite", "vgg61"], "did you mean 'vgg16'"),
        (["--peers", "tensorflow"], "peer"),
        (["--problem", "n1c2"], "missing"),
        (["--problem", "n1c2h6k3r3", "--ops", "step"], "none of the operations"),
        (["--compare", "missing.json", "missing.json"], "missing.json"),
        (["--quick", "--compare", "a", "b"], "not allowed with"),
        (["--problem", "n1c2h6k3r3", "--peers", "none", "--threads", "999"], "999 threads"),
    ],
)
def test_wrong_usage(arguments, message, capsys):
    assert main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_pytest_benchmark_runs_the_folder_by_itself(tmp_path):
    pytest.importorskip("pytest_benchmark")
    file = tmp_path / "benchmark.json"
    command = [sys.executable, "-m", "pytest", "bench", "-q", "--peers", "none", "--threads", "1"]
    done = subprocess.run(
        [*command, "--suite", "seeds", "--ops", "conv2d", "-k", "fifteen_parameter",
         "--benchmark-json", str(file)],
        env=ENVIRONMENT, cwd=ROOT, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(file.read_text())
    (benchmark,) = content["benchmarks"]
    assert benchmark["group"] == "conv fwd, seeds.fifteen_parameter"
    assert benchmark["extra_info"]["gflops"] > 0
    assert benchmark["extra_info"]["threads"] == 1
    assert benchmark["stats"]["rounds"] == 8
    assert content["machine_info"]["fastcnn"]["cpu"]
