"""The floor: the same stores and wake-ups on the bare driver, with nothing around them."""
