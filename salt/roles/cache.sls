include:
  - redis
