"""Redis: the hot path is owned from the socket to the record; redis-py connects."""

from aioresult.stores.redis.store import RedisStore

__all__ = ["RedisStore"]
