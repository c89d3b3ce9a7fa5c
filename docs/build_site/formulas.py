"""Typesets the formula of a method, which is plain text in the code, as HTML with MathML.

Such a text is a formula, then what its letters mean: `B + t mean_i (X_i - B), t = n c / (1 + (n-1) c)`.  Words stay
words.  A fraction line takes the factor before and after it; before or after a sum, the whole product.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

TOKEN = re.compile(
    r"\s*(?:(?P<word>[A-Za-z]{2,}(?:-[A-Za-z]{2,})*(?:_(?:\w+|\([^)]*\)))?)"
    r"|(?P<name>[A-Za-z](?:_(?:\w+|\([^)]*\)))?)|(?P<number>\d+(?:\.\d+)?)"
    r"|(?P<sign>\.\.\.|>=|<=|[-+=/^|()\[\],;:<>.]))"
)
NEXT_CLAUSE = re.compile(r"; |, (?=[A-Za-z](?:_\w+)?(?: =| the |:)|\[.* =)")
LETTERS = {"lambda": "λ", "epsilon": "ε", "gamma": "γ", "alpha": "α"}  # noqa: RUF001
SIGNS = {"-": "−", ">=": "≥", "<=": "≤", "...": "…"}  # noqa: RUF001
LARGE = {"sum": "∑", "mean": "mean"}


@dataclass(frozen=True)
class Token:
    """A piece of the text; `kind` is "word", "name", "number" or "sign"."""

    kind: str
    text: str
    glued: bool  # to the piece before it
    opens: bool  # not followed by a blank


def typeset(formula: str) -> str:
    """The formula in a line of its own, and a list of what its letters mean."""
    first, *others = clauses(formula)
    rows = "".join(f"<li>{clause(one)}</li>" for one in others)
    notes = f'<ul class="where">{rows}</ul>' if rows else ""
    return f'<div class="formula">{clause(first)}</div>{notes}'


def clauses(formula: str) -> list[str]:
    """The parts of the text; what stands between square brackets is never parted."""
    starts, found = 0, []
    for match in NEXT_CLAUSE.finditer(formula):
        before = formula[: match.start()]
        if before.count("[") == before.count("]"):
            found.append(formula[starts : match.start()])
            starts = match.end()
    return [*found, formula[starts:]]


def clause(text: str) -> str:
    """Words as text, and what is between them as mathematics."""
    written = ""
    run: list[Token] = []
    tokens = [*tokens_of(text)]
    for place, token in enumerate(tokens):
        if is_prose(tokens, place):
            written += f" {mathematics(run)} {html.escape(token.text)}"
            run = []
        elif token.text in (",", ":") and not run:
            written += token.text
        else:
            run.append(token)
    return re.sub(" +", " ", f"{written} {mathematics(run)}").strip()


def tokens_of(text: str) -> Iterator[Token]:
    """The pieces of the text; one that cannot be read is an error."""
    place = 0
    while place < len(text):
        match = TOKEN.match(text, place)
        if not match:
            raise ValueError(f"'{text[place:].strip()}' of the formula '{text}' cannot be typeset")
        glued = match[0] == match[0].lstrip() and place > 0
        place = match.end()
        kind = match.lastgroup or ""
        yield Token(kind, match[kind], glued, place < len(text) and text[place] != " ")


def is_prose(tokens: list[Token], place: int) -> bool:
    """Whether a piece is a word outside brackets that no operator joins to its neighbours."""
    token = tokens[place]
    depth = sum((one.text in ("(", "[")) - (one.text in (")", "]")) for one in tokens[:place])
    if token.kind != "word" or depth or token.text in LETTERS or "_" in token.text:
        return False
    before = tokens[place - 1].text if place else ""
    after = tokens[place + 1] if place + 1 < len(tokens) else None
    called = after is not None and after.text == "(" and after.glued
    return not called and before not in ("+", "-", "/", ">") and not (after and after.text in ("+", "-", "/"))


def mathematics(tokens: list[Token]) -> str:
    """A run of pieces as an element of MathML, empty for none."""
    return f'<math displaystyle="true">{"".join(Reader(tokens).row())}</math>' if tokens else ""


class Reader:
    """Reads pieces from the left."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens, self.place = tokens, 0
        self.inside: dict[str, str] = {}  # of brackets that were read

    def peek(self) -> Token | None:
        return self.tokens[self.place] if self.place < len(self.tokens) else None

    def row(self, end: str = "") -> list[str]:
        """Products and what is between them, up to the sign `end` or the last piece."""
        done: list[str] = []
        product: list[str] = []
        while (token := self.peek()) and not self.ends(token, end):
            if token.text == "/":
                self.place += 1
                product = self.fraction(product, end)
            elif (token.kind == "sign" and token.text not in ("(", "[", "|", "...")) or self.divides(token):
                self.place += 1
                done += [*product, f"<mo>{html.escape(SIGNS.get(token.text, token.text))}</mo>"]
                product = []
            else:
                product.append(self.factor())
        self.place += bool(end)
        return done + product

    def ends(self, token: Token, end: str) -> bool:
        return token.text == end and (end != "|" or token.glued)

    def divides(self, token: Token) -> bool:
        """Whether a bar stands between blanks, so that it is none of an absolute value."""
        return token.text == "|" and not token.glued and not token.opens

    def fraction(self, product: list[str], end: str) -> list[str]:
        """What was read of the product, over what follows."""
        start = self.peek()
        if start and start.text.startswith("sum_"):
            below = []
            while (token := self.peek()) and not self.ends(token, end) and token.text not in "+-=,;:/":
                below.append(self.factor())
            return [fraction("".join(product), "".join(below))]
        below = [self.factor()]
        if "∑" in below[0]:
            return [fraction("".join(product), below[0])]
        bare = [self.inside.get(one, one) for one in (product[-1], below[0])]
        return [*product[:-1], fraction(*bare)]

    def factor(self) -> str:
        """One name, number, call or bracket, with its power."""
        token = self.tokens[self.place]
        self.place += 1
        made = self.bracket(token.text) if token.text in ("(", "[", "|") else symbol(token)
        following = self.peek()
        if token.kind == "word" and following and following.text == "(" and following.glued:
            self.place += 1
            call = self.bracket("(")
            named = f"<mrow>{made}{call}</mrow>"
            made = f"<msqrt>{self.inside[call]}</msqrt>" if token.text == "sqrt" else named
        elif token.kind == "word" and "_" not in token.text and token.text not in LETTERS:
            made = f"<mtext>&#8201;{token.text}&#8201;</mtext>"
        if (following := self.peek()) and following.text == "^":
            self.place += 1
            made = f"<msup>{made}{self.factor()}</msup>"
        return made

    def bracket(self, opening: str) -> str:
        closing = {"(": ")", "[": "]", "|": "|"}[opening]
        inside = "".join(self.row(closing))
        form = f'fence="true" stretchy="{str("<mfrac>" in inside).lower()}"'
        made = f"<mrow><mo {form}>{opening}</mo>{inside}<mo {form}>{closing}</mo></mrow>"
        if opening == "(":
            self.inside[made] = inside
        return made


def fraction(above: str, below: str) -> str:
    """One over the other."""
    return f"<mfrac><mrow>{above}</mrow><mrow>{below}</mrow></mfrac>"


def symbol(token: Token) -> str:
    """A name with its index, a large operator, or a number."""
    if token.kind == "number":
        return f"<mn>{token.text}</mn>"
    if token.kind == "sign":
        return f"<mo>{SIGNS.get(token.text, token.text)}</mo>"
    base, _, index = token.text.partition("_")
    if base in LARGE:
        made = f"<mo>{LARGE[base]}</mo>"
    else:
        normal = ' mathvariant="normal"' if len(base) > 1 and base not in LETTERS else ""
        made = f"<mi{normal}>{LETTERS.get(base, base)}</mi>"
    if not index:
        return made
    parts = "".join(Reader([*tokens_of(index.strip("()"))]).row())
    tag = "munder" if base in LARGE else "msub"
    return f"<{tag}>{made}<mrow>{parts}</mrow></{tag}>"
