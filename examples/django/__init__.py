"""A Django project whose pages follow tasks: ``python -m examples.django``, then open http://127.0.0.1:8000."""
