"""Bridges to other projects; each is imported by whoever needs it, and needs that project installed."""
