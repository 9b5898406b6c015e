"""Who is behind a translated address: the kernel's connection tracking (conntrack), followed."""
