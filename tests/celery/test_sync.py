"""Code written for ``celery.result`` gets from ``aioresult.sync`` what Celery's own classes give it."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from typing import Any

import celery.result
import pytest
from celery import Celery

import aioresult
from aioresult import sync
from aioresult.integrations.celery import backend_from_app
from tests.celery.workers import application
from tests.servers import RedisServer


@pytest.fixture
def app(celery_redis: RedisServer) -> Iterator[Celery]:
    with application(broker="memory://", backend=celery_redis.url) as app:
        yield app


@pytest.fixture
def backend(app: Celery) -> Iterator[sync.Backend]:
    with sync.Backend(backend_from_app(app)) as backend:
        yield backend


# --- what a set says of its members -----------------------------------------------------------------------------------

QUESTIONS = ["ready", "successful", "failed", "waiting", "completed_count", "__len__", "__bool__"]
STATES = ["PENDING", "STARTED", "SUCCESS", "FAILURE", "REVOKED"]


def test_a_set_answers_as_celerys_whatever_its_members_and_their_states(app: Celery, backend: sync.Backend) -> None:
    ids = {(state, number): str(uuid.uuid4()) for state in STATES for number in range(3)}
    for (state, number), task_id in ids.items():
        value = ValueError(state) if state in aioresult.EXCEPTION_STATES else number
        if state != "PENDING":
            app.backend.store_result(task_id, value, state)
    theirs = {key: app.AsyncResult(task_id) for key, task_id in ids.items()}
    ours = {key: backend.AsyncResult(task_id) for key, task_id in ids.items()}

    def group(module: Any, known: dict[tuple[str, int], Any], states: tuple[str, ...], **extra: Any) -> Any:
        first, second, third = (known[state, number] for number, state in enumerate(states))
        inner = module.GroupResult("inner", [second, third], **extra)
        return module.GroupResult("outer", [first, inner, module.GroupResult("empty", [], **extra)], **extra)

    for states in itertools.product(STATES, repeat=3):
        expected = group(celery.result, theirs, states, app=app)
        found = group(sync, ours, states, backend=backend)
        answers = {name: getattr(found, name)() for name in QUESTIONS}
        assert answers == {name: getattr(expected, name)() for name in QUESTIONS}, states
