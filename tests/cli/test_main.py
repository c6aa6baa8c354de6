"""The command line as a whole: help, versions, wrong names, exit statuses, Ctrl-C, closed pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

import fastcnn
from fastcnn import cli

FASTCNN = [sys.executable, "-W", "error", "-m", "fastcnn"]


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"fastcnn {fastcnn.__version__}\n"


def test_help_names_every_command(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"    {command} " in text for command in cli.COMMANDS)
    assert "130 interrupted" in text


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help_that_fits_100_columns(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "100")
    assert cli.main([command, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"usage: fastcnn {command}")
    assert max(map(len, lines)) <= 100


def test_no_command_shows_help_and_is_a_usage_error(capsys):
    assert cli.main([]) == 2
    assert "usage: fastcnn" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "advice"),
    [
        (["compre"], "unknown command 'compre': did you mean 'compare'?"),
        (["compare", "--ops", "conv2"], "unknown operation 'conv2': did you mean 'conv2d'?"),
        (["compare", "--suite", "vgg"], "unknown suite 'vgg': did you mean 'vgg16'?"),
        (["compare", "--implementations", "portabel"], "did you mean 'portable'?"),
        (["compare", "--dtype", "float16"], "unknown type 'float16'"),
        (["compare", "--problem", "n1c3h8q4"], "cannot read 'q4'"),
        (["compare", "--problem", "vgg16.conv3_3"], "did you mean 'vgg16.conv3_2'?"),
        (["compare", "--cases", "many"], "--cases: must be an int of at least 0, got 'many'"),
        (["compare", "--threads", "1,0"], "--threads: must be an int of at least 1, got '0'"),
        (["compare", "--json", "nowhere/x.json"], "there is no folder 'nowhere'"),
        (["compare", "--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_wrong_usage_is_named_with_advice_and_exits_with_2(capsys, argv, advice):
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert advice in err
    assert "--help)" in err
    assert "Traceback" not in err


def test_python_m_runs_the_same_command():
    done = subprocess.run([*FASTCNN, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"fastcnn {fastcnn.__version__}\n"


def test_version_and_help_load_no_compiler():
    code = (
        "import sys; from fastcnn import cli; cli.main(['--help']); print('numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_ctrl_c_ends_with_130_and_no_traceback():
    process = subprocess.Popen(
        [*FASTCNN, "compare", "--cases", "100000", "--ops", "relu"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert "relu" in process.stderr.readline()
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.endswith("fastcnn: interrupted\n")
    assert "Traceback" not in err


def test_a_closed_pipe_is_no_crash():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*FASTCNN, "compare", "--cases", "1", "--ops", "relu", "--suite", "seeds"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert done.returncode == 1
    assert "BrokenPipe" not in done.stderr
