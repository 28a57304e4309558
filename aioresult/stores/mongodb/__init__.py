"""``mongodb://``: Celery's documents in MongoDB, waited for by one change stream."""

from aioresult.stores.mongodb.store import MongoStore

__all__ = ["MongoStore"]
