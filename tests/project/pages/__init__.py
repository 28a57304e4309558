"""The pages of the documentation as programs: ``python -m tests.project.pages docs/howto/streams.md`` runs one.

What is written in a page, and what becomes of it:

- Blocks of ``python`` run in order, in one process and one namespace for each page, in an empty folder. ``await`` may
  stand outside of functions; all of a page's such blocks share one event loop. Such a block can be typed line by line:
  an indented part has an empty line behind it, and none within.
- The comment after a ``print(...)`` is what it prints. A block of ``text`` right after one of ``python`` is all that it
  prints.
- In a block of ``console``, lines that begin with ``$`` are commands for bash; what is below a command is its output.
  A command has to succeed, or to show its code by ``; echo $?``. In the tests ``aioresult``, ``celery`` and
  ``uvicorn`` are forked from the process that pages are forked from.
- In outputs ``...`` stands for any text in a line, a line of it for any lines; numbers before ms and s, dates, UUIDs
  and versions of three numbers stand for any of their kind.

Comments before a block, which nobody sees on the page, change what becomes of it: ``<!-- no test: the reason -->``;
``<!-- file: tasks.py -->`` saves it; ``<!-- keeps running -->`` starts its command, waits for the output that is shown
and ends it with the page. ``<!-- run`` and ``<!-- file: tasks.py`` with code up to ``-->`` are hidden blocks.
"""
