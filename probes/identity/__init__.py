"""Which service a process belongs to, and how that is known."""
