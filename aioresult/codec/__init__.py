"""Values and records to bytes and back, in Celery's formats."""

from aioresult.codec.codec import Codec
from aioresult.codec.exceptions import register_exception

__all__ = ["Codec", "register_exception"]
