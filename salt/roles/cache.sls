#!yaml
include:
  - certificates
  - redis
