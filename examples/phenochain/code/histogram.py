"""Histogram the transverse momentum of jets, as numbers and as a picture.

usage: histogram.py LOW_GEV HIGH_GEV BINS OUTPUT_DIRECTORY JETS.json [JETS.json ...]

It writes OUTPUT_DIRECTORY/jet_pt.json (the histograms), jet_pt.png (the picture) and summary.yml (what to publish).
Bins are equally wide in log(pt). The spectrum is a cross section, d(sigma)/d(pt) in mb/GeV: counts in a bin, divided by
its width and by the luminosity that the generated events stand for, which is their number over the cross section.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # told apart by colour-blind readers too (Okabe and Ito)
MARKERS = ("o", "s", "^", "D")


def histogram(document: dict[str, Any], edges: np.ndarray) -> dict[str, Any]:
    """Count the jets of one document and turn the counts into a spectrum with its statistical error."""
    pt = np.array([jet["pt"] for event in document["events"] for jet in event])
    counts, _ = np.histogram(pt, edges)
    millibarn_per_jet = document["cross_section_mb"] / len(document["events"])
    return {
        "radius": document["radius"],
        "events": len(document["events"]),
        "jets": len(pt),
        "counts": counts.tolist(),
        "below": int(np.sum(pt < edges[0])),
        "above": int(np.sum(pt > edges[-1])),
        "spectrum_mb_per_gev": (counts / np.diff(edges) * millibarn_per_jet).tolist(),
        "error_mb_per_gev": (np.sqrt(counts) / np.diff(edges) * millibarn_per_jet).tolist(),
    }


def draw(histograms: list[dict[str, Any]], edges: np.ndarray, caption: str, picture: Path) -> None:
    """Draw the spectra on logarithmic axes; empty bins stay empty."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    middles = np.sqrt(edges[:-1] * edges[1:])
    lowest = np.inf
    for number, found in enumerate(histograms):
        counts, height, error = (np.array(found[k]) for k in ("counts", "spectrum_mb_per_gev", "error_mb_per_gev"))
        filled = counts > 0
        colour = COLOURS[number % len(COLOURS)]
        # The whole bar of a bin with one entry would reach down to zero, which a logarithmic axis does not have.
        down = np.minimum(error, 0.8 * height)
        lowest = min(lowest, np.min((height - down)[filled], initial=np.inf))
        beside = 1 + 0.012 * (2 * number - len(histograms) + 1)  # so that points of equal height both show
        axes.stairs(np.where(filled, height, np.nan), edges, color=colour, linewidth=1.2, alpha=0.6)
        axes.errorbar(
            middles[filled] * beside,
            height[filled],
            yerr=[down[filled], error[filled]],
            fmt=MARKERS[number % len(MARKERS)],
            color=colour,
            markersize=4.5,
            capsize=2,
            label=f"R = {found['radius']:g}  ({found['jets']} jets)",
        )
    axes.set(xscale="log", yscale="log", xlim=(edges[0], edges[-1]))
    if np.isfinite(lowest):
        axes.set_ylim(bottom=lowest / 2)
    axes.set_xlabel(r"jet transverse momentum $p_\mathrm{T}$ [GeV]")
    axes.set_ylabel(r"$\mathrm{d}\sigma/\mathrm{d}p_\mathrm{T}$ [mb/GeV]")
    ticks = [tick for tick in (5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500) if edges[0] <= tick <= edges[-1]]
    axes.set_xticks(ticks, labels=[str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.set_title(caption, fontsize=10, loc="left")
    axes.legend(title=r"anti-$k_\mathrm{t}$ jets", frameon=False)
    figure.savefig(picture, dpi=150)


def main(low: float, high: float, bins: int, directory: Path, files: list[str]) -> None:
    """Read the jets, write the three files."""
    edges = np.geomspace(low, high, bins + 1)
    documents = [json.loads(Path(file).read_text(encoding="utf-8")) for file in files]
    histograms = [histogram(document, edges) for document in documents]
    picture, numbers = directory / "jet_pt.png", directory / "jet_pt.json"
    numbers.write_text(json.dumps({"edges_gev": edges.tolist(), "histograms": histograms}), encoding="utf-8")
    first = documents[0]
    caption = (
        f"{len(first['events'])} inelastic pp collisions, $\\sqrt{{s}}$ = {first['energy_gev'] / 1000:g} TeV, "
        f"Pythia 6.428; particles with $|\\eta| < {first['etamax']:g}$"
    )
    draw(histograms, edges, caption, picture)
    # JSON is YAML, so that fromyaml-pub reads what json writes.
    summary = {
        "picture": str(picture),
        "histogram": str(numbers),
        "events": len(first["events"]),
        "cross_section_mb": round(first["cross_section_mb"], 3),
        "jets": {f"R={found['radius']:g}": found["jets"] for found in histograms},
    }
    (directory / "summary.yml").write_text(json.dumps(summary), encoding="utf-8")
    print(f"{picture}: {len(histograms)} spectra of {bins} bins")


if __name__ == "__main__":
    low, high, bins, directory, *files = sys.argv[1:]
    main(float(low), float(high), int(bins), Path(directory), files)
