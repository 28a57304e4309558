"""A page that asks and sees the answer arrive, word by word: ``python -m examples.chat``, then open
http://127.0.0.1:8000.
"""
