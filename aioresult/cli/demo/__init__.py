"""``aioresult demo``: two processes, real work, and the time from storing a result to waking its waiter."""
