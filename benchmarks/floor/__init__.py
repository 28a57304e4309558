"""The floor: the same stores and wake-ups on the bare driver, without any library."""
