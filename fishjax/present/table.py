"""A table and the three ways it is written: Markdown, LaTeX (booktabs) and CSV.

Numbers are rounded for people in the first two and kept whole in the third. Text is hostile until
it is escaped: names of arms and species come from folders and command lines.
"""

import csv
import io
import math
import re
import unicodedata
from dataclasses import dataclass

from fishjax.present.wording import Interval, Quantity, bounds, plain

MARKDOWN = re.compile(r"([\\`*\[\]|~$])")
LONE_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
NUMERIC = re.compile(r"[+-]?\d+(\.\d+)?")

LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "\N{NO-BREAK SPACE}": "{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{c: "\\" + c for c in "&%$#_"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"},
    **{"`": r"\textasciigrave{}", '"': "{''}"},
    **{"–": "{--}", "—": "{---}", "…": r"\ldots{}"},
    **{"‘": "{`}", "’": "{'}", "“": "{``}", "”": "{''}"},
    **{"−": "$-$", "±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$", "∞": r"$\infty$"},
    **{"≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$", "→": r"$\rightarrow$", "µ": r"$\mu$"},
    **{"Δ": r"$\Delta$", "δ": r"$\delta$", "ε": r"$\epsilon$", "γ": r"$\gamma$", "μ": r"$\mu$"},
    **{"α": r"$\alpha$", "β": r"$\beta$", "σ": r"$\sigma$", "λ": r"$\lambda$", "°": r"$^{\circ}$"},
    **{c: f"$^{{{d}}}$" for c, d in zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-", strict=True)},
    **{c: f"$_{{{d}}}$" for c, d in zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True)},
}

NOT_IN_T1 = "ĦħĸĿŀŉŦŧ"


@dataclass(frozen=True)
class Number:
    """A cell that is a measured number, with its interval where it has one.

    n: how many runs it is the mean of, `of` so many that were run; people are told where it is
    fewer.
    """

    value: float | None
    kind: Quantity
    interval: Interval = None
    n: int | None = None
    of: int | None = None


Cell = str | int | Number


@dataclass(frozen=True)
class Column:
    """key: the heading in CSV. title: the heading for people.

    prose: running text, set in a paragraph of this share of the line; 0 for short cells.
    estimate: CSV gives the ends of the interval columns of their own, `key_low` and `key_high`.
    counted: CSV gives the number's runs a column, `key_n`.
    units: the unit stands in each cell, for columns whose rows differ in kind.
    """

    key: str
    title: str
    prose: float = 0.0
    estimate: bool = False
    counted: bool = False
    units: bool = False


@dataclass(frozen=True)
class Table:
    """name: the stem of its files and the end of its LaTeX label."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"{self.name!r} cannot name a table")
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.name}: {len(row)} cells for {len(self.columns)} columns")

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold no text, `[column]`; they are set flush right."""
        return tuple(
            not any(isinstance(row[i], str) for row in self.rows) for i in range(len(self.columns))
        )

    @property
    def texts(self) -> list[list[str]]:
        """Every cell as people read it, not escaped, `[row][column]`."""
        return [
            [_text(cell, column) for cell, column in zip(row, self.columns, strict=True)]
            for row in self.rows
        ]

    def write(self, form: str) -> str:
        """The table as `md`, `tex` or `csv`."""
        return WRITERS[form](self)


def markdown(table: Table) -> str:
    """The caption and a pipe table. HTML, pipes and emphasis in text are made harmless."""
    head = [_markdown(column.title) for column in table.columns]
    rule = ["--:" if numeric else ":--" for numeric in table.numeric]
    body = [
        [
            _markdown(text) if isinstance(cell, str) else text
            for cell, text in zip(row, texts, strict=True)
        ]
        for row, texts in zip(table.rows, table.texts, strict=True)
    ]
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, rule, *body)]
    return "\n".join([_markdown(table.caption), "", *lines, ""])


def latex(table: Table) -> str:
    r"""A `table` float, shrunk to the line where it is wider.

    It needs `booktabs`, `graphicx` and `[T1]{fontenc}`. Symbols become mathematics; a letter that
    the T1 fonts lack is written as its code point (`U+9C7C`), so that every engine compiles it.
    """
    alignment = "".join(
        f"p{{{column.prose}\\linewidth}}" if column.prose else "r" if numeric else "l"
        for column, numeric in zip(table.columns, table.numeric, strict=True)
    )
    head = [column.title for column in table.columns]
    lines = [
        " & ".join(map(_latex_cell, cells, table.columns)) + r" \tabularnewline"
        for cells in (head, *table.texts)
    ]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\small\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{escape_latex(table.caption)}}}",
            rf"\label{{tab:{table.name}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


def comma_separated(table: Table) -> str:
    """CSV with whole numbers, empty where not measured; text never starts a spreadsheet formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([key for column in table.columns for key in _keys(column)])
    for row in table.rows:
        writer.writerow(
            [
                value
                for cell, column in zip(row, table.columns, strict=True)
                for value in _values(cell, column)
            ]
        )
    return buffer.getvalue()


def escape_latex(text: str) -> str:
    """`text` so that LaTeX prints it as it is, without ligatures.

    A no-break space, which `plain` leaves nowhere, marks where a ligature is broken.
    """
    characters = unicodedata.normalize("NFC", plain(text))
    unligatured = re.sub(r"([-',])(?=\1)", "\\1\N{NO-BREAK SPACE}", characters)
    return "".join(map(_latex_character, unligatured))


def _text(cell: Cell, column: Column) -> str:
    if isinstance(cell, Number):
        text = cell.kind.estimate(cell.value, cell.interval)
        few = f" ({cell.n} of {cell.of})" if cell.n and cell.n != cell.of else ""
        return (cell.kind.with_unit(text) if column.units else text) + few
    return plain(str(cell))


def _markdown(text: str) -> str:
    escaped = MARKDOWN.sub(r"\\\1", plain(text).translate(HTML))
    return LONE_UNDERSCORE.sub(r"\\_", escaped)


def _latex_cell(text: str, column: Column) -> str:
    """Escaped; an opening `[` or `*` would be read as an argument of the row's end before it."""
    escaped = escape_latex(text)
    guarded = "{}" + escaped if escaped.startswith(("[", "*")) else escaped
    return r"\raggedright " + guarded if column.prose else guarded


def _latex_character(c: str) -> str:
    if c in LATEX:
        return LATEX[c]
    if c.isascii() or ("¡" <= c <= "ž" and c not in NOT_IN_T1):
        return c
    return rf"\texttt{{U+{ord(c):04X}}}"


def _keys(column: Column) -> list[str]:
    ends = [f"{column.key}_low", f"{column.key}_high"] if column.estimate else []
    return [column.key, *ends, *[f"{column.key}_n"] * column.counted]


def _values(cell: Cell, column: Column) -> list[str | float]:
    if not isinstance(cell, Number):
        text = harmless(cell) if isinstance(cell, str) else cell
        return [text, *[""] * (len(_keys(column)) - 1)]
    numbers = [
        *(cell.value, *(bounds(cell.interval) if column.estimate else ())),
        *[cell.n] * column.counted,
    ]
    return ["" if x is None or math.isnan(x) else x for x in numbers]


def harmless(text: str) -> str:
    """Text that a spreadsheet shows instead of computing (OWASP, CSV injection)."""
    text = plain(text)
    return "'" + text if text.startswith(FORMULA) and not NUMERIC.fullmatch(text) else text


WRITERS = {"md": markdown, "tex": latex, "csv": comma_separated}
