"""Draws a picture of ratios as SVG: a bar for each comparison, on a logarithmic scale."""

import math
from xml.sax.saxutils import escape

WIDTH = 860
LEFT = 300  # of it, for the labels
RIGHT = 60
ROW = 44
TOP = 60
BOTTOM = 30
TICKS = (0.5, 1, 2, 4, 8, 16, 32)


def _text(x, y, text, **attributes):
    written = "".join(f' {name.replace("_", "-")}="{each}"' for name, each in attributes.items())
    return f'<text x="{x:.0f}" y="{y:.0f}"{written}>{escape(text)}</text>'


def draw(title, note, bars):
    """Draw `bars`, which are (label, sublabel, low, median, high, goal), on the scale "times as
    fast". The goal may be None."""
    most = max([bar[4] for bar in bars] + [bar[5] or 0 for bar in bars])
    ticks = [tick for tick in TICKS if tick <= most * 1.5]
    scale = (WIDTH - LEFT - RIGHT) / math.log2(ticks[-1] * 1.3 / ticks[0])
    bottom = TOP + ROW * len(bars)

    def place(ratio):
        return LEFT + scale * max(0.0, math.log2(max(ratio, 1e-9) / ticks[0]))

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + BOTTOM}"'
        f' width="{WIDTH}" font-family="sans-serif" font-size="13" fill="#222">',
        f"<title>{escape(title)}</title>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        _text(16, 26, title, font_size=17, font_weight="bold"),
        _text(16, 45, note, font_size=12, fill="#666"),
    ]
    for tick in ticks:
        x = place(tick)
        colour = "#222" if tick == 1 else "#ddd"
        lines.append(f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="{colour}"/>')
        lines.append(_text(x, bottom + 18, f"{tick:g}×", text_anchor="middle", fill="#666"))
    for number, (label, sublabel, low, middle, high, goal) in enumerate(bars):
        y = TOP + ROW * number + 8
        start, finish = sorted((place(1), place(middle)))
        colour = "#2a7f9e" if middle >= (goal or 1) else "#c2571a"
        lines += [
            _text(16, y + 12, label, font_weight="bold"),
            _text(16, y + 27, sublabel, font_size=11, fill="#666"),
            f'<rect x="{start:.1f}" y="{y}" width="{max(finish - start, 1):.1f}" height="22"'
            f' fill="{colour}"/>',
            f'<path d="M{place(low):.1f} {y + 11}H{place(high):.1f}" stroke="#222"/>',
            _text(place(max(high, goal or 0, 1)) + 8, y + 15, f"{middle:.2g}×", font_weight="bold"),
        ]
        if goal is not None:
            lines.append(
                f'<path d="M{place(goal):.1f} {y - 3}v28" stroke="#222" stroke-width="2"'
                ' stroke-dasharray="3 2"/>'
            )
    lines.append("</svg>")
    return "\n".join(lines) + "\n"
