"""``mongodb://``: Celery's documents in MongoDB, watched by one change stream."""

from aioresult.stores.mongodb.store import MongoStore

__all__ = ["MongoStore"]
