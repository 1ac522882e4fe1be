"""Sections of sentences and equations, as text, as Markdown and as a LaTeX document."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field

from cymlp._notation import escaped

__all__ = ["Line", "Section", "as_latex", "as_markdown", "as_text"]

_WIDTH = 100

_PREAMBLE = r"""\documentclass{article}
\usepackage{iftex}
\iftutex\usepackage{fontspec}\else\usepackage[T1]{fontenc}\fi
\usepackage{amsmath}
\usepackage[margin=2cm]{geometry}
\setlength{\parindent}{0pt}
\setlength{\parskip}{3pt}
\relpenalty=0 \binoppenalty=0 \sloppy
\newcommand{\working}[1]{\par\hangindent=2em\hangafter=1 $#1$}
\allowdisplaybreaks
\begin{document}
"""


#: A string is a sentence; a list has the sides of an equation, from left to right.
Line = str | list[str]


@dataclass
class Section:
    """A heading and what stands below it.

    Attributes
    ----------
    title : str
    level : int
        1 or 2; sections of level 2 are parts of the one of level 1 before them.
    lines : list of Line
    """

    title: str
    level: int = 1
    lines: list[Line] = field(default_factory=list)


def as_text(sections: Iterable[Section]) -> str:
    """Return plain text; long lines go on below, further in."""
    blocks = []
    for section in sections:
        indent = "  " if section.level == 2 else ""
        lines = [section.title]
        if section.level == 1:
            lines.append("=" * len(section.title))
        for line in section.lines:
            text = line if isinstance(line, str) else " = ".join(line)
            lines += textwrap.wrap(
                text,
                _WIDTH,
                initial_indent=indent,
                subsequent_indent=indent + "    ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        blocks.append("\n".join(lines).replace("\xa0", " "))
    return "\n\n".join(blocks)


def as_markdown(sections: Iterable[Section]) -> str:
    """Return Markdown with TeX math."""
    lines = []
    for section in sections:
        lines.append(f"{'#' * (section.level + 1)} {_in_markdown(section.title)}")
        for line in section.lines:
            lines.append(_in_markdown(line) if isinstance(line, str) else f"${' = '.join(line)}$")
    return "\n\n".join(lines) + "\n"


def _in_markdown(text: str) -> str:
    """Return text in which nothing is markup."""
    return re.sub(r"([\\`*_<>$~|])", r"\\\1", text)


def as_latex(sections: Iterable[Section]) -> str:
    """Return a LaTeX document."""
    lines = [_PREAMBLE]
    for section in sections:
        command = "section*" if section.level == 1 else "subsection*"
        lines.append(rf"\{command}{{{escaped(section.title)}}}")
        for line in section.lines:
            if isinstance(line, str):
                lines.append(rf"\par {escaped(line)}")
            else:
                lines.append(rf"\working{{{' = '.join(line)}}}")
    return "\n".join([*lines, r"\end{document}", ""])
