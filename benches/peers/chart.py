#!/usr/bin/env python3
"""A bar chart of the ratios that compare.py kept: `chart.py RESULTS.json CHART.svg`.

One group a layer, one bar a pass: how many times as fast as the better of PyTorch's memory formats, on a logarithmic
axis. Only the standard library is used.
"""

import json
import math
import os
import sys
import tempfile
from pathlib import Path

import compare

COLOURS = {"fprop": "#3b6ea5", "dgrad": "#d98a29", "wgrad": "#5a9a57"}
ROW, BAR, LEFT, WIDTH = 34, 9, 230, 620


def main():
    results, target = json.loads(Path(sys.argv[1]).read_text())["results"], Path(sys.argv[2])
    layers = json.loads((compare.LAYERS / "cpu_layers.json").read_text())
    layers = [layer for layer in layers if layer["name"] in results]
    ratios = {
        (layer["name"], which): compare.Row(layer, which, 2, results[layer["name"]]).ratio()
        for layer in layers
        for which in compare.PASSES
    }
    known = [r for r in ratios.values() if r]
    low, high = min(0.5, *known), max(2.0, *known)
    place = lambda ratio: LEFT + WIDTH * math.log(ratio / low) / math.log(high / low)
    height = 40 + ROW * len(layers)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 60}" height="{height + 30}" '
        'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for i, (which, colour) in enumerate(COLOURS.items()):
        out.append(f'<rect x="{LEFT + 90 * i}" y="8" width="10" height="10" fill="{colour}"/>')
        out.append(f'<text x="{LEFT + 14 + 90 * i}" y="17">{which}</text>')
    ticks = [t for t in (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256) if low <= t <= high]
    for tick in ticks:
        x = place(tick)
        colour = "black" if tick == 1 else "#cccccc"
        out.append(f'<line x1="{x:.1f}" y1="26" x2="{x:.1f}" y2="{height}" stroke="{colour}"/>')
        out.append(f'<text x="{x:.1f}" y="{height + 16}" text-anchor="middle">{tick:g}</text>')
    for i, layer in enumerate(layers):
        top = 32 + ROW * i
        out.append(f'<text x="{LEFT - 8}" y="{top + 18}" text-anchor="end">{layer["name"]}</text>')
        for j, which in enumerate(compare.PASSES):
            ratio = ratios[layer["name"], which]
            if ratio:
                begin, end = sorted((place(1), place(ratio)))
                out.append(f'<rect x="{begin:.1f}" y="{top + BAR * j}" width="{max(end - begin, 0.5):.1f}" '
                           f'height="{BAR - 1}" fill="{COLOURS[which]}"/>')
    out.append("</svg>")
    with tempfile.NamedTemporaryFile("w", dir=target.resolve().parent, delete=False) as file:
        file.write("\n".join(out) + "\n")
    os.chmod(file.name, 0o644)
    os.replace(file.name, target)


if __name__ == "__main__":
    main()
