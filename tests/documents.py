"""The documents of this repository, and the code in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from sybil import Document, Region, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


class Block(NamedTuple):
    """A block of code, in a language, at a line."""

    language: str
    source: str
    line: int

    @property
    def file(self) -> str | None:
        """The name of the file that it is, where its first line is a comment that says so."""
        first = self.source.partition("\n")[0].removeprefix("# ")
        return first if first.endswith((".py", ".toml")) and " " not in first else None


def blocks_of(page: Path) -> list[Block]:
    """Return all fenced blocks of code of a page that name a language, in order."""
    document = Document(page.read_text(), str(page))
    return [
        Block(
            region.lexemes["language"],
            str(region.lexemes["source"]),
            document.text.count("\n", 0, region.start) + 1,
        )
        for region in FencedCodeBlockLexer(r"\w+")(document)
    ]


def run_python(page: Path, module: ModuleType) -> int:
    """Run a page's blocks of Python in order, as if they were the module's source.

    Returns their number. Raises what the first that fails raises, with the page and the line
    in its traceback.
    """
    document = Sybil(parsers=[_python]).parse(page)
    document.namespace = vars(module)
    examples = list(document.examples())
    for example in examples:
        example.evaluate()
    return len(examples)


def _python(document: Document) -> Iterator[Region]:
    for region in FencedCodeBlockLexer("python")(document):
        region.parsed, region.evaluator = region.lexemes["source"], PythonEvaluator()
        yield region
