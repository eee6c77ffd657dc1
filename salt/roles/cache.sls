include:
  - certificates
  - redis
