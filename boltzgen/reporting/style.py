"""How a report looks: on a wide window, on a narrow one, and on paper."""

from __future__ import annotations

__all__ = ["PAGE", "STYLE"]

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; break-after: avoid; }
.verdict { border-left: .5rem solid; padding: .7rem 1rem; background: #f5f5f5; }
.verdict.green { border-color: #00735a; }
.verdict.amber { border-color: #e69f00; }
.verdict.red { border-color: #b3261e; }
.light { display: inline-block; min-width: 3.6rem; border-radius: .3rem; text-align: center; font-size: .85rem;
  color: #fff; }
.light.green { background: #00735a; }
.light.amber { background: #e69f00; color: #1b1b1b; }
.light.red { background: #b3261e; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .35rem 1rem .35rem 0; border-bottom: 1px solid #ddd; }
td.number { white-space: nowrap; }
.quiet { color: #555; }
figure { margin: 1.2rem 0; break-inside: avoid; }
.beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 0 1.5rem; }
figure img { max-width: 100%; height: auto; }
pre { background: #f5f5f5; padding: .7rem 1rem; overflow-x: auto; font-size: .8rem; line-height: 1.35; }
pre.command { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .9rem; }
summary { cursor: pointer; }
@media screen and (max-width: 44rem) {
  thead { display: none; }
  tr { display: block; padding: .4rem 0; border-bottom: 1px solid #ddd; }
  td, td.number { display: block; padding: .1rem 0; border: 0; white-space: normal; overflow-wrap: anywhere; }
  td:first-child { font-weight: 600; }
  thead + tbody td:not(:first-child)::before { content: attr(data-label) ": "; color: #555; }
  .beside { display: block; }
  figure { overflow-x: auto; }
  figure img.wide { max-width: none; width: 36rem; }
  figcaption { position: sticky; left: 0; }
}
@page { margin: 15mm; }
@media print {
  body { margin: 0; padding: 0; max-width: none; font-size: 9.5pt; }
  th, td { padding: .2rem .6rem .2rem 0; }
  h2 { margin-top: 1.4rem; }
  span.light.light { border: 1px solid #555; color: #1b1b1b; background: none; }
  .verdict, pre { border: 1px solid #999; background: none; }
  .verdict { border-left: .5rem solid; }
  .scroll { overflow: visible; }
  .beside { grid-template-columns: 1fr 1fr; }
  tr, figure, pre { break-inside: avoid; }
  figure img { max-height: 11cm; }
  details { display: none; }
}
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p class="verdict {status}"><strong>{word}</strong>: {headline}</p>
{sections}
</body>
</html>
"""
