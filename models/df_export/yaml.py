"""Reads YAML as far as hydra writes it.

That is: block mappings and block lists, scalars (plain, in single or in double quotes, also over
several lines), `[...]` and `{...}` on one line, comments. All else (anchors, tags, `|` and `>`
blocks, tabs, several documents) is an error that names the line.
"""

import re

from .errors import ExportError

DEEPEST = 50  # levels of nesting
INTEGER = re.compile(r"[-+]?[0-9][0-9_]*\Z")
FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:e[-+]?[0-9]+)?|[0-9][0-9_]*e[-+]?[0-9]+|\.[0-9]+(?:e[-+]?[0-9]+)?)\Z",
    re.IGNORECASE,
)
WORDS = {"": None, "~": None, "null": None, "true": True, "yes": True, "on": True}
WORDS |= {"false": False, "no": False, "off": False, ".nan": float("nan")}
WORDS |= {".inf": float("inf"), "+.inf": float("inf"), "-.inf": float("-inf")}
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "e": "\x1b", "a": "\a", "b": "\b"}
ESCAPES |= {"v": "\v", "f": "\f", " ": " ", '"': '"', "\\": "\\", "/": "/"}
ESCAPES |= {"N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029"}
KEY = re.compile(
    r"""('(?:[^']|'')*'|"(?:[^"\\]|\\.)*"|[^\s'"\[\]{},#&*!|>%@`?:-][^#]*?|-[^\s#][^#]*?)\s*:(?:\s+|\Z)"""
)


def load(text: str) -> object:
    """The document: dicts, lists, text, numbers, true, false, None. Keys are text."""
    reader = Reader(text)
    value = reader.block(0, 0) if reader.lines else None
    if reader.lines:
        reader.fail("expected the end of the document or an entry of the same indentation")
    return value


def scalar(text: str) -> object:
    """What a plain scalar means."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    if INTEGER.match(text):
        return int(text.replace("_", "")) if len(text) < 100 else text
    if FLOAT.match(text):
        return float(text.replace("_", ""))
    return text


class Reader:
    """Takes lines from the front of a list: (number, indentation, content)."""

    def __init__(self, text: str):
        self.lines: list[tuple[int, int, str]] = []  # a blank line has content ""
        self.last = 0
        for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
            content = line.strip(" ")
            self.last = number
            if content == "---" and not any(c and c[0] != "#" for _, _, c in self.lines):
                continue
            if "\t" in line[: len(line) - len(line.lstrip())]:
                raise ExportError(f"line {number}: indented by a tab")
            if line.startswith("---"):
                raise ExportError(f"line {number}: another document")
            self.lines.append((number, len(line) - len(line.lstrip(" ")), content))
        self.skip()

    def fail(self, what: str) -> None:
        number = self.lines[0][0] if self.lines else self.last
        raise ExportError(f"line {number}: {what}")

    def skip(self) -> None:
        """Drops blank lines and comments at the front."""
        while self.lines and (not self.lines[0][2] or self.lines[0][2].startswith("#")):
            self.lines.pop(0)

    def block(self, least: int, depth: int) -> object:
        """The value that starts with the next line, if that is indented by `least` or more."""
        if depth > DEEPEST:
            self.fail(f"nested more than {DEEPEST} deep")
        if not self.lines or self.lines[0][1] < least:
            return None
        _, indent, content = self.lines[0]
        if content == "-" or content.startswith("- "):
            return self.sequence(indent, depth)
        if KEY.match(content):
            return self.mapping(indent, depth)
        return self.value(least, depth)

    def sequence(self, indent: int, depth: int) -> list:
        items = []
        while self.lines and self.lines[0][1] == indent and re.match(r"-( |\Z)", self.lines[0][2]):
            number, _, content = self.lines[0]
            rest = content[1:].lstrip(" ")
            if not rest or rest.startswith("#"):
                self.lines.pop(0)
                self.skip()
                items.append(self.block(indent + 1, depth + 1))
            else:  # what follows the dash is a block of its own, indented by its place
                self.lines[0] = (number, indent + len(content) - len(rest), rest)
                items.append(self.block(indent + 1, depth + 1))
        return items

    def mapping(self, indent: int, depth: int) -> dict:
        items: dict[str, object] = {}
        while self.lines and self.lines[0][1] == indent:
            number, _, content = self.lines[0]
            match = KEY.match(content)
            if not match:
                self.fail("expected `key: value`")
            key = match[1]
            if key[0] in "'\"":
                key = Flow(key, self.fail).quoted()
            if key in items:
                self.fail(f"{key} is there twice")
            rest = content[match.end() :]
            if not rest or rest.startswith("#"):
                self.lines.pop(0)
                self.skip()
                # A list may stand as far left as its key.
                dash = self.lines and re.match(r"-( |\Z)", self.lines[0][2])
                items[key] = self.block(indent if dash else indent + 1, depth + 1)
            else:
                self.lines[0] = (number, indent + 1, rest)
                items[key] = self.value(indent + 1, depth + 1)
        return items

    def value(self, least: int, depth: int) -> object:
        """A scalar or a flow collection that starts here; lines further right may continue it."""
        _, _, text = self.lines[0]
        if text[0] in "&*!|>%@`" or text.startswith("? "):
            self.fail(f"{text[0]} is not read here (plain YAML as hydra writes it is)")
        if text[0] not in "'\"[{":
            text = self.plain(least)
            self.skip()
            return scalar(text)
        if text[0] in "'\"":
            text = self.joined(least)
        flow = Flow(text, self.fail, depth)
        result = flow.value()
        rest = text[flow.at :].lstrip(" ")
        if rest and not rest.startswith("#"):
            self.fail(f"unexpected {rest[:20]!r} after the value")
        self.lines.pop(0)
        self.skip()
        return result

    def plain(self, least: int) -> str:
        """A plain scalar, lines joined by spaces, comments cut off."""
        words = []
        while self.lines and (not words or self.lines[0][1] >= least):
            text = self.lines[0][2]
            if not text or text.startswith("#"):
                break
            cut = re.split(r"\s#", text, maxsplit=1)[0].rstrip()
            if re.search(r":(\s|\Z)", cut):
                self.fail("a colon inside a plain value needs quotes")
            words.append(cut)
            self.lines.pop(0)
        return " ".join(words)

    def joined(self, least: int) -> str:
        """The lines of a quoted scalar as one: a break is a space, n blank lines are n breaks."""
        quote, text = self.lines[0][2][0], self.lines[0][2]
        closed = re.compile(r"'(?:[^']|'')*'" if quote == "'" else r'"(?:[^"\\]|\\.)*"', re.DOTALL)
        breaks = 0
        while not closed.match(text):
            if len(self.lines) < 2:
                self.fail(f"the quote {quote} is not closed")
            number, indent, more = self.lines.pop(1)
            if not more:
                breaks += 1
                continue
            if indent < least:
                self.fail(f"the quote {quote} is not closed")
            if quote == '"' and re.search(r"(?<!\\)(\\\\)*\\\Z", text):
                text = text[:-1] + more  # the break is escaped
            else:
                text += ("\n" * breaks if breaks else " ") + more
            breaks = 0
        return text


class Flow:
    """A quoted scalar, `[...]` or `{...}` in a text."""

    def __init__(self, text: str, fail, depth: int = 0):
        self.text, self.at, self.fail, self.depth = text, 0, fail, depth

    def peek(self) -> str:
        while self.text[self.at : self.at + 1] == " ":
            self.at += 1
        if self.at >= len(self.text):
            self.fail("the bracket is not closed on its line")
        return self.text[self.at]

    def value(self) -> object:
        start = self.peek()
        if start in "[{":
            return self.collection("]" if start == "[" else "}")
        if start in "'\"":
            return self.quoted()
        return scalar(self.plain(",]}"))

    def plain(self, ends: str) -> str:
        begin = self.at
        inside = 0  # ${...} may hold commas and braces
        while self.at < len(self.text):
            if self.text.startswith("${", self.at):
                inside += 1
            elif inside and self.text[self.at] == "}":
                inside -= 1
            elif not inside and self.text[self.at] in ends:
                break
            self.at += 1
        text = self.text[begin : self.at].strip(" ")
        if text[:1] in ("&", "*", "!", "|", ">", "%", "@", "`", "#"):
            self.fail(f"{text[0]} is not read here (plain YAML as hydra writes it is)")
        return text

    def collection(self, end: str) -> object:
        self.depth += 1
        if self.depth > DEEPEST:
            self.fail(f"nested more than {DEEPEST} deep")
        self.at += 1
        items: list = []
        pairs: dict = {}
        while self.peek() != end:
            if end == "}":
                key = self.quoted() if self.peek() in "'\"" else self.plain(":,}")
                if self.peek() != ":" or key in pairs:
                    self.fail("expected {key: value, ...} with different keys")
                self.at += 1
                pairs[key] = None if self.peek() in ",}" else self.value()
            else:
                items.append(self.value())
            if self.peek() not in "," + end:
                self.fail(f"expected , or {end}")
            if self.peek() == ",":
                self.at += 1
        self.at += 1
        self.depth -= 1
        return pairs if end == "}" else items

    def quoted(self) -> str:
        quote, self.at = self.text[self.at], self.at + 1
        parts = []
        while self.at < len(self.text):
            c, self.at = self.text[self.at], self.at + 1
            if c == quote == "'" and self.text[self.at : self.at + 1] == "'":
                self.at += 1
            elif c == quote:
                return "".join(parts)
            elif c == "\\" and quote == '"':
                c = self.escape()
            parts.append(c)
        self.fail(f"the quote {quote} is not closed")
        return ""

    def escape(self) -> str:
        c, self.at = self.text[self.at : self.at + 1], self.at + 1
        digits = {"x": 2, "u": 4, "U": 8}.get(c)
        if digits:
            code, self.at = self.text[self.at : self.at + digits], self.at + digits
            if re.fullmatch("[0-9a-fA-F]{%d}" % digits, code) and int(code, 16) <= 0x10FFFF:
                return chr(int(code, 16))
        elif c in ESCAPES and c:
            return ESCAPES[c]
        self.fail("a backslash before what it cannot escape")
        return ""
