"""Draws pictures as SVG, on logarithmic scales: ratios, with a bar for each comparison; and how times
grow, with a curve for each contender."""

import math
from xml.sax.saxutils import escape

WIDTH = 860
LEFT = 300  # of it, for the labels
RIGHT = 60
ROW = 44
TOP = 60
BOTTOM = 30
TICKS = (0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32)


def _text(x, y, text, **attributes):
    written = "".join(f' {name.replace("_", "-")}="{each}"' for name, each in attributes.items())
    return f'<text x="{x:.0f}" y="{y:.0f}"{written}>{escape(text)}</text>'


def _open(title, note, height):
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        f' width="{WIDTH}" font-family="sans-serif" font-size="13" fill="#222">',
        f"<title>{escape(title)}</title>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        _text(16, 26, title, font_size=17, font_weight="bold"),
        _text(16, 45, note, font_size=12, fill="#666"),
    ]


def draw(title, note, bars):
    """Draw `bars`, which are (label, sublabel, low, median, high, goal), on the scale "times as
    fast". The goal may be None."""
    most = max([bar[4] for bar in bars] + [bar[5] or 0 for bar in bars])
    least = min([0.5] + [bar[3] for bar in bars])
    begin = max([tick for tick in TICKS if tick <= least], default=TICKS[0])
    ticks = [tick for tick in TICKS if begin <= tick <= most * 1.5]
    scale = (WIDTH - LEFT - RIGHT) / math.log2(ticks[-1] * 1.3 / ticks[0])
    bottom = TOP + ROW * len(bars)

    def place(ratio):
        return LEFT + scale * max(0.0, math.log2(max(ratio, 1e-9) / ticks[0]))

    lines = _open(title, note, bottom + BOTTOM)
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


HEIGHT = 380  # of a picture of curves
CURVES_LEFT = 80
CURVES_RIGHT = 230  # for the curves' names
LABEL = 15  # the height of a name
COLOURS = ("#2a7f9e", "#c2571a", "#666", "#7a9e2a")


def _scale(values, start, end):
    """A function from a value to its place, and the powers of ten and their halves between."""
    low, high = min(values), max(values)
    steps = [digit * 10.0**power for power in range(-9, 10) for digit in (1, 2, 5)]
    low = max(step for step in steps if step <= low * 1.0001)
    high = min(step for step in steps if step >= high * 0.9999 and step > low)
    wide = (end - start) / math.log(high / low)
    return lambda value: start + wide * math.log(value / low), [
        step for step in steps if low * 0.9999 <= step <= high * 1.0001
    ]


def _apart(labels):
    """{name: place}, from above, each moved down if it is too near to the one before."""
    placed = {}
    for name, place in sorted(labels.items(), key=lambda label: label[1]):
        placed[name] = max([place] + [other + LABEL for other in placed.values()])
    return placed


def draw_curves(title, note, names, curves):
    """Draw `curves`, {name: {x: (low, median, high)}}. `names` are those of the axes."""
    xs = sorted({x for points in curves.values() for x in points})
    bottom = HEIGHT - BOTTOM - 24
    place_x, _ = _scale(xs, CURVES_LEFT, WIDTH - CURVES_RIGHT)
    every = [each for points in curves.values() for point in points.values() for each in point]
    place_y, ticks = _scale(every, bottom, TOP + 20)
    lines = _open(title, note, HEIGHT)
    for x in xs:
        lines.append(f'<path d="M{place_x(x):.1f} {TOP}V{bottom}" stroke="#eee"/>')
        lines.append(_text(place_x(x), bottom + 18, f"{x:g}", text_anchor="middle", fill="#666"))
    for tick in ticks:
        y = place_y(tick)
        lines.append(f'<path d="M{CURVES_LEFT} {y:.1f}H{WIDTH - CURVES_RIGHT}" stroke="#ddd"/>')
        lines.append(_text(CURVES_LEFT - 8, y + 4, f"{tick:g}", text_anchor="end", fill="#666"))
    lines.append(_text((CURVES_LEFT + WIDTH - CURVES_RIGHT) / 2, bottom + 38, names[0],
                       text_anchor="middle", fill="#666"))
    lines.append(_text(CURVES_LEFT - 8, TOP + 2, names[1], text_anchor="end", fill="#666"))
    labels = _apart({name: place_y(points[max(points)][1]) for name, points in curves.items()})
    for colour, (name, points) in zip(COLOURS, curves.items()):
        path = " ".join(
            f"{place_x(x):.1f},{place_y(point[1]):.1f}" for x, point in sorted(points.items())
        )
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, (low, middle, high) in points.items():
            lines.append(
                f'<path d="M{place_x(x):.1f} {place_y(low):.1f}V{place_y(high):.1f}"'
                f' stroke="{colour}"/>'
            )
            lines.append(
                f'<circle cx="{place_x(x):.1f}" cy="{place_y(middle):.1f}" r="3.5" fill="{colour}"/>'
            )
        lines.append(_text(WIDTH - CURVES_RIGHT + 12, labels[name] + 4, name, fill=colour))
    lines.append("</svg>")
    return "\n".join(lines) + "\n"
