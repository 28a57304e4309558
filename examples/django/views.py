"""Django's half: a page, starting a task, and a view of one's own that streams events."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_POST

from aioresult import StoreUnavailable, StreamGap
from aioresult.integrations.asgi import InvalidCursor, events
from examples.django.results import backend, runner, started_by
from examples.django.telling import tell


@require_GET  # type: ignore[untyped-decorator]  # Django has no types
@ensure_csrf_cookie  # type: ignore[untyped-decorator]  # Django has no types
def page(request: HttpRequest) -> HttpResponse:
    return render(request, "page.html")


@require_POST  # type: ignore[untyped-decorator]  # Django has no types
async def start(request: HttpRequest) -> JsonResponse:
    """Start a task, and note in the session whose it is."""
    result = runner.submit(tell, float(request.GET.get("seconds", 0.3)))
    request.session["tasks"] = [*started_by(request.session)[-9:], result.id]
    return JsonResponse({"id": result.id}, status=202)


@require_GET  # type: ignore[untyped-decorator]  # Django has no types
async def task_events(request: HttpRequest, task_id: str) -> HttpResponseBase:
    """Do by a view what ``/results/<id>/events`` does without one."""
    if task_id not in started_by(request.session):
        return HttpResponse(status=404)
    try:
        stream = events(backend.AsyncResult(task_id), request.headers.get("Last-Event-ID"))
        await stream.check()
    except (InvalidCursor, StreamGap, StoreUnavailable) as exc:
        status = {InvalidCursor: 400, StreamGap: 410}.get(type(exc), 503)
        return HttpResponse(status=status)
    if stream.over:
        return HttpResponse(status=204)
    headers = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
    return StreamingHttpResponse(stream, content_type="text/event-stream", headers=headers)
