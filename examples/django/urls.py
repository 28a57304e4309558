"""Which view answers what."""

from __future__ import annotations

from django.urls import path

from examples.django import views

urlpatterns = [
    path("", views.page),
    path("start", views.start),
    path("tasks/<str:task_id>/events", views.task_events),
]
