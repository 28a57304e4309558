"""Reading what Celery's workers store of an exception group: the ``repr`` of its members, and a traceback with them.

Both are parsed as text. The ``repr`` gives the arguments, unless a member's class defines its own ``repr``. The
traceback gives the modules and texts of the first fifteen members. A group that pickle cannot copy has no traceback.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Sequence
from keyword import iskeyword
from typing import Any, Final

from aioresult.codec.messages import exception_at_end, last_section

GROUPS: Final = frozenset({("builtins", "ExceptionGroup"), ("builtins", "BaseExceptionGroup")})
_MODULES: Final = {name: "builtins" for name, cls in vars(builtins).items() if isinstance(cls, type)}
"""The modules of exceptions whose module the traceback does not give."""
_MAX_REPR: Final = 2**16
_MAX_DEPTH: Final = 10
"""The depth to which Python prints the traceback of a group."""
_MAX_BRACKETS: Final = 40
_NAMED: Final = ("None", "True", "False")
_OPEN, _CLOSE = frozenset("([{"), frozenset(")]}")
_PARTS: Final = re.compile(
    r"""b?'(?:[^'\\]|\\.)*'|b?"(?:[^"\\]|\\.)*"  # texts and bytes
    |(?<![\w.)\]}'"])-?\d[\w.]*(?:(?<=e)[-+]\d+)?(?:[-+]\d[\w.]*j)?  # numbers
    |(?<![\w.])[^\W\d]\w*  # names
    |[\[\](){},:=\ ]""",
    re.DOTALL | re.VERBOSE,
)
_FIRST: Final = re.compile(r" *\+-\+-{16} 1 -{16}")
_NEXT: Final = re.compile(r" *\+-{16} \d+ -{16}")
_END: Final = re.compile(r" *\+(?:-{36}|-{16} \.{3} -{16})")
_COUNT: Final = re.compile(r" \(\d+ sub-exceptions?\)$")

Form = dict[str, Any]
"""Celery's form of an exception, with ``exc_members`` for those of a group."""


def members_of(shown: str, traceback: str | None) -> list[Form]:
    """Return the forms of a group's members that can be found in their ``repr`` and the traceback; perhaps none."""
    in_traceback = [] if traceback is None else _by_traceback(last_section(traceback).split("\n"), _MAX_DEPTH)
    return _merged(_by_repr(shown), in_traceback)


def _merged(listed: list[Form], in_traceback: Sequence[Form]) -> list[Form]:
    """Return the ``listed`` forms with the modules from the traceback; without a list, the forms in the traceback."""
    for form, other in zip(listed, in_traceback, strict=False):
        if other["exc_type"] == form["exc_type"]:
            form["exc_module"] = other["exc_module"]
            if "exc_members" in form:
                form["exc_members"] = _merged(form["exc_members"], other.get("exc_members", ()))
    return listed or list(in_traceback)


# -- by the repr ------------------------------------------------------------------------------------------------------


def _by_repr(shown: str) -> list[Form]:
    if len(shown) > _MAX_REPR or not _is_shallow(shown):
        return []
    try:
        return _listed(ast.parse(shown, mode="eval").body, shown, _MAX_DEPTH)
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # some repr is free text, such as pydantic's
        return []


def _is_shallow(shown: str) -> bool:
    """Return whether a text holds only names, literals and brackets, not nested deeply: Python's parser is recursive.

    The parser's limits suit the stack of a main thread. In a thread with a smaller stack, a text from the store could
    end the process.
    """
    depth = at = 0
    before = ""
    while at < len(shown):
        found = _PARTS.match(shown, at)
        if found is None:
            return False
        part, at = found[0], found.end()
        depth += (part in _OPEN) - (part in _CLOSE)
        if depth > _MAX_BRACKETS or (part in _OPEN and before in _CLOSE) or (iskeyword(part) and part not in _NAMED):
            return False
        before = part
    return True


def _listed(node: ast.expr, shown: str, depth: int) -> list[Form]:
    if not isinstance(node, (ast.List, ast.Tuple)):
        raise ValueError("not a list of exceptions")  # noqa: TRY004  (a malformed text, and not a caller's mistake)
    return [_called(item, shown, depth) for item in node.elts]


def _called(node: ast.expr, shown: str, depth: int) -> Form:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)) or node.keywords or not depth:
        raise ValueError("not an exception with arguments")
    name = node.func.id
    args = tuple(_value(arg, shown) for arg in node.args)
    form: Form = {"exc_type": name, "exc_module": _MODULES.get(name), "exc_message": args}
    if ("builtins", name) in GROUPS and len(node.args) == 2:
        form["exc_members"] = _listed(node.args[1], shown, depth - 1)
    return form


def _value(node: ast.expr, shown: str) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:  # not a literal: keep its repr
        return ast.get_source_segment(shown, node)


# -- by the traceback -------------------------------------------------------------------------------------------------


def _by_traceback(lines: Sequence[str], depth: int) -> list[Form]:
    """Return the members below the first headline in ``lines``, ``+-+---------------- 1 ----------------``."""
    first = next((at for at, line in enumerate(lines) if _FIRST.fullmatch(line)), None)
    if first is None or not depth:
        return []
    margin = lines[first].index("+") + 2  # the right end of "+-+" marks the margin of the members
    below = range(first + 1, len(lines))
    starts = [first, *(at for at in below if _NEXT.fullmatch(lines[at]) and lines[at].index("+") == margin)]
    end = next((at for at in below if _END.fullmatch(lines[at]) and lines[at].index("+") == margin), len(lines))
    limits = [*starts[1:], end]
    return [
        _under_headline(lines[start + 1 : limit], margin, depth) for start, limit in zip(starts, limits, strict=True)
    ]


def _under_headline(lines: Sequence[str], margin: int, depth: int) -> Form:
    own = "\n".join(line[margin + 2 :] for line in lines if line[margin : margin + 1] == "|")
    qualified, text = exception_at_end(own)
    module, _, name = qualified.rpartition(".")
    form: Form = {"exc_type": name, "exc_module": module or "builtins", "exc_message": (text,) if text else ()}
    if members := _by_traceback(lines, depth - 1):
        form["exc_message"] = (_COUNT.sub("", text), "")
        form["exc_members"] = members
    return form
