#!yaml
include:
  - redis.install
  - redis.config
  - redis.service
