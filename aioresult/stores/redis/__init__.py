"""Redis: redis-py opens connections; everything from the socket to the record is our own code, for speed."""

from aioresult.stores.redis.store import RedisStore

__all__ = ["RedisStore"]
