"""The frame of the report: one HTML page with its own style, no script and no network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #ffffff; --soft: #f1f2f4;
  --line: #d5d7db; --dim: #5c6068; --good: #00795a; --bad: #c04a00; --even: #8a8f98; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8ea; --paper: #16181c; --soft: #22252b;
  --line: #3a3e46; --dim: #a3a8b1; --good: #3cc79b; --bad: #ff9152; --even: #7d838d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
p, li { max-width: 44rem; }
.dim { color: var(--dim); font-size: .875rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .6rem; }
.tile { background: var(--soft); border-radius: .5rem; padding: .6rem .8rem; }
.tile b { display: block; font-size: 1.4rem; line-height: 1.3; }
.beside { display: grid; gap: 1rem 2rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
.tile, td { font-variant-numeric: tabular-nums; }
th { white-space: normal; overflow-wrap: normal; vertical-align: bottom; }
.good { color: var(--good); } .bad { color: var(--bad); } .even { color: var(--even); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0; }
dt { color: var(--dim); } dd { margin: 0; }
img { width: 100%; max-width: 34rem; height: auto; display: block; border-radius: .5rem;
  background: #fff; }
.layer { margin: .7rem 0; }
.head { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 1rem; }
.head > span { color: var(--dim); font-size: .875rem; }
.bar { display: grid; grid-template-columns: 6.2rem 1fr 3.6rem; gap: .4rem; align-items: center;
  font-size: .8125rem; line-height: 1.35; }
.bar .track { position: relative; height: .75rem; background: var(--soft); border-radius: 2px; }
.bar .track::after { content: ""; position: absolute; left: 50%; top: -1px; bottom: -1px;
  border-left: 1px solid var(--ink); }
.bar i { position: absolute; top: 0; bottom: 0; border-radius: 2px; }
.bar i.good { background: var(--good); } .bar i.bad { background: var(--bad); }
.bar i.even { background: var(--even); }
.bar > :last-child { text-align: right; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; width: fit-content; max-width: 100%; border: 1px solid var(--line);
  border-radius: .5rem; }
table { border-collapse: collapse; font-size: .8125rem; white-space: nowrap; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0;
  background: var(--paper); }
details { margin: .6rem 0; } summary { cursor: pointer; font-weight: 600; padding: .3rem 0; }
.alarm { border-left: 4px solid var(--bad); padding: .3rem .8rem; background: var(--soft); }
"""


def page(title: str, body: str) -> str:
    """A whole page; `body` is HTML."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def facts(pairs: dict[str, str]) -> str:
    """Names and what they are, in two columns."""
    inner = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in pairs.items())
    return f"<dl>{inner}</dl>"


# A cell is its text, or its text and a class of the style above.
Cell = str | tuple[str, str]


def _cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return f"<td>{escape(cell)}</td>"
    text, kind = cell
    return f'<td class="{kind}">{escape(text)}</td>'


def table(headings: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """A table that scrolls within itself on narrow screens; its first column stays."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>\n{body}</table></div>'


def beside(*parts: str) -> str:
    """Parts next to each other where the screen is wide enough, else one below the other."""
    return f'<div class="beside">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def section(title: str, *parts: str) -> str:
    return f"<h2>{escape(title)}</h2>\n" + "\n".join(parts)


def folded(title: str, *parts: str, opened: bool = False) -> str:
    """A section that opens when its title is touched."""
    state = " open" if opened else ""
    inner = "\n".join(parts)
    return f"<details{state}><summary>{escape(title)}</summary>\n{inner}\n</details>"
