"""What is done with several hosts at once, or one after the other: who, in which order, and when a host is ready."""
