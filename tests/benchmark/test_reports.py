"""Tables, pages, plots and README's section, from runs that are made up."""

import random
import re

import pytest

from fastcnn.benchmark import results, table
from fastcnn.benchmark.cases import cases
from fastcnn.benchmark.comparison import compare
from fastcnn.benchmark.statistics import paired_ratio
from fastcnn.benchmark.summary import charts, own_rows

SIDES = {
    "auto": ("fastcnn", 1.0), "winograd_of_the_future": ("fastcnn", 1.5),
    "numpy": ("numpy", 20.0), "loops": ("numpy", 23456.0), "torch": ("torch", 1.01),
    "torch_cl": ("torch", 0.7), "ort": ("ort", 2.0), "jax": ("jax", 123.4), "scipy": ("scipy", 9.0),
}  # fmt: skip


def made_up(suite="odd", threads=(1, 2), factor=1.0, seed=0, machine=1.0):
    """The content of a run's JSON without a run: ours, or the whole machine, slower by a factor."""
    rng = random.Random(seed)
    found = results.Results({"threads": list(threads)})
    found.machine = {
        "cpu": "Some CPU", "family": "family 1", "cores": 2, "virtual": True, "caches": {"L1d": 1},
        "memory_bytes": 1 << 34, "system": "Linux", "versions": {"numpy": "2", "torch": "2"},
        "commit": None,
    }  # fmt: skip
    for case in cases([suite]):
        for count in threads:
            seconds = (1e-4 + case.bytes / 1e9 + case.flops / 1e12) * machine / count
            timed = {}
            for side, (library, slower) in SIDES.items():
                slower *= factor if library == "fastcnn" else 1.0
                timed[side] = [seconds * slower * (1 + 0.02 * rng.random()) for _ in range(8)]
                row = {
                    **case.facts(), "threads": count, "library": library, "side": side,
                    "status": "ok", "reason": None, "algorithm": None, "workspace_bytes": 4096,
                    "error": 1e-7, "allowed": 1e-5, "peak_rss_bytes": 1, "extra_bytes": None,
                    "minimum": min(timed[side]), **results.figures(timed[side], 0.05),
                }  # fmt: skip
                if side != "auto":
                    row["paired"] = paired_ratio(timed["auto"], timed[side]).to_dict()
                found.rows.append(row)
    found.limits = [
        {
            "threads": t, "at": 0.0, "fma_gflops": 100.0 * t, "copy_gbs": 10.0, "clock_ghz": 3.0,
            "trip_ns": None if t == 1 else 60.0,
        }
        for t in threads
    ]  # fmt: skip
    found.startup = [{"name": "cold cache: process", "minimum": 1.0, "seconds": [1.0, 1.1],
                      "median": 1.0, "low": 1.0, "high": 1.1, "spread": 0.1}]  # fmt: skip
    found.left_out = ["some layer with a very long name, " * 5]
    found.finished = True
    return found.to_dict()


@pytest.mark.parametrize("suite", ["odd", "mobilenet_depthwise", "losses", "networks", "pooling"])
def test_tables_fit_a_hundred_columns(suite):
    content = made_up(suite)
    content["rows"].append({**content["rows"][0], "status": "wrong", "reason": "x" * 300})
    lines = list(table.lines(content))
    assert max(map(len, lines)) <= 100
    text = "\n".join(lines)
    assert all(heading in text for heading in ("numpy", "torch-cl", "ort", "jax", "scipy"))
    assert "REFUSED" in text
    assert "no time was left for 1 cases" in text
    assert "3.00 GHz, 60 ns core to core and back" in text
    content["limits"] = [{**entry, "clock_ghz": None} for entry in content["limits"]]
    for entry in content["limits"]:  # as runs of earlier versions have them
        del entry["trip_ns"]
    assert "core to core" not in "\n".join(table.lines(content))


def test_a_ratio_inside_the_noise_is_marked():
    assert table.ratio({"median": 1.01, "verdict": "noise"}) == "~1.01"
    assert table.ratio({"median": 1.51, "verdict": "faster"}) == "1.51"
    assert table.ratio(None) == ""


def test_durations_and_sizes():
    assert table.duration(1.23456) == "1.235 s"
    assert table.duration(0.0123456) == "12.35 ms"
    assert table.duration(3.5e-7) == "0.350 us"
    assert table.size(3 << 20) == "3.0 MB"


def test_the_page_is_self_contained(tmp_path):
    pytest.importorskip("matplotlib")
    from fastcnn.benchmark.report import write_report

    content = made_up()
    content["rows"][0]["layer"] = "odd.<b>&"
    text = write_report(content, tmp_path / "report").read_text()
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", text)
    assert "<script" not in text
    assert "@import" not in text
    assert "url(" not in text
    assert "&lt;b&gt;&amp;" in text
    assert 'name="viewport"' in text
    assert "data:image/png;base64," in text
    made = {file.name for file in (tmp_path / "report").iterdir()}
    assert {"index.html", "roofline-1.png", "roofline-2.png"} <= made
    assert any(name.startswith("speedup-odd-conv-dw") for name in made)


def test_few_layers_share_a_chart_and_many_have_one_per_suite_and_operation():
    rows = own_rows(made_up("pooling", (1,)))
    labels = ("pool fwd", "pool dx", "relu+pool fwd", "relu+pool dx")
    assert list(charts(rows)) == [f"pooling, {label}" for label in labels]
    assert charts(rows)["pooling, pool dx"][0][0] == "vgg.pool1"
    few = [row for row in rows if row["layer"] in ("pooling.ceil", "pooling.overlap")]
    assert [name for name, _ in charts(few)["pool fwd"]] == ["pooling.overlap", "pooling.ceil"]
    mixed = charts(rows + own_rows(made_up("losses", (1,))))
    assert mixed["losses"][0][0] == "digits, bce"


def test_a_page_of_an_interrupted_run_without_rows(tmp_path):
    pytest.importorskip("matplotlib")
    from fastcnn.benchmark.report import write_report

    content = results.Results({"threads": [1]}).to_dict()
    text = write_report(content, tmp_path).read_text()
    assert "interrupted" in text


def test_readme_is_written_between_its_markers_and_nowhere_else(tmp_path):
    pytest.importorskip("matplotlib")
    from fastcnn.benchmark import readme

    (tmp_path / "bench").mkdir()
    source = tmp_path / "bench" / "run.json"
    results.write(source, made_up())
    file = tmp_path / "README.md"
    file.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    written = readme.write_readme(str(source), tmp_path)
    text = file.read_text()
    assert text.startswith(f"before\n{readme.BEGIN}\n")
    assert text.endswith(f"{readme.END}\nafter\n")
    assert "old" not in text
    assert "`n4c32h32k32r3p2d2`" in text
    assert "geometric mean" in text
    assert "(bench/run.json)" in text
    assert tmp_path / "docs" / "performance.png" in written
    readme.write_readme(str(source), tmp_path)
    assert file.read_text() == text


def test_readme_without_markers_is_left_alone(tmp_path):
    from fastcnn.benchmark import readme

    source = tmp_path / "run.json"
    results.write(source, made_up())
    (tmp_path / "README.md").write_text("nothing")
    with pytest.raises(ValueError, match="must have a line"):
        readme.write_readme(str(source), tmp_path)


def test_the_repository_s_readme_has_the_markers():
    from fastcnn.benchmark import readme

    text = (readme.Path(readme.__file__).parents[2] / "README.md").read_text()
    assert text.index(readme.BEGIN) < text.index(readme.END)


def test_two_runs_compared():
    old, slower = made_up(), made_up(factor=1.2, seed=1)
    found = compare(old, slower)
    assert {c.verdict for c in found.changes} == {"slower"}
    assert len(found.beyond(1.05)) == len(found.changes)
    assert not found.beyond(1.5)
    assert not any("peers took" in line for line in found.machine)
    back = compare(slower, old)
    assert {c.verdict for c in back.changes} == {"faster"}
    assert not back.beyond(1.05)
    assert {c.verdict for c in compare(old, made_up(seed=2)).changes} == {"noise"}


def test_a_slower_machine_is_not_a_slower_kernel():
    old, new = made_up(), made_up(machine=1.2, seed=1)
    found = compare(old, new)
    assert {c.verdict for c in found.changes} == {"noise"}
    assert any("peers took 1.2" in line for line in found.machine)
    for content in (old, new):  # nobody beside it: its own times are all there is
        content["rows"] = [row for row in content["rows"] if row["library"] == "fastcnn"]
    assert {c.verdict for c in compare(old, new).changes} == {"slower"}


@pytest.mark.parametrize("factor", [1.3, 0.7])
def test_a_noisy_row_differs_only_if_its_fastest_call_does(factor):
    old, new = made_up(), made_up(factor=factor, seed=1)
    slow, name = (new, "slower") if factor > 1 else (old, "faster")
    for row in slow["rows"]:
        row["noisy"] = True
    assert {c.verdict for c in compare(old, new).changes} == {name}
    for row in slow["rows"]:
        row["minimum"] *= 0.7  # as fast as the other once
    assert {c.verdict for c in compare(old, new).changes} == {"noise"}


def test_how_far_unchanged_code_drifts_is_said():
    old, new = made_up(), made_up()
    peer = next(row for row in old["rows"] if row["library"] != "fastcnn")
    for number in range(100):  # of other cases; half of them faster, half slower
        other = {**peer, "problem": f"other {number}"}
        old["rows"].append(other)
        new["rows"].append({**other, "median": 1.4 ** (-1) ** number * other["median"]})
    said = [line for line in compare(old, new).machine if "peers" in line]
    assert said == ["the machine: one in ten of peers' rows changed by 1.40 times or more"]


def test_a_peer_that_was_stopped_early_has_no_say():
    """Most peers became slower as we did; where that was seen in a few rounds only, ours counts."""
    old, new = made_up(), made_up(factor=1.2, seed=1)
    others = [r for r in new["rows"] if r["library"] not in ("fastcnn", "torch")]
    for row in others:
        row["rounds"] = [1.2 * seconds for seconds in row["rounds"]]
    assert {c.verdict for c in compare(old, new).changes} == {"noise"}
    for row in others:
        row["rounds"] = row["rounds"][:5]
    assert {c.verdict for c in compare(old, new).changes} == {"slower"}


def test_a_result_that_has_become_wrong_is_past_any_bound():
    old, new = made_up(), made_up()
    new["rows"][0] |= {"status": "wrong", "reason": "relative error 1"}
    found = compare(old, new)
    assert [c.verdict for c in found.beyond(100.0)] == ["wrong"]
    lines = list(found.lines(1.05))
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith("wrong")


def test_rows_of_one_run_alone_are_counted():
    old, new = made_up(), made_up()
    gone = sum(r["library"] == "fastcnn" and r["threads"] == 2 for r in old["rows"])
    new["rows"] = [row for row in new["rows"] if row["threads"] == 1]
    assert compare(old, new).only_old == gone
    assert compare(new, old).only_new == gone
