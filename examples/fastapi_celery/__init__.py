"""A FastAPI application that awaits the results of an unmodified Celery worker, and streams their progress.

Start both with ``python -m examples.fastapi_celery`` and open http://127.0.0.1:8000.
"""
