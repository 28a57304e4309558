"""Results in SQL databases."""

from aioresult.stores.sqlalchemy.store import SQLStore

__all__ = ["SQLStore"]
