"""Reads a pickle that torch.save wrote, without running any of it.

Python's pickle module calls whatever a pickle names. The machine here calls nothing: it knows the
few instructions that such files need, and a name in the pickle is looked up in a table (names.py).
One that is not there is an error that says which. Tensors become descriptions, checked against the
bounds of their storage; their bytes are read when they are asked for.
"""

import pickle
import struct
from typing import Callable

import torch

from .errors import ExportError
from .names import NAMES, STORAGES, Inert, Name, Storage, whole


def load(data: bytes, size_of: Callable[[str], int], read: Callable[[str], bytes]) -> object:
    """What the pickle describes. size_of, read: length and bytes of a storage by its key."""
    machine = Machine(data, size_of, read)
    try:
        return machine.run()
    except (IndexError, KeyError, TypeError, ValueError, AttributeError, struct.error) as error:
        # The ways in which the steps below fail when an instruction finds what it cannot use.
        raise ExportError(f"the pickle is damaged at byte {machine.at}") from error


class Machine:
    """A stack, the stacks below it that a mark has covered, and a memo."""

    def __init__(self, data: bytes, size_of: Callable[[str], int], read: Callable[[str], bytes]):
        self.data, self.at = data, 0
        self.size_of, self.read = size_of, read
        self.stack: list = []
        self.below: list[list] = []
        self.memo: dict[int, object] = {}

    def run(self) -> object:
        while True:
            code = self.take(1)
            if code == pickle.STOP:
                return self.stack.pop()
            step = STEPS.get(code)
            if step is None:
                raise ExportError(
                    f"the pickle has instruction {code!r} at byte {self.at - 1}, which files of "
                    "torch.save have no use for"
                )
            step(self)

    def take(self, n: int) -> bytes:
        if n < 0 or self.at + n > len(self.data):
            raise ValueError("past the end")
        self.at += n
        return self.data[self.at - n : self.at]

    def number(self, form: str) -> int | float:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        end = self.data.index(b"\n", self.at)
        text = self.take(end - self.at).decode()
        self.at += 1
        return text

    def items(self) -> list:
        """What lies above the last mark, which goes."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def push(self, value: object) -> None:
        self.stack.append(value)

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def name(self, module: str, attribute: str) -> None:
        text = f"{module}.{attribute}"
        if text not in NAMES:
            raise ExportError(
                f"the pickle names {text}, which is no part of a tensor: refused, and nothing was "
                "executed"
            )
        self.push(Name(text, NAMES[text]))

    def name_of_stack(self) -> None:
        attribute, module = self.stack.pop(), self.stack.pop()
        self.name(module, attribute)

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(function) is not Name or type(arguments) is not tuple:
            raise ValueError("a call of what is not a name")
        self.push(function.make(arguments))

    def persistent(self) -> None:
        tag, kind, key, _location, count = self.stack.pop()
        if (
            tag != "storage"
            or kind.text not in STORAGES
            or type(key) is not str
            or not whole(count)
        ):
            raise ValueError("not a storage")
        dtype = STORAGES[kind.text]
        found, expected = self.size_of(key), count * torch.empty(0, dtype=dtype).element_size()
        if found != expected:
            raise ExportError(f"storage {key} has {found} bytes, expected {expected}")
        self.push(Storage(key, dtype, count, self.read))

    def append(self, items: list) -> None:
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        elif type(target) is not Inert:
            raise ValueError("items for what is not a list")

    def set_items(self, items: list) -> None:
        target = self.stack[-1]
        if type(target) is not Inert and type(target) is not dict:
            raise ValueError("items for what is not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Other keys (tuples in the state of a callback) are not needed, nor hashed.
            if type(target) is dict and type(key) in (str, int, float, bool):
                target[key] = value

    def build(self) -> None:
        self.stack.pop()  # attributes, such as _metadata of a state_dict: not needed
        if type(self.stack[-1]) not in (dict, Inert):
            raise ValueError("state for what has none")

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.push(self.memo[index])

    def text(self, form: str) -> None:
        self.push(self.take(self.number(form)).decode("utf-8", "surrogatepass"))

    def tuple_of(self, n: int) -> None:
        if len(self.stack) < n:
            raise ValueError("too little on the stack")
        self.stack[-n:] = [tuple(self.stack[-n:])]


STEPS: dict[bytes, Callable[[Machine], object]] = {
    pickle.PROTO: lambda m: m.take(1),
    pickle.FRAME: lambda m: m.take(8),
    pickle.MARK: Machine.mark,
    pickle.POP: lambda m: m.stack.pop(),
    pickle.NONE: lambda m: m.push(None),
    pickle.NEWTRUE: lambda m: m.push(True),
    pickle.NEWFALSE: lambda m: m.push(False),
    pickle.BININT: lambda m: m.push(m.number("<i")),
    pickle.BININT1: lambda m: m.push(m.number("<B")),
    pickle.BININT2: lambda m: m.push(m.number("<H")),
    pickle.LONG1: lambda m: m.push(int.from_bytes(m.take(m.number("<B")), "little", signed=True)),
    pickle.BINFLOAT: lambda m: m.push(m.number(">d")),
    pickle.BINUNICODE: lambda m: m.text("<I"),
    pickle.SHORT_BINUNICODE: lambda m: m.text("<B"),
    pickle.EMPTY_LIST: lambda m: m.push([]),
    pickle.EMPTY_DICT: lambda m: m.push({}),
    pickle.EMPTY_TUPLE: lambda m: m.push(()),
    pickle.TUPLE: lambda m: m.push(tuple(m.items())),
    pickle.TUPLE1: lambda m: m.tuple_of(1),
    pickle.TUPLE2: lambda m: m.tuple_of(2),
    pickle.TUPLE3: lambda m: m.tuple_of(3),
    pickle.APPEND: lambda m: m.append([m.stack.pop()]),
    pickle.APPENDS: lambda m: m.append(m.items()),
    pickle.SETITEM: lambda m: m.set_items([m.stack.pop(-2), m.stack.pop()]),
    pickle.SETITEMS: lambda m: m.set_items(m.items()),
    pickle.GLOBAL: lambda m: m.name(m.line(), m.line()),
    pickle.STACK_GLOBAL: Machine.name_of_stack,
    pickle.REDUCE: Machine.call,
    pickle.NEWOBJ: Machine.call,
    pickle.BUILD: Machine.build,
    pickle.BINPERSID: Machine.persistent,
    pickle.BINPUT: lambda m: m.put(m.number("<B")),
    pickle.LONG_BINPUT: lambda m: m.put(m.number("<I")),
    pickle.MEMOIZE: lambda m: m.put(len(m.memo)),
    pickle.BINGET: lambda m: m.get(m.number("<B")),
    pickle.LONG_BINGET: lambda m: m.get(m.number("<I")),
}
