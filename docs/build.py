"""A static site of the pages in docs/ and of every docstring, with one command.

Needs pdoc, which brings a Markdown renderer along: pip install "boltzgen-flows[docs]". Run:
    python docs/build.py [--out site]
"""

import argparse
import html
import re
import shutil
import warnings
from pathlib import Path

DOCS = Path(__file__).parent
EXTRAS = ["tables", "fenced-code-blocks", "header-ids", "cuddled-lists", "code-friendly"]
ROOMS = (
    "energies", "flows", "molecule", "coordinates", "training", "sampling", "reweighting", "reporting", "generator",
    "errors", "units",
)  # fmt: skip
STYLE = """
body { font: 16px/1.55 system-ui, sans-serif; color: #1b1b1b; margin: 0; display: flex; flex-wrap: wrap; }
nav { flex: 0 0 14rem; padding: 1.5rem; background: #f5f5f5; min-height: 100vh; box-sizing: border-box; }
nav a { display: block; padding: .15rem 0; color: #1b1b1b; text-decoration: none; }
nav a[aria-current], nav a:hover { color: #0072b2; }
main { flex: 1 1 20rem; max-width: 52rem; padding: 1rem 2rem 4rem; min-width: 0; }
a { color: #0072b2; }
pre { background: #f5f5f5; padding: .8rem 1rem; overflow-x: auto; font-size: .85rem; line-height: 1.4; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: .35rem 1rem .35rem 0; border-bottom: 1px solid #ddd; }
@media (max-width: 44rem) { nav { flex-basis: 100%; min-height: 0; } main { padding: 1rem; } }
@media print { nav { display: none; } }
"""
PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body><nav aria-label="pages">{links}</nav><main>{text}</main></body>
</html>
"""


def title(page: Path) -> str:
    """The first heading."""
    found = re.search(r"^# (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return found.group(1) if found else page.stem


def pages() -> list[Path]:
    """The pages, in the order in which the index names them, and those it forgot after them."""
    index = DOCS / "index.md"
    named = [DOCS / name for name in re.findall(r"\]\((\w+\.md)\)", index.read_text(encoding="utf-8"))]
    return [index, *named, *sorted(set(DOCS.glob("*.md")) - {index, *named})]


def relinked(text: str) -> str:
    """Links between pages as they are on the site; what lies outside docs/ is named, and not linked."""
    text = re.sub(r"\]\((\w+)\.md(#[\w-]+)?\)", r"](\1.html\2)", text)
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)]+)\)", r"\1 (`\2`)", text)


def write_pages(out: Path) -> None:
    """Every Markdown page as HTML, with links to all the others beside it."""
    from markdown2 import Markdown

    every = pages()
    for page in every:
        links = "".join(
            f'<a href="{other.stem}.html"{" aria-current=page" * (other == page)}>{html.escape(title(other))}</a>'
            for other in every
        )
        links += '<hr><a href="api/boltzgen.html">API reference</a>'
        text = Markdown(extras=EXTRAS).convert(relinked(page.read_text(encoding="utf-8")))
        shown = PAGE.format(title=html.escape(title(page)), style=STYLE, links=links, text=text)
        (out / f"{page.stem}.html").write_text(shown, encoding="utf-8")


def write_reference(out: Path) -> None:
    """A page of the public names, and one for each room, from the docstrings."""
    import pdoc

    import boltzgen

    for name in boltzgen.__all__:  # looked up when they are first used; pdoc looks at what is there
        setattr(boltzgen, name, getattr(boltzgen, name))
    pdoc.render.configure(docformat="google", show_source=False, footer_text="boltzgen")
    with warnings.catch_warnings(action="ignore"):  # annotations that only type checkers import are shown as text
        pdoc.pdoc("boltzgen", *(f"boltzgen.{room}" for room in ROOMS), output_directory=out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("site"), help="folder, made anew (default: site)")
    out: Path = parser.parse_args().out
    if out.exists() and any(out.iterdir()) and not (out / "api").is_dir():
        parser.error(f"--out must be a folder of its own; got {out}, which holds something else: name another")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    write_pages(out)
    for picture in DOCS.glob("*.png"):
        shutil.copy(picture, out)
    write_reference(out / "api")
    print(f"written: {out / 'index.html'}")


if __name__ == "__main__":
    main()
