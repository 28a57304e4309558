"""The cases: what is measured, with which contestants, in which order."""
