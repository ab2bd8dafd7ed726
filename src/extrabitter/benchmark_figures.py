"""The figure of the page on speed: a table of ``benchmark_tables`` in, a Figure out."""

from __future__ import annotations

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from extrabitter.figure_style import ArmStyle, empty_figure, legend_above, new_figure, style

LOOKS = {
    "stock": ("stock TRL: model.generate", ArmStyle("#d55e00", "o", "--")),
    "ours": ("ours", ArmStyle("#0072b2", "s", "-")),
}


def cost_curves(costs: pd.DataFrame) -> Figure:
    """Draw the cost of a completion against the number sampled together, both axes logarithmic, a panel a workload."""
    workloads = list(costs["workload"].unique())
    if not workloads:
        return empty_figure("Nothing was measured yet")
    with style():
        fig = new_figure(2.2 * len(workloads) + 1.0)
        panels = fig.subplots(len(workloads), sharex=True, sharey=True, squeeze=False)[:, 0]
        entries: dict[str, Artist] = {}
        for axes, workload in zip(panels, workloads, strict=True):
            axes.set(xscale="log", yscale="log", ylabel="ms per completion")
            axes.set_title(f"{workload} workload")
            for sampler, (label, look) in LOOKS.items():
                rows = costs[(costs["workload"] == workload) & (costs["sampler"] == sampler)]
                (entries[label],) = axes.plot(
                    rows["count"], rows["ms_per_completion"], look.line, color=look.colour, marker=look.marker
                )
            # Powers of ten name few ticks here: the measured numbers, and 1, 2, 5 between powers.
            axes.xaxis.set_major_locator(FixedLocator(sorted(costs["count"].unique())))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axes.yaxis.set_major_locator(FixedLocator([m * 10.0**p for p in range(-3, 5) for m in (1, 2, 5)]))
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panels[-1].set_xlabel("completions sampled together")
        legend_above(fig, entries)
    return fig
