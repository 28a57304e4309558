"""Values and records to bytes and back, in Celery's formats."""

from aioresult.codec.codec import Codec

__all__ = ["Codec"]
