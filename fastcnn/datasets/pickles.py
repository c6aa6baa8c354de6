"""Read the pickles of CIFAR-10 without running them.

A pickle is a program for a small stack machine, and Python's own machine calls whatever the program
names. Even with its look-up of names restricted, nine bytes make it take 8 GB (measured on Python
3.11: ``LONG_BINPUT`` with a large index, ``BINBYTES8`` with a large length). So this is a machine
of its own: it knows only the instructions below, builds only arrays, lists, dictionaries, tuples,
strings and numbers, and calls nothing, not even NumPy's constructors: it reads their arguments.

The instructions are those of ``pickletools``, protocols 2 (CIFAR-10's own files) to 5.
"""

import pickle
import struct
from collections.abc import Callable
from typing import Any

from .pickled_arrays import Name, PickledArray, PickledType, known_name, made

# instruction -> form of its argument (struct): the argument is a number
NUMBERED = {
    pickle.BININT: "<i",
    pickle.BININT1: "<B",
    pickle.BININT2: "<H",
    pickle.BINFLOAT: ">d",
    pickle.PROTO: "<B",
    pickle.FRAME: "<Q",
    pickle.BINPUT: "<B",
    pickle.LONG_BINPUT: "<I",
    pickle.BINGET: "<B",
    pickle.LONG_BINGET: "<I",
}
# instruction -> form of the length in front of its argument, and what the bytes mean.
# Python 2 wrote its strings as BINSTRING: they stay bytes, as with pickle's encoding="bytes".
COUNTED: dict[bytes, tuple[str, Callable[[bytes], Any]]] = {
    pickle.SHORT_BINSTRING: ("<B", bytes),
    pickle.BINSTRING: ("<i", bytes),
    pickle.SHORT_BINBYTES: ("<B", bytes),
    pickle.BINBYTES: ("<I", bytes),
    pickle.BINBYTES8: ("<Q", bytes),
    pickle.BYTEARRAY8: ("<Q", bytes),
    pickle.SHORT_BINUNICODE: ("<B", lambda text: text.decode("utf-8")),
    pickle.BINUNICODE: ("<I", lambda text: text.decode("utf-8")),
    pickle.BINUNICODE8: ("<Q", lambda text: text.decode("utf-8")),
    pickle.LONG1: ("<B", lambda digits: int.from_bytes(digits, "little", signed=True)),
}
# A batch has three to five instructions for each image of 3,072 bytes (label, file name, their
# places in the memo) and some fifty besides. A list takes 65 bytes of memory for one byte of
# instruction, a dictionary 73 (measured), so that without a limit a file could fill memory.
BYTES_PER_INSTRUCTION = 100
FREE_INSTRUCTIONS = 1000

CONSTANTS = {pickle.NONE: None, pickle.NEWTRUE: True, pickle.NEWFALSE: False}
SHORT_TUPLES = {pickle.EMPTY_TUPLE: 0, pickle.TUPLE1: 1, pickle.TUPLE2: 2, pickle.TUPLE3: 3}


def read_pickle(content: bytes) -> object:
    """Return what a pickle of plain containers, strings, numbers and arrays holds.

    Arrays come out as `PickledArray`, whose ``value`` is read-only; keys of dictionaries are str
    or bytes; what Python 2 wrote as str is bytes.

    Raises
    ------
    ValueError
        If it uses anything else, or is damaged. Nothing in it is executed.
    """
    return Machine(content).run()


class Machine:
    """The stack, the marks on it and the memo, over the bytes of one pickle."""

    def __init__(self, content: bytes) -> None:
        self.content = memoryview(content)
        self.at = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.encoded = 0

    def run(self) -> object:
        for _ in range(FREE_INSTRUCTIONS + len(self.content) // BYTES_PER_INSTRUCTION):
            start = self.at
            try:
                code = bytes(self.take(1))
                if code == pickle.STOP:
                    return self.pop(object)
                self.step(code)
            except ValueError as err:
                raise ValueError(f"pickle, byte {start}: {err}") from None
        raise ValueError(f"pickle, byte {self.at}: more instructions than any batch of images has")

    def step(self, code: bytes) -> None:
        """Do one instruction."""
        if code in NUMBERED:
            self.with_number(code, self.unpack(NUMBERED[code]))
        elif code in COUNTED:
            form, meaning = COUNTED[code]
            self.stack.append(meaning(bytes(self.take(self.unpack(form)))))
        elif code in CONSTANTS:
            self.stack.append(CONSTANTS[code])
        elif code in SHORT_TUPLES:
            self.stack.append(tuple(self.pop_from(len(self.stack) - SHORT_TUPLES[code])))
        elif code == pickle.MARK:
            self.marks.append(len(self.stack))
        elif code == pickle.TUPLE:
            self.stack.append(tuple(self.pop_marked()))
        elif code == pickle.EMPTY_LIST:
            self.stack.append([])
        elif code == pickle.EMPTY_DICT:
            self.stack.append({})
        elif code == pickle.APPEND:
            self.extend(self.pop_from(len(self.stack) - 1))
        elif code == pickle.APPENDS:
            self.extend(self.pop_marked())
        elif code == pickle.SETITEM:
            self.set_items(self.pop_from(len(self.stack) - 2))
        elif code == pickle.SETITEMS:
            self.set_items(self.pop_marked())
        elif code == pickle.MEMOIZE:
            self.memo[len(self.memo)] = self.top(object)
        elif code == pickle.GLOBAL:
            self.stack.append(known_name(self.line(), self.line()))
        elif code == pickle.STACK_GLOBAL:
            attribute, module = self.pop(str), self.pop(str)
            self.stack.append(known_name(module, attribute))
        elif code == pickle.REDUCE:
            arguments, name = self.pop(tuple), self.pop(Name)
            self.stack.append(
                self.encode(arguments) if name is Name.ENCODE else made(name, arguments)
            )
        elif code == pickle.BUILD:
            state = self.pop(tuple)
            self.top(PickledArray | PickledType).set_state(state)
        else:
            raise ValueError(f"instruction {code!r} is not one that CIFAR-10's files use; refused")

    def with_number(self, code: bytes, number: Any) -> None:
        if code in (pickle.BINPUT, pickle.LONG_BINPUT):
            self.memo[number] = self.top(object)
        elif code in (pickle.BINGET, pickle.LONG_BINGET):
            if number not in self.memo:
                raise ValueError(f"nothing was remembered under {number}")
            self.stack.append(self.memo[number])
        elif code == pickle.PROTO:
            if not 2 <= number <= pickle.HIGHEST_PROTOCOL:
                raise ValueError(f"protocol {number}, expected 2 to {pickle.HIGHEST_PROTOCOL}")
        elif code != pickle.FRAME:  # a frame's length only helps readers that buffer
            self.stack.append(number)

    def encode(self, arguments: tuple[Any, ...]) -> bytes:
        match arguments:
            case (str() as text, "latin1"):
                # One text may be called for many times; a writer does so once.
                self.encoded += len(text)
                if self.encoded > len(self.content):
                    raise ValueError("more text is encoded than the file holds")
                return text.encode("latin-1")
        raise ValueError("the arguments of _codecs.encode are not those of bytes")

    def take(self, count: int) -> memoryview:
        if not 0 <= count <= len(self.content) - self.at:
            raise ValueError(
                f"{count} bytes are needed at byte {self.at}, "
                f"{len(self.content) - self.at} are left"
            )
        self.at += count
        return self.content[self.at - count : self.at]

    def unpack(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        # No name that is accepted is longer.
        found = bytes(self.content[self.at : self.at + 100]).partition(b"\n")
        if not found[1]:
            raise ValueError("a global name does not end")
        self.take(len(found[0]) + 1)
        return found[0].decode("utf-8")

    def floor(self) -> int:
        """Where the part of the stack begins that instructions may touch: after the last mark."""
        return self.marks[-1] if self.marks else 0

    def top(self, kind: Any) -> Any:
        if len(self.stack) <= self.floor():
            raise ValueError("the stack is empty")
        if not isinstance(self.stack[-1], kind):
            raise ValueError(f"unexpected {type(self.stack[-1]).__name__} on the stack")
        return self.stack[-1]

    def pop(self, kind: Any) -> Any:
        value = self.top(kind)
        del self.stack[-1]
        return value

    def pop_from(self, start: int) -> list[Any]:
        if start < self.floor():
            raise ValueError("the stack is empty")
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def pop_marked(self) -> list[Any]:
        if not self.marks:
            raise ValueError("there is no mark on the stack")
        values = self.pop_from(self.floor())
        self.marks.pop()
        return values

    def extend(self, values: list[Any]) -> None:
        self.top(list).extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self.top(dict)
        if len(values) % 2:
            raise ValueError("a key has no value")
        for key, value in zip(values[::2], values[1::2], strict=True):
            # Hashing a deeply nested tuple overflows the interpreter's own stack.
            if not isinstance(key, str | bytes):
                raise ValueError(f"a key of a dictionary is a {type(key).__name__}, not a string")
            target[key] = value
