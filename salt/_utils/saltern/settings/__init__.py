"""Settings: what the pillar says of each formula, its schema, its defaults, and what is wrong with it."""
