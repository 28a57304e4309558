"""Integrations with other projects. Import the one that you need; its project has to be installed."""
