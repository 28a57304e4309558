"""An interpreter of pickles, for the opcodes that picklers write for plain data since protocol 2.

It knows no classes: a global is only a ``Name``, and the caller decides what calling a name or setting a state does.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

import msgspec

_MAX_KEY_PARTS: Final = 1000
"""Tuples are hashed recursively and may share their parts: hashing one of few pickled bytes could take for ever."""


_PYTHON_2: Final = {"__builtin__": "builtins", "exceptions": "builtins", "xrange": "range"}
"""Names of Python 2, which protocol 2 writes."""


class PickleError(ValueError):
    """Raised for a pickle that is broken or holds more than plain data."""


class Name(msgspec.Struct, frozen=True):
    """A global that a pickle refers to; it is not looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Foreign(msgspec.Struct, eq=False):
    """Stands for an object of a class that is not plain data."""

    name: Name
    args: tuple[Any, ...]

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Machine:
    """Runs one pickle.

    Args:
        call: returns the result of calling a name with arguments, by ``REDUCE`` or as a new object.
        update: sets the state of an object, and returns it or another one in its place.
    """

    def __init__(
        self, data: bytes, call: Callable[[Name, tuple[Any, ...]], Any], update: Callable[[Any, Any], Any]
    ) -> None:
        self.data = data
        self.position = 0
        self.call = call
        self.update = update
        self.stack: list[Any] = []
        self.outer_stacks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.memo_index: dict[int, int] = {}
        self.used_names = False

    def run(self) -> Any:
        """Return the pickled value.

        Raises:
            PickleError: it is broken, or needs an opcode that plain data does not.
        """
        data, size = self.data, len(self.data)
        try:
            while self.position < size:
                opcode = data[self.position]
                self.position += 1
                if opcode == _STOP:
                    return self.stack.pop()
                action = _ACTIONS.get(opcode)
                if action is None:
                    raise PickleError(f"it uses the pickle opcode {chr(opcode)!r}, which plain data does not need")
                action(self)
            raise PickleError("its pickle is truncated")
        except PickleError:
            raise
        except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError, struct.error) as exc:
            raise PickleError(f"its pickle is broken ({type(exc).__name__} at byte {self.position})") from exc

    def take(self, size: int) -> bytes:
        """Return the next bytes of the pickle."""
        start, end = self.position, self.position + size
        if end > len(self.data):
            raise PickleError("its pickle is truncated")
        self.position = end
        return self.data[start:end]

    def number(self, size: int, *, signed: bool = False) -> int:
        """Return the next integer, little-endian."""
        return int.from_bytes(self.take(size), "little", signed=signed)

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def open(self) -> None:
        """Start a new stack, which ``close`` returns as a whole."""
        self.outer_stacks.append(self.stack)
        self.stack = []

    def close(self) -> list[Any]:
        """Return what was put on the stack since ``open``."""
        items, self.stack = self.stack, self.outer_stacks.pop()
        return items

    def last(self, count: int) -> tuple[Any, ...]:
        """Take the last values of the stack, as a tuple."""
        if len(self.stack) < count:
            raise PickleError("its pickle is broken (empty stack)")
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        return items

    def remember(self, index: int) -> None:
        """Keep the top of the stack for later reference."""
        self.memo[index] = self.stack[-1]
        if isinstance(self.stack[-1], Foreign):
            self.memo_index[id(self.stack[-1])] = index

    def name(self, module: Any, name: Any) -> None:
        """Put a global's name on the stack."""
        if not (isinstance(module, str) and isinstance(name, str)):
            raise PickleError("its pickle is broken (a global without a name)")
        self.used_names = True
        self.push(Name(_PYTHON_2.get(module, module), _PYTHON_2.get(name, name)))

    def reduce(self, args: Any) -> None:
        """Replace the name on top by the result of calling it."""
        target = self.stack.pop()
        if not (isinstance(target, Name) and isinstance(args, tuple)):
            raise PickleError("its pickle calls something that is not a global")
        self.push(self.call(target, args))

    def build(self) -> None:
        """Set the state of the object below it."""
        target, state = self.last(2)
        made = self.update(target, state)
        index = self.memo_index.pop(id(target), None)
        if index is not None:
            self.memo[index] = made
        self.push(made)

    def line(self) -> str:
        """Return the next line of text."""
        end = self.data.index(b"\n", self.position)
        text = self.data[self.position : end].decode()
        self.position = end + 1
        return text


def checked_key(value: Any) -> Any:
    """Return a dict key or a set's member, if it can be hashed in bounded time."""
    if type(value) is tuple:
        parts, rest = 0, [value]
        while rest:
            for part in rest.pop():
                parts += 1
                if type(part) is tuple:
                    rest.append(part)
            if parts > _MAX_KEY_PARTS:
                raise PickleError("it holds a dict key of too many parts")
    return value


def _set_items(machine: Machine, items: list[Any] | tuple[Any, ...]) -> None:
    target = machine.stack[-1]
    if isinstance(target, Foreign):
        return
    if not isinstance(target, dict) or len(items) % 2:
        raise PickleError("its pickle is broken (items for something that is not a dict)")
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[checked_key(key)] = value


def _append(machine: Machine, items: list[Any] | tuple[Any, ...]) -> None:
    target = machine.stack[-1]
    if not isinstance(target, Foreign):
        target.extend(items)


def _add(machine: Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    target.update(map(checked_key, items))


def _text(size: int) -> Callable[[Machine], None]:
    return lambda m: m.push(m.take(m.number(size)).decode("utf-8", "surrogatepass"))


def _bytes(size: int) -> Callable[[Machine], None]:
    return lambda m: m.push(m.take(m.number(size)))


def _long(size: int) -> Callable[[Machine], None]:
    return lambda m: m.push(int.from_bytes(m.take(m.number(size)), "little", signed=True))


def _call_with_keywords(machine: Machine) -> None:
    args, keywords = machine.last(2)
    machine.reduce(args if not keywords else (*args, keywords))


_BY_OPCODE: Final[dict[bytes, Callable[[Machine], Any]]] = {
    b"\x80": lambda m: m.take(1),  # PROTO
    b"\x95": lambda m: m.take(8),  # FRAME
    b"(": Machine.open,  # MARK
    b"0": lambda m: m.stack.pop(),  # POP
    b"1": Machine.close,  # POP_MARK
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"J": lambda m: m.push(m.number(4, signed=True)),  # BININT
    b"K": lambda m: m.push(m.number(1)),  # BININT1
    b"M": lambda m: m.push(m.number(2)),  # BININT2
    b"\x8a": _long(1),
    b"\x8b": _long(4),
    b"G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),  # BINFLOAT
    b"\x8c": _text(1),
    b"X": _text(4),
    b"\x8d": _text(8),
    b"C": _bytes(1),
    b"B": _bytes(4),
    b"\x8e": _bytes(8),
    b"\x96": lambda m: m.push(bytearray(m.take(m.number(8)))),
    b")": lambda m: m.push(()),
    b"\x85": lambda m: m.push(m.last(1)),
    b"\x86": lambda m: m.push(m.last(2)),
    b"\x87": lambda m: m.push(m.last(3)),
    b"t": lambda m: m.push(tuple(m.close())),
    b"]": lambda m: m.push([]),
    b"a": lambda m: _append(m, m.last(1)),
    b"e": lambda m: _append(m, m.close()),
    b"}": lambda m: m.push({}),
    b"s": lambda m: _set_items(m, m.last(2)),
    b"u": lambda m: _set_items(m, m.close()),
    b"\x8f": lambda m: m.push(set()),
    b"\x90": lambda m: _add(m, m.close()),
    b"\x91": lambda m: m.push(frozenset(map(checked_key, m.close()))),
    b"\x94": lambda m: m.remember(len(m.memo)),  # MEMOIZE
    b"q": lambda m: m.remember(m.number(1)),  # BINPUT
    b"r": lambda m: m.remember(m.number(4)),  # LONG_BINPUT
    b"h": lambda m: m.push(m.memo[m.number(1)]),  # BINGET
    b"j": lambda m: m.push(m.memo[m.number(4)]),  # LONG_BINGET
    b"c": lambda m: m.name(m.line(), m.line()),  # GLOBAL
    b"\x93": lambda m: m.name(*m.last(2)),  # STACK_GLOBAL
    b"R": lambda m: m.reduce(m.stack.pop()),  # REDUCE
    b"\x81": lambda m: m.reduce(m.stack.pop()),  # NEWOBJ
    b"\x92": _call_with_keywords,  # NEWOBJ_EX
    b"b": Machine.build,  # BUILD
}
_ACTIONS: Final = {ord(opcode): action for opcode, action in _BY_OPCODE.items()}
_STOP: Final = ord(".")
