"""The YAML that hydra writes, its references, and errors that name the line."""

import math
import random
import unittest

from df_export import ExportError, yaml
from df_export.hydra import Config

from .support import CHECKPOINTS, VECTOR_RUNS, VIDEO_RUNS

READ = {
    "": None,
    "a: 1\nb: -2.5\nc: 1e-3\nd: 4.1014933e-05\ne: .5\nf: 1_000\n": {
        "a": 1,
        "b": -2.5,
        "c": 0.001,
        "d": 4.1014933e-05,
        "e": 0.5,
        "f": 1000,
    },
    "a: null\nb: ~\nc:\nd: true\ne: False\nf: .inf\n": {
        "a": None,
        "b": None,
        "c": None,
        "d": True,
        "e": False,
        "f": math.inf,
    },
    "a:\n- 1\n- x y\nb:\n  - - 1\n    - 2\n  - c: 3\n    d: {}\n  -\n    e: []\n": {
        "a": [1, "x y"],
        "b": [[1, 2], {"c": 3, "d": {}}, {"e": []}],
    },
    "a: [1, [x, 'y, z'], {b: 2, \"c\": , d: [ ]}]\n": {"a": [1, ["x", "y, z"], {"b": 2, "c": None, "d": []}]},
    "a: [${b.c}, ${d}]\nb: ${e}/x\n": {"a": ["${b.c}", "${d}"], "b": "${e}/x"},
    "a: 'it''s: #1'\nb: \"q\\u00e9\\n\\\"\"\n'k: 1': 'null'\n": {
        "a": "it's: #1",
        "b": 'qé\n"',
        "k: 1": "null",
    },
    "a: 'one\n  two\n\n  three'\nb: \"one \\\n  \\ two\"\n": {"a": "one two\nthree", "b": "one  two"},
    "a: long text\n  goes on\nb: http://x.y/#z\n": {"a": "long text goes on", "b": "http://x.y/#z"},
    "# hydra\n---\n\na: ??? # given later\n# end\nb:\n  # more\n  c: 1\n": {"a": "???", "b": {"c": 1}},
    "- 1\n- a: 2\n": [1, {"a": 2}],
}
REFUSED = {
    "a: 1\nb: &x 2\n": "line 2: & is not read",
    "a: *x\n": "line 1: * is not read",
    "a: !!python/object:os.system x\n": "line 1: ! is not read",
    "a:\n  b: |\n    text\n": "line 2: | is not read",
    "a: 1\n\tb: 2\n": "line 2: indented by a tab",
    "a: 1\n---\nb: 2\n": "line 2: another document",
    "a: 1\na: 2\n": "line 2: a is there twice",
    "a: 1\n  b: 2\n": "line 2: a colon inside",
    "a:\n  b: 1\n c: 2\n": "line 3: expected",
    "a: [1, 2\nb: 3\n": "line 1: the bracket is not closed",
    "a: {b: 1]\n": "line 1: expected",
    "a: [1] x\n": "line 1: unexpected 'x'",
    "a: 'open\nb: 1\n": "line 1: the quote ' is not closed",
    'a: "\\q"\n': "line 1: a backslash",
    "a: 1\nwords\n": "line 2: expected `key: value`",
    "a: " + "[" * 60 + "]" * 60: "line 1: nested more than 50",
    "? a\n: 1\n": "line 1: ? is not read",
}


class Yaml(unittest.TestCase):
    def test_what_is_read(self) -> None:
        for text, value in READ.items():
            with self.subTest(text=text):
                self.assertEqual(yaml.load(text), value)

    def test_what_is_refused(self) -> None:
        for text, words in REFUSED.items():
            with self.subTest(text=text), self.assertRaises(ExportError) as caught:
                yaml.load(text)
            self.assertIn(words, str(caught.exception))

    def test_damaged_text_is_read_or_refused(self) -> None:
        text = (CHECKPOINTS / "planning_main/.hydra/config.as_written.yaml").read_text()
        drawn = random.Random(1)
        for _ in range(300):
            damaged = list(text)
            for _ in range(drawn.randint(1, 4)):
                place, some = drawn.randrange(len(damaged)), "[]{}:,-'\"#\n \t&*!|>%@\\$"
                damaged[place] = drawn.choice(some)
            try:
                yaml.load("".join(damaged))
            except ExportError as error:
                self.assertRegex(str(error), r"^line \d+: ")


class References(unittest.TestCase):
    def test_both_files_of_a_run_say_the_same(self) -> None:
        for run in VECTOR_RUNS + VIDEO_RUNS:
            plain, written = (
                Config((CHECKPOINTS / run / ".hydra" / name).read_text())
                for name in ("config.yaml", "config.as_written.yaml")
            )
            # A reference to nothing is text in the first file, where it stands for nothing as well.
            for key in plain.get("algorithm.diffusion"):
                place = f"algorithm.diffusion.{key}"
                self.assertEqual(plain.get(place), written.get(place))
            for place in ("frame_stack", "x_shape", "lr", "data_mean", "metadata", "context_frames"):
                place = f"algorithm.{place}"
                self.assertEqual(plain.get(place, "nothing"), written.get(place, "nothing"))

    def test_references_are_followed_where_one_looks(self) -> None:
        config = Config(
            "a: ${b.c}\nb: {c: 4, d: '${a}${a}/x', e: '${b.f}', f: ${g}}\ng: [1, '${a}']\nh: ${no.where}\n"
            "i: ???\nj: ${i}\nk: ${l}\nl: ${k}\nm: ${oc.env:HOME}\nn: x${h}\no: ${b}\n"
            + "".join(f"r{i}: '{f'${{r{i + 1}}}' * 9}'\n" for i in range(15))
            + "r15: x\n"
        )
        self.assertEqual(config.get("a"), 4)
        self.assertEqual(config.get("b.d"), "44/x")
        self.assertEqual(config.get("b.e"), [1, 4])
        self.assertEqual(config.get("o.e.1"), 4)
        for place, words in {
            "h": "refers to no.where, which is missing",
            "i": "has to be given, found ???",
            "j": "refers to i, which has to be given",
            "k": "circle",
            "m": "refers to oc.env:HOME",
            "n": "refers to",
            "q": "is missing",
            "r0": "more than 1000 references",
            "a.x": "is missing",
        }.items():
            self.assertEqual(config.get(place, 7), 7)
            with self.assertRaises(ExportError) as caught:
                config.get(place)
            self.assertIn(words, str(caught.exception))

    def test_a_list_at_the_top_is_refused(self) -> None:
        with self.assertRaises(ExportError):
            Config("- a\n")
