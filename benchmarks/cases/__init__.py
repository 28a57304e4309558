"""The cases: what is measured, on which contestants, in which order."""
