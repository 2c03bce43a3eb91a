"""What is drawn of records: the right numbers, nothing mixed, and what is lost is said."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import synthetic
from test_report import put

from results.figures import curve_charts, draw_matplotlib, draw_plotly, summary_charts
from results.figures.chart import Chart, Series
from results.figures.palette import Style, choose_mark, choose_styles
from results.frames.frame import load
from results.published import sweeps
from results.statistics import compare
from results.statistics.comparable import choose_headline, group_comparables

METHODS = ("simclr", "moco")


def draw_charts(frame: pd.DataFrame, published: Sequence[Any] = ()) -> list[Chart]:
    """As a report draws them."""
    metric = choose_headline(frame)
    return summary_charts.build_charts(
        group_comparables(frame, metric, compare.rank_configurations(frame, metric)), frame, published
    )


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    out = tmp_path_factory.mktemp("figures")
    synthetic.write(150, out, METHODS)
    return load(out)[0]


@pytest.fixture(scope="module")
def charts(frame: pd.DataFrame) -> list[Chart]:
    return draw_charts(frame)


def find_chart(charts: list[Chart], name: str) -> Chart:
    (chart,) = [chart for chart in charts if chart.name == name]
    return chart


def list_points(chart: Chart) -> list[tuple[Series, int]]:
    return [(one, place) for one in chart.series for place in range(len(one.x)) if one.rows and one.look != "lost"]


def test_means_and_intervals_are_those_of_compare(frame: pd.DataFrame, charts: list[Chart]) -> None:
    truth = compare.compute_intervals(frame).set_index("row")[["mean", "low", "high"]] * 100
    rows = set()
    for name in ("accuracy", "temperature", "batch_size", "learning_rate_rule"):
        chart = find_chart(charts, name)
        for one, place in list_points(chart):
            mean = one.x[place] if chart.kind == "intervals" else one.y[place]
            expected = truth.loc[one.rows[place]].tolist()
            assert [mean, one.low[place], one.high[place]] == pytest.approx(expected, nan_ok=True), (name, one.name)
            rows.add(one.rows[place])
    assert len(rows) == len(truth)


def test_a_line_changes_one_setting_alone(frame: pd.DataFrame, charts: list[Chart]) -> None:
    from results.statistics.summaries import summarise

    summary, chart = summarise(frame), find_chart(charts, "batch_size")
    assert (chart.kind, chart.x_log, chart.x_ticks) == ("curve", True, (64, 128, 256, 512, 1024))
    for one in chart.series:
        rows = summary.loc[list(one.rows)]
        assert tuple(rows["batch_size"]) == one.x
        others = rows[["method", "options.temperature", "augmentation", "learning_rate_rule"]].drop_duplicates()
        assert len(others) == 1, "microbatch follows the batch, all else stands still"
    assert {one.name for one in chart.series} >= {"simclr learning_rate_rule=linear", "simclr learning_rate_rule=sqrt"}


def test_the_front_is_what_nothing_beats() -> None:
    rng = np.random.default_rng(0)
    costs, values = rng.integers(1, 30, 200).astype(float), rng.normal(0, 1, 200).round(1)
    better = (costs[None] <= costs[:, None]) & (values[None] >= values[:, None])
    strictly = better & ((costs[None] < costs[:, None]) | (values[None] > values[:, None]))
    on_front = summary_charts.find_pareto_front(costs, values)
    assert not strictly[on_front].any(), "what is on the front is beaten by nothing"
    others = [(c, v) for c, v in zip(costs[~on_front], values[~on_front], strict=True)]
    front = list(zip(costs[on_front], values[on_front], strict=True))
    assert all(any(c2 <= c and v2 >= v for c2, v2 in front) for c, v in others)


def test_accuracy_against_cost_has_three_axes(charts: list[Chart]) -> None:
    chart = find_chart(charts, "cost_views")
    assert [one.choice for one in (chart, *chart.others)] == ["views", "hours", "peak memory"]
    hours = chart.others[0]
    assert {x for one in hours.series if one.look == "dots" for x in one.x} == {
        (3600 + size) / 3600 for size in (64, 128, 256, 512, 1024)
    }


def test_the_heatmap_is_symmetric_and_single_operations_are_its_diagonal(
    frame: pd.DataFrame, charts: list[Chart]
) -> None:
    chart = find_chart(charts, "augmentation_pairs-simclr")
    matrix = np.array(chart.matrix)
    assert chart.order == synthetic.OPERATIONS
    np.testing.assert_array_equal(matrix, matrix.T)
    of = frame[(frame["method"] == "simclr") & (frame["options.temperature"] == 0.2) & (frame["batch_size"] == 256)]
    of = of[of["learning_rate_rule"] == "linear"]
    means = of.groupby("augmentation")["metrics.linear_top1"].mean() * 100
    assert matrix[0, 0] == pytest.approx(means["crop"])
    assert matrix[2, 0] == pytest.approx(means["crop+colour"])
    chain = find_chart(charts, "augmentation")
    assert chain.order == ("crop", "crop+colour", "crop+colour+grey", "crop+colour+grey+blur")


def test_what_failed_is_shown_and_not_averaged(tmp_path: Path) -> None:
    for seed in range(2):
        put(tmp_path, seed=seed, accuracy=0.8 + seed / 100, options={"temperature": 0.2})
        put(tmp_path, seed=seed, accuracy=0.7, options={"temperature": 0.1})
    put(tmp_path, seed=2, status="collapsed", reason="effective rank 1", options={"temperature": 0.1})
    put(tmp_path, seed=0, status="failed", reason="out of memory", options={"temperature": 0.5})
    drawings = draw_charts(load(tmp_path)[0])
    chart = find_chart(drawings, "temperature")
    (line,) = [one for one in chart.series if one.look == "line"]
    assert line.x == (0.1, 0.2, 0.5)
    assert line.y[:2] == pytest.approx((70, 80.5))
    assert math.isnan(line.y[2])
    (failures,) = [one for one in chart.series if one.look == "lost"]
    assert (failures.x, len(failures.texts)) == ((0.1, 0.5), 2)
    assert "1 collapsed" in failures.texts[0]
    assert "cross on the lower edge" in chart.caption
    accuracy = find_chart(drawings, "accuracy")
    assert accuracy.order[-1] == "moco temperature=0.5 (1 failed)"
    assert accuracy.caption.endswith("Not in any mean: 1 failed and 1 collapsed runs.")


def test_protocols_and_datasets_never_share_a_chart(tmp_path: Path) -> None:
    for protocol in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"):
        for seed in range(2):
            for temperature in (0.1, 0.2):
                put(tmp_path, seed=seed, protocol=protocol, options={"temperature": temperature})
    drawings = draw_charts(load(tmp_path)[0])
    assert len({chart.name for chart in drawings}) == len(drawings)
    for chart in drawings:
        assert ("aaaaaaaa" in chart.title) != ("bbbbbbbb" in chart.title)
        assert {len(one.x) for one in chart.series if one.look == "line"} <= {2}


def test_long_labels_name_what_differs_from_the_usual(tmp_path: Path) -> None:
    usual = {"temperature": 0.2, "queue": 4096, "momentum": 0.99}
    for options in (usual, usual | {"queue": 64}, usual | {"momentum": 0.9}, usual | {"temperature": None}):
        put(tmp_path, options=options, augmentation="crop+colour+grey+blur" if options is not usual else "crop")
    chart = find_chart(draw_charts(load(tmp_path)[0]), "accuracy")
    assert set(chart.order) == {"moco augmentation=crop", "moco queue=64", "moco momentum=0.9", "moco temperature=–"}
    assert "(moco: temperature=0.2 queue=4096 momentum=0.99 augmentation=crop+colour+grey+blur)" in chart.caption


def test_heads_of_one_width_stand_beside_the_curves(tmp_path: Path) -> None:
    for seed in range(2):
        put(tmp_path, seed=seed, options={"head": "none", "head_dim": 128})
        for head in ("linear", "mlp"):
            for width in (32, 128):
                put(tmp_path, seed=seed, options={"head": head, "head_dim": width})
    chart = find_chart(draw_charts(load(tmp_path)[0]), "head_dim")
    assert {one.name: one.x for one in chart.series} == {
        "moco head=linear": (32, 128),
        "moco head=mlp": (32, 128),
        "moco head=none": (128,),
    }


@dataclass(frozen=True)
class Curve:
    id: str = "simclr-t5"
    method: str = "moco"
    axis: str = "temperature"
    x: tuple[float, ...] = (0.05, 0.1, 0.5)
    y: tuple[float, ...] = (0.597, 0.644, 0.607)
    metric: str = "linear_top1"
    source: str = "SimCLR, table 5"
    protocol: str = "ImageNet, ResNet-50"
    verified: bool = True


def test_published_curves_have_an_axis_of_their_own_with_the_same_span(tmp_path: Path) -> None:
    for seed in range(2):
        for temperature in (0.1, 0.2, 0.5):
            put(tmp_path, seed=seed, accuracy=0.9 + seed / 100, options={"temperature": temperature})
    frame = load(tmp_path)[0]
    others = [Curve(method="simclr"), Curve(axis="queue"), Curve(x=(0.0, 1.0), y=(0.5, 0.6))]
    plain = find_chart(draw_charts(frame, others), "temperature")
    assert [one.look for one in plain.series] == ["line"], "another method, another axis, a zero on a logarithmic axis"
    chart = find_chart(draw_charts(frame, [Curve(), *others]), "temperature")
    series = chart.series[-1]
    assert (series.look, series.method, series.x) == ("published", "", (0.05, 0.1, 0.5))
    assert series.y == pytest.approx((59.7, 64.4, 60.7))
    assert chart.y_range is not None
    assert chart.right_range is not None
    assert np.ptp(chart.y_range) == pytest.approx(np.ptp(chart.right_range))
    assert "SimCLR, table 5, ImageNet, ResNet-50" in chart.caption
    figure = draw_plotly.build_figure(chart, choose_styles([chart]))
    assert figure["data"][-1]["yaxis"] == "y2"
    assert figure["data"][-1]["line"]["dash"] == "dash"
    unverified = find_chart(draw_charts(frame, [replace(Curve(), verified=False)]), "temperature")
    assert "(not verified)" in unverified.caption


def test_the_curves_that_compare_with_a_sweep_are_laid_over_it(frame: pd.DataFrame) -> None:
    laid = list(dict.fromkeys(one.curve for one in sweeps.compare_sweeps(frame)))
    assert "simclr-table5" in [curve.id for curve in laid]
    chart = find_chart(draw_charts(frame, laid), "temperature")
    assert "published: simclr-table5" in [one.name for one in chart.series]


def test_training_curves_and_looks_come_from_the_cells_folders(tmp_path: Path) -> None:
    folder = put(tmp_path, accuracy=0.9)
    (folder / "log.jsonl").write_text(
        "".join(json.dumps({"step": 10 * i, "epoch": i // 2, "loss": 5 / i}) + "\n" for i in range(1, 1001)) + '{"st'
    )
    looks: dict[str, Any] = synthetic._make_looks(np.random.default_rng(0))
    (folder / "looks.json").write_text(json.dumps(looks))
    drawings = draw_charts(load(tmp_path)[0])
    (line,) = find_chart(drawings, "training").series
    assert len(line.x) <= 200
    assert (line.x[0], line.y[0]) == (pytest.approx(0.5), 5)
    features = find_chart(drawings, "features-moco")
    assert sum(len(one.x) for one in features.series) == 120
    assert [one.name for one in features.series] == [str(i) for i in range(10)]
    neighbours = find_chart(drawings, "neighbours-moco")
    assert neighbours.png == looks["neighbours"]["png"]
    assert "5 of 6 neighbours have its class" in neighbours.caption
    (folder / "looks.json").write_text(json.dumps({"projection": {"x": [1]}, "neighbours": {"png": "<script>"}}))
    assert not [chart for chart in draw_charts(load(tmp_path)[0]) if chart.kind in ("points", "picture")]


def test_losses_of_several_methods_are_drawn_each_in_its_own_range(tmp_path: Path) -> None:
    """Barlow Twins' loss of 700 beside SimSiam's of -0.9: on one axis the shape of the smaller would be gone."""
    curves = {"barlow_twins": ([700.0, 500.0], "finished"), "simsiam": ([-0.1, -0.9], "finished")}
    for method, (losses, status) in (curves | {"moco": ([9.0, 1e6], "collapsed")}).items():
        more = {"accuracy": 0.9} if status == "finished" else {"reason": "a loss that grows"}
        folder = put(tmp_path, method, status=status, **more)
        lines = [json.dumps({"step": i, "epoch": i, "loss": loss}) for i, loss in enumerate(losses, 1)]
        (folder / "log.jsonl").write_text("\n".join(lines) + "\n")
    chart = find_chart(draw_charts(load(tmp_path)[0]), "training")
    series = {one.name: (one.y, one.texts) for one in chart.series}
    assert series["barlow_twins"] == ((1.0, 0.0), ("loss 700", "loss 500"))
    assert series["simsiam"] == ((1.0, 0.0), ("loss -0.1", "loss -0.9"))
    assert series["moco, collapsed"] == ((0.0, 1.0), ("loss 9", "loss 1e+06"))
    assert "own range" in chart.caption


def write_curve(folder: Path, accuracies: Sequence[float], every: int = 5) -> None:
    """A log of an accuracy each `every` epochs, of 100 views and 36 s, and of losses between them."""
    lines: list[dict[str, float]] = [{"step": 1, "epoch": 0, "loss": 1.0}]
    for number, accuracy in enumerate(accuracies, 1):
        at = {"epoch": number * every, "views": 100 * number * every, "seconds": 36 * number * every}
        lines += [
            {"step": 10 * number, **at, "knn20_validation_top1": accuracy},
            {"step": 10 * number, "epoch": 1, "loss": 0.5},
        ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_accuracies_while_cells_trained_are_curves_over_three_axes(tmp_path: Path) -> None:
    for seed, accuracies in enumerate(((0.3, 0.5), (0.5, 0.7))):
        write_curve(put(tmp_path, seed=seed, accuracy=0.9), accuracies)
    write_curve(put(tmp_path, "simclr", cost={"processes": 2}), (0.2, 0.4, math.nan))
    write_curve(put(tmp_path, "pirl", status="stopped", reason="too low", cost={"processes": 1}), (0.1, 0.1))
    write_curve(put(tmp_path, "byol"), (0.9,))
    frame, problems = load(tmp_path)
    drawings = draw_charts(frame)
    chart = find_chart(drawings, "validation_epochs")
    assert [one.choice for one in (chart, *chart.others)] == ["epochs", "views", "hours"]
    views, hours = chart.others
    lines = {(one.name, one.look): (one.x, pytest.approx(one.y)) for one in chart.series if one.look != "thin"}
    assert lines == {
        ("moco", "line"): ((5, 10), (40, 60)),
        ("simclr", "line"): ((5, 10), (20, 40)),
        ("pirl, stopped", "level"): ((5, 10), (10, 10)),
    }
    assert sum(one.look == "thin" for one in chart.series) == 2
    assert views.series[0].x == (500, 1000)
    assert {one.name: one.x for one in hours.series}["simclr"] == pytest.approx((0.1, 0.2)), "of both processes"
    assert "Dashed lines are runs that did not finish." in chart.caption
    assert find_chart(drawings, "training").series[0].texts == ("loss 1", "loss 0.5"), "of losses alone"
    assert problems == []


def test_training_curves_that_are_too_many_are_those_of_the_best_methods(tmp_path: Path) -> None:
    for number in range(curve_charts.MOST_LINES + 4):
        folder = put(tmp_path, f"method{number:02d}", accuracy=0.9 - number / 100)
        lines = [json.dumps({"step": i, "epoch": i, "loss": 1 / i}) for i in range(1, 4)]
        (folder / "log.jsonl").write_text("\n".join(lines) + "\n")
    chart = find_chart(draw_charts(load(tmp_path)[0]), "training")
    assert [one.name for one in chart.series] == [f"method{i:02d}" for i in range(curve_charts.MOST_LINES - 1)]
    assert "Only the methods of the highest accuracy are here." in chart.caption


def test_every_chart_is_drawn_by_both(charts: list[Chart]) -> None:
    import plotly.graph_objects as go

    styles = choose_styles(charts)
    assert len({tuple(style) for style in styles.values()}) == len(METHODS)
    kinds = {chart.kind: chart for chart in charts}
    assert set(kinds) == {"intervals", "curve", "groups", "heatmap", "scatter", "lines", "points", "picture"}
    for chart in kinds.values():
        files = draw_matplotlib.render(chart, styles)
        assert files["png"].startswith(b"\x89PNG")
        if chart.kind == "picture":
            continue
        assert b"<svg" in files["svg"]
        traces = draw_plotly.build_figure(chart, styles)
        figure = go.Figure(traces)  # refuses what plotly does not know
        assert len(figure.data) == max(len(chart.series), 1)
        colours = {one["line"]["color"] for one in traces["data"] if one.get("name", "").startswith("moco")}
        assert colours <= {styles["moco"].colour}


def test_no_records_no_charts(tmp_path: Path) -> None:
    assert draw_charts(load(tmp_path)[0]) == []
    put(tmp_path, status="failed", reason="out of memory")
    (chart,) = draw_charts(load(tmp_path)[0])
    assert chart.order == ("moco (1 failed)",)


def test_four_lines_of_a_method_look_different() -> None:
    style = Style("#0072B2", "circle")
    looks = {(choose_mark(style, number), number % 2) for number in range(4)}
    assert len(looks) == 4
    assert choose_mark(style, 0) == "circle"
